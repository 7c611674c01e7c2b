"""The HTML report in a real browser: opened from a file, read on a desk and a phone, sorted, filtered, printed dark."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.report.build import ReportFiles
from runner.rundir.paths import RunPaths
from tests.browser import BROWSER, Page

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: install chromium to run this")
TABLE = "[aria-label='All trials'] table"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def column(page: Page, name: str) -> list[str]:
    """The visible cells of a column of the trials' table, from top to bottom."""
    return page.run(
        f'(() => {{ const table = document.querySelector("{TABLE}");'
        f"const index = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === '{name}');"
        "return [...table.tBodies[0].rows].filter(row => row.offsetHeight > 0)"
        ".map(row => row.cells[index].textContent); })()"
    )


def header(page: Page, name: str) -> str:
    """A selector of a column's header."""
    index = page.run(
        f"[...document.querySelector(\"{TABLE}\").tHead.rows[0].cells].findIndex(c => c.textContent === '{name}')"
    )
    assert index >= 0
    return f"{TABLE} th:nth-child({index + 1})"


@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_from_a_file_without_console_errors(
    hard: tuple[RunPaths, ReportFiles], page: Page, dark: bool
) -> None:
    page.console.clear()
    page.open(hard[1].html, dark=dark)
    assert page.console == []
    assert page.run("document.title") == "Isotherm report: hard"
    seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    assert (np.median(seen) < 100) == dark  # the paper
    assert seen.std() > 10  # something stands on it


def test_a_script_that_is_not_the_reports_own_is_refused(
    hard: tuple[RunPaths, ReportFiles], page: Page, tmp_path: Path
) -> None:
    """What makes the absence of console errors worth something: the policy works and its refusals are seen."""
    source = hard[1].html.read_text(encoding="utf-8")
    (tmp_path / "copy.html").write_text(source.replace("</main>", "<script>document.title = 'evil'</script></main>"))
    page.console.clear()
    page.open(tmp_path / "copy.html")
    assert page.run("document.title") == "Isotherm report: hard"
    assert any("Content Security Policy" in message for message in page.console)


@pytest.mark.parametrize("width_px", [390, 1280])
def test_figures_load_and_only_tables_and_figures_scroll_sideways(
    hard: tuple[RunPaths, ReportFiles], page: Page, width_px: int
) -> None:
    page.open(hard[1].html, width_px=width_px)
    assert page.run("document.documentElement.scrollWidth") <= width_px
    names = page.run("[...document.images].filter(i => i.complete && i.naturalWidth > 350).map(i => i.alt)")
    assert len(names) == page.run("document.images.length") == len(hard[1].figures) == 7
    assert all(len(name) > 20 for name in names)


def test_the_answer_and_a_figure_in_the_readers_theme_are_on_the_first_screen_of_a_phone(
    hard: tuple[RunPaths, ReportFiles], page: Page
) -> None:
    figure = "document.querySelector('.first img').getBoundingClientRect()"
    papers = {}
    for dark in (False, True):
        page.open(hard[1].html, width_px=390, height_px=900, dark=dark)
        left, top, right, bottom = (page.run(f"{figure}.{side}") for side in ("left", "top", "right", "bottom"))
        assert 0 < left < right < 390, "all of it is seen"
        assert 0 < top < bottom < 900
        assert page.run("document.querySelector('.verdict').textContent").startswith("Loss with size: ")
        seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
        papers[dark] = np.median(seen[int(top) : int(bottom), int(left) : int(right)])
    assert papers[False] > 200
    assert papers[True] < 60


def test_every_link_inside_leads_somewhere(hard: tuple[RunPaths, ReportFiles], page: Page) -> None:
    page.open(hard[1].html)
    assert page.run("document.querySelectorAll('a[href^=\"#\"]').length") > 40
    broken = "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.querySelector(a.hash))"
    assert page.run(f"{broken}.map(a => a.hash)") == []


def test_a_click_on_a_header_sorts_by_number_up_then_down_then_not(
    hard: tuple[RunPaths, ReportFiles], page: Page
) -> None:
    page.open(hard[1].html)
    before = column(page, "parameters")
    place = header(page, "parameters")
    numbers = sorted(int(text.replace(",", "")) for text in before)
    assert [int(text.replace(",", "")) for text in before] != numbers
    states = []
    for expected in (numbers, numbers[::-1]):
        page.click(f"{place} button")
        states.append(page.run(f'document.querySelector("{place}").getAttribute("aria-sort")'))
        assert [int(text.replace(",", "")) for text in column(page, "parameters")] == expected
    page.click(f"{place} button")
    assert states == ["ascending", "descending"]
    assert page.run(f'document.querySelector("{place}").getAttribute("aria-sort")') is None
    assert column(page, "parameters") == before


@pytest.mark.parametrize("name", ["training time", "skill (%) [95 %]"])
def test_times_and_signed_numbers_sort_by_value_and_the_unknown_stay_last(
    hard: tuple[RunPaths, ReportFiles], page: Page, name: str
) -> None:
    page.open(hard[1].html)
    page.click(f"{header(page, name)} button")
    page.click(f"{header(page, name)} button")
    shown = column(page, name)
    known = [text for text in shown if text != "\N{EN DASH}"]
    assert shown == known + ["\N{EN DASH}"] * (len(shown) - len(known))
    values = [value(text) for text in known]
    assert len(set(values)) > 3
    assert values == sorted(values, reverse=True)


def value(text: str) -> float:
    spans = re.findall(r"([\d.]+) (min|s|h)", text)
    if spans:
        return sum(float(number) * {"s": 1, "min": 60, "h": 3600}[unit] for number, unit in spans)
    return float(text.split(" ")[0].replace("\N{MINUS SIGN}", "-"))


def test_headers_sort_from_the_keyboard(hard: tuple[RunPaths, ReportFiles], page: Page) -> None:
    page.open(hard[1].html)
    place = header(page, "seed")
    page.run(f'document.querySelector("{place} button").focus()')
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert column(page, "seed") == sorted(column(page, "seed"))
    assert page.run(f'document.querySelector("{place}").getAttribute("aria-sort")') == "ascending"


def test_a_filter_keeps_the_rows_that_hold_all_its_words(hard: tuple[RunPaths, ReportFiles], page: Page) -> None:
    page.open(hard[1].html)
    field = "label.filter:has(+ [aria-label='All trials']) input"
    total = len(column(page, "trial"))
    page.type(field, "Finished 200k-H5")
    assert sorted(column(page, "trial")) == ["200k-h5-s0", "200k-h5-s1", "200k-h5-s2"]
    label = page.run(f'document.querySelector("{field}").parentElement.textContent')
    assert label.startswith("Filter 'All trials'")
    assert label.endswith(f"3 of {total} rows")
    page.click(f"{header(page, 'seed')} button")
    assert column(page, "seed") == ["0", "1", "2"]
    page.type(field, "(.*")
    assert column(page, "trial") == []
    page.type(field, " ")
    assert len(column(page, "trial")) == total


def test_a_key_opens_its_specification(hard: tuple[RunPaths, ReportFiles], page: Page) -> None:
    page.open(hard[1].html)
    key = column(page, "key")[4]
    assert not page.run(f"document.getElementById('spec-{key}').open")
    page.click(f"{TABLE} a[href='#spec-{key}']")
    assert page.run("new Promise(done => setTimeout(done, 50))") is None
    assert page.run(f"document.getElementById('spec-{key}').open")
    assert "task.horizon = 1" in page.run(f"document.getElementById('spec-{key}').innerText")


def test_without_the_script_everything_is_there(hard: tuple[RunPaths, ReportFiles], page: Page) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(hard[1].html)
        assert page.run(f'document.querySelector("{TABLE}").tBodies[0].rows.length') > 40
        assert page.run("document.querySelectorAll('button, input').length") == 0
    finally:
        page.send("Emulation.setScriptExecutionDisabled", value=False)
