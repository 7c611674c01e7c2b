"""Escaping: whatever stands in data or configs is shown, never obeyed."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from runner.report import page
from runner.report.analysis.collect import collect
from runner.report.analysis.trials import clean
from runner.report.build import ReportFiles
from runner.report.render import html, markdown, markdown_block, markdown_code, markdown_text
from runner.rundir.paths import RunPaths

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXT = st.text(max_size=40).map(clean) | st.text("|`\\*_[]()<>#-+=1.)~!&;:/@$ a\n", max_size=25).map(clean)


class Tags(HTMLParser):
    """Start tags with attributes, and all text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(source: str) -> tuple[list[str], str]:
    """Block structure of Markdown, and the text a reader sees."""
    tokens = MARKDOWN.parse(source)
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline} <= {"text", "code_inline", "text_special", "hardbreak"}, inline
    return [token.type for token in tokens], "".join(child.content for child in inline)


@settings(deadline=None, max_examples=80)
@given(TEXT)
@example("1. a")
@example("- - -")
@example("a \\| b")
@example("https://x.y/z www.x.y @me $x$ &amp; &#65;")
def test_any_text_is_one_plain_list_item(text: str) -> None:
    flat = " ".join(text.split())
    blocks, seen = shown(f"- {markdown_text(text)}\n")
    assert seen == flat
    if flat:
        assert blocks == [
            "bullet_list_open", "list_item_open", "paragraph_open", "inline", "paragraph_close", "list_item_close",
            "bullet_list_close",
        ]  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(TEXT, TEXT)
@example("a|b", "`|``")
@example("\\", "\\|")
def test_any_text_stays_in_its_table_cell(text: str, code: str) -> None:
    row = f"| x {markdown_text(text)} | {markdown_code(code)} | end |"
    blocks, seen = shown(f"| a | b | c |\n| --- | --- | --- |\n{row}\n")
    assert blocks.count("td_open") == 3
    assert seen == "abc" + " ".join(f"x {text}".split()) + " ".join(code.split()) + "end"


def test_no_format_holds_html_of_a_user(hard: tuple[RunPaths, ReportFiles]) -> None:
    """Renderers differ in what they know of fenced blocks and code spans; none of them may see a tag."""
    assert "<script" not in hard[1].markdown.read_text(encoding="utf-8")
    for text in ("<script>", "</td>", "<!-- x", "<?php", "<IMG src=x onerror=y>", "<module onclick=x>"):
        assert "<" not in markdown_code(f"a {text} b")
        fenced = markdown_block(("    before", f"    {text}"), "text")
        assert "<" not in fenced
        assert shown(fenced)[1].replace("\N{NO-BREAK SPACE}", " ") == f"    before    {text}"


def test_pythons_tracebacks_stay_in_a_block() -> None:
    lines = ('  File "<string>", line 1, in <module>', "  in f.<locals>.<lambda>", "<frozen importlib._bootstrap>")
    assert markdown_block(lines, "text") == "\n".join(["```text", *lines, "```"])


def test_links_and_mentions_of_other_dialects_are_defused() -> None:
    escaped = markdown_text("see https://evil.example, WWW.evil.example and @someone for $x$")
    assert "://" not in escaped
    assert "WWW." not in escaped
    assert "@" not in escaped
    assert "$" not in escaped


def test_html_holds_nothing_that_acts_or_fetches(hard: tuple[RunPaths, ReportFiles]) -> None:
    document = hard[1].html.read_text(encoding="utf-8")
    parsed = Tags(document)
    names = {tag for tag, _ in parsed.tags}
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not names & {"iframe", "object", "embed", "link", "form", "base", "svg", "b"}
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        if tag == "img":
            picture = base64.b64decode(attributes["src"].removeprefix("data:image/svg+xml;base64,")).decode()
            assert "</svg>" in picture
            assert "<script" not in picture
            assert attributes["alt"]
        if tag == "a":
            assert attributes["href"].startswith("#")
    assert "url(" not in document
    assert "@import" not in document


def test_html_has_a_policy_that_allows_its_own_styles_and_script_alone(hard: tuple[RunPaths, ReportFiles]) -> None:
    document = hard[1].html.read_text(encoding="utf-8")
    digests = {}
    for tag in ("style", "script"):
        (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        digests[tag] = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Tags(document).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digests['style']}'",
        f"script-src 'sha256-{digests['script']}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_odd_names_are_readable_in_both_formats(hard: tuple[RunPaths, ReportFiles], run) -> None:
    name = " ".join(clean(run.evil).split())
    texts = Tags(hard[1].html.read_text(encoding="utf-8")).texts
    assert any(name == text.strip() for text in texts)
    source = hard[1].markdown.read_text(encoding="utf-8")
    tokens = [child for token in MARKDOWN.parse(source) for child in token.children or []]
    seen = "".join(token.content for token in tokens)
    assert name in seen
    assert not {token.type for token in tokens} & {"html_inline", "link_open", "em_open"}
    assert "html_block" not in {token.type for token in MARKDOWN.parse(source)}


@pytest.mark.parametrize("which", ["quickstart", "hard"])
def test_both_formats_say_the_same(which: str, request: pytest.FixtureRequest) -> None:
    paths, report = request.getfixturevalue(which)
    content = page.make(collect(paths), ())
    texts = {" ".join(text.split()) for text in Tags(report.html.read_text(encoding="utf-8")).texts}
    tokens = MARKDOWN.parse(report.markdown.read_text(encoding="utf-8"))
    lines = {"".join(child.content for child in token.children) for token in tokens if token.children}
    tables = (content.data, content.splits, content.trials, content.events)
    sentences = [
        *content.summary,
        *content.how_to_read,
        content.reproduce,
        *(finding.meaning for finding in content.findings),
        *(line for finding in content.findings for line in finding.lines),
        *(cell for table in tables for row in table.rows for cell in row),
        *filter(None, [content.notice, content.events_note]),
    ]
    for sentence in filter(None, (" ".join(sentence.split()) for sentence in sentences)):
        assert sentence in texts
        assert sentence in lines


def test_rendering_is_pure(quickstart: tuple[RunPaths, ReportFiles]) -> None:
    content = page.make(collect(quickstart[0]), ())
    assert html(content) == html(content)
    assert markdown(content, "figures") == markdown(content, "figures")
    assert "None yet: no trial has a loss." in html(content)
