"""A page as Markdown and as one self-contained HTML file."""

import base64
import hashlib
import re
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from runner.report.analysis.specs import Link
from runner.report.page import Page
from runner.report.tables import ReportTable

_LOADER = PackageLoader("runner.report", "templates")
# Punctuation that Markdown, or GitHub's dialect of it, could take for markup: backslashes where these work, character
# references where a renderer might see HTML, a link, a mention or a formula first.
_MARKDOWN_ESCAPES = str.maketrans(
    {char: f"\\{char}" for char in "\\`*_[]~|#"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "$": "&#36;"}
)
# What would open a list, a rule or an underlined heading at the start of a line.
_BLOCK_START = re.compile(r"^(?:([-+=])(?=[\s=-]|$)|(\d+)([.)])(?=\s|$))")
# HTML as renderers without fenced blocks would see it in one; what Python's tracebacks hold is none.
_TAG = re.compile(r"<(?!(?:module|lambda|string|stdin|locals|genexpr|\w+comp|frozen [\w.]+)>)[A-Za-z/!?]")
_URL_CHARACTERS = ":/?#[]@!$&'*+,;=%~"
_LINK = re.compile(r"(?<=[A-Za-z]):(?=//)|(?<=www)\.", re.IGNORECASE)


class Markdown(str):
    """Text that is Markdown already."""


def html(page: Page) -> str:
    """The whole report as one HTML document: styles, script and figures inside, nothing fetched."""
    environment = Environment(
        loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    styles, script = _source("report.css"), _source("report.js")
    pictures = {plot.name: base64.b64encode(plot.png.svg.encode()).decode() for plot in page.figures}
    return environment.get_template("report.html.j2").render(
        page=page,
        styles=Markup(styles),
        styles_sha256=_digest(styles),
        script=Markup(script),
        script_sha256=_digest(script),
        pictures=pictures,
    )


def markdown(page: Page, figures_folder: str) -> str:
    """The same report as Markdown with tables (GitHub's dialect); figures are linked from a folder next to it."""
    environment = Environment(
        loader=_LOADER, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )  # autoescape is for HTML; here `finalize` sees every expression instead
    environment.filters.update(table=_table, fence=markdown_block, code=markdown_code, runs=_runs, raw=Markdown)
    text = environment.get_template("report.md.j2").render(page=page, figures=Markdown(figures_folder))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def markdown_text(text: str) -> str:
    """Text on one line that Markdown shows as it is, in a table cell, too."""
    escaped = " ".join(text.split()).translate(_MARKDOWN_ESCAPES)
    escaped = _LINK.sub(lambda match: f"&#{ord(match[0])};", escaped)
    return _BLOCK_START.sub(lambda match: f"\\{match[1]}" if match[1] else f"{match[2]}\\{match[3]}", escaped)


def markdown_code(text: str) -> Markdown:
    """Text as a code span; empty text gives nothing, as an empty span is no span. Text with HTML in it is escaped."""
    flat = " ".join(text.split()).replace("|", "\\|")
    if not flat:
        return Markdown("")
    if _TAG.search(flat):
        return Markdown(markdown_text(text))
    fence = "`" * (_longest_ticks(flat) + 1)
    pad = " " if flat[0] == "`" or flat[-1] == "`" else ""
    return Markdown(f"{fence}{pad}{flat}{pad}{fence}")


def _digest(source: str) -> str:
    """What a content security policy knows an inline source by."""
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _runs(links: tuple[Link, ...]) -> Markdown:
    """A trial's runs in trackers, with an address where there is one."""
    shown = []
    for link in links:
        text = f"{link.tracker} {markdown_code(link.run)}"
        # quoted, nothing in an address can end the link or the table cell
        shown.append(f"[{text}](<{quote(link.url, safe=_URL_CHARACTERS)}>)" if link.url else text)
    return Markdown(", ".join(shown))


def _table(table: ReportTable) -> Markdown:
    kinds = [column.kind for column in table.columns]
    cell = {"code": markdown_code, "key": markdown_code, "text": markdown_text, "number": markdown_text}
    rows = [
        [markdown_text(column.name) for column in table.columns],
        ["---:" if kind == "number" else "---" for kind in kinds],
        *([cell[kind](text) for kind, text in zip(kinds, row, strict=True)] for row in table.rows),
    ]
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in rows))


def markdown_block(lines: tuple[str, ...], language: str) -> Markdown:
    """Lines as a fenced block; with HTML in them, as escaped lines of text."""
    if any(map(_TAG.search, lines)):
        return Markdown("\\\n".join(_indented(line) for line in lines))
    ticks = "`" * max(3, *(_longest_ticks(line) + 1 for line in lines)) if lines else "```"
    return Markdown("\n".join([f"{ticks}{language}", *lines, ticks]))


def _indented(line: str) -> str:
    text = line.lstrip(" ")
    return (len(line) - len(text)) * "&nbsp;" + markdown_text(text)


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _finalize(value: object) -> str:
    return str(value) if isinstance(value, Markdown) else markdown_text(str(value))


def _source(name: str) -> str:
    source, _, _ = _LOADER.get_source(Environment(), name)
    return source
