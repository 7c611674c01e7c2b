"""Text from a user or a run directory reaches the terminal as it is."""

import io
import json
from pathlib import Path

import pytest
from rich.table import Table

from runner.cli import main
from runner.terminal.console import Console, visible

HOSTILE = (
    "[/data/x]",
    "[bold]",
    "[link=http://x]y[/link]",
    ":smile:",
    "[red",
    "a\\[b]",
    "\x1b[2J\x1b]0;title\x07",
    "\udcff",
)


def drawn(*renderables: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system=None)
    for one in renderables:
        console.print(one)
    return out.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_printed_as_it_is(text: str) -> None:
    table = Table("name", text, title=text)
    table.add_row("value", text)
    shown = drawn(text, table)
    assert shown.count(visible(text)) == 4
    assert "\x1b" not in shown.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[3m", "")


def test_what_would_act_on_the_terminal_is_written_out() -> None:
    assert visible("\x1b[2J\x07\r\x9b") == r"\x1b[2J\x07\x0d\x9b"
    assert visible("a\tb\nc \N{LATIN SMALL LETTER E WITH ACUTE}") == "a\tb\nc \N{LATIN SMALL LETTER E WITH ACUTE}"
    assert visible("\udcff") == r"\udcff"


def test_a_style_is_given_apart_from_the_text() -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="standard").print("[x]", style="red")
    assert out.getvalue() == "\x1b[31m[x]\x1b[0m\n"


@pytest.mark.parametrize("text", HOSTILE[:-1])
def test_status_of_a_run_with_such_text(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    key = "0123456789ab"
    cell = {"name": text, "cell_kind": "model", "labels": {}, "n_params": 1, "n_params_non_embedding": 1}
    records = [
        {"kind": "sweep_started", "run": text, "keys": [key], "config": {}, "code_version": "1", "versions": {}},
        {"kind": "cell", "key": key, **cell, "sizes": {}, "spec": {}},
        {"kind": "ended", "key": key, "attempt": 1, "status": "failed", "reason": text, "result": {}},
    ]
    run = folder / "runs" / "mine"
    run.mkdir(parents=True)
    lines = [{"v": 1, "seq": n, "time": "2026-01-01T00:00:00Z", **one} for n, one in enumerate(records)]
    (run / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr("sys.argv", ["isotherm", "status", "mine"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr()
    assert visible(text) in capsys.readouterr().out
