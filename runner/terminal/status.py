"""Progress of a run, on a terminal."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.table import Table

from runner.rundir.ledger import FINAL
from runner.terminal.console import Console

GOING = ("running", "paused", "stopping")
WATCH_S = 2.0
_ADVICE = {
    "killed": "it was killed: run the sweep again to resume it",
    "paused": "isotherm continue {run} lets it go on",
    "stopping": "its trials save, then it ends",
}


def show(status: dict[str, Any], console: Console) -> None:
    """Print a status for people."""
    console.print(drawn(status))


def watch(collect: Callable[[], dict[str, Any]], console: Console) -> None:
    """Draw the status again and again, with the cells that run alone, until the sweep ends or Ctrl-C."""
    with Live(console=console, auto_refresh=False) as live:
        try:
            while (status := collect())["state"] in GOING:
                live.update(drawn(status, running=True), refresh=True)
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return
        live.update(drawn(status), refresh=True)
    if not console.is_terminal:
        console.print()  # Rich ends the last line of a terminal alone


def drawn(status: dict[str, Any], *, running: bool = False) -> Group:
    """A status, with all cells or with those that run."""
    parts: list[Any] = [_headline(status)]
    parts += [" ".join(one) for one in [_temperatures(status)] if one]
    cells = _shown(status, running=running)
    parts += [_cells(cells), *_remarks(cells)]
    if status["studies"]:
        parts.append(_studies(status["studies"]))
    return Group(*parts)


def _headline(status: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in status["counts"].items())
    code = "" if status["exit_code"] is None else f", exit code {status['exit_code']}"
    eta = status["eta_seconds"]
    left = "" if eta is None else f"; about {timedelta(seconds=round(eta))} left"
    advice = _ADVICE.get(status["state"], "").format(run=status["run"])
    return f"{status['run']}: {status['state']}{code}; {counts}{left}" + (f"\n{advice}" if advice else "")


def _temperatures(status: dict[str, Any]) -> list[str]:
    return [
        f"{one['device']} {one['celsius']:.0f} C ({one['state']}, {one['age_seconds']:.0f} s ago)"
        for one in status.get("temperatures", ())
    ]


def _cells(cells: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("key", "cell", "status"):
        table.add_column(name, overflow="fold")
    for name in ("attempts", "epoch", "step", "best validation\nloss", "skill"):
        table.add_column(name, justify="right")
    for cell in cells:
        total = f" of {cell['total_steps']}" if cell["total_steps"] else ""
        table.add_row(
            *(str(cell[name]) for name in ("key", "name", "status", "attempts", "epoch")),
            f"{cell['step']}{total}",
            "-" if cell["best_val_loss"] is None else f"{cell['best_val_loss']:.4f}",
            "-" if cell["skill"] is None else f"{cell['skill']:+.4f}",
        )
    return table


def _shown(status: dict[str, Any], *, running: bool) -> list[dict[str, Any]]:
    """The cells of the table. Searched trials that are over are too many; the table of the studies has their sum."""
    return [
        cell
        for cell in status["cells"]
        if (cell["status"] == "running" if running else cell["role"] != "searched" or cell["status"] not in FINAL)
    ]


def _remarks(cells: list[dict[str, Any]]) -> list[str]:
    remarks = {cell["name"]: "collapsed" if cell["collapsed"] else cell["reason"] for cell in cells}
    return [f"{name}: {remark}" for name, remark in remarks.items() if remark]


def _studies(found: list[dict[str, Any]]) -> Table:
    """The best of each study so far."""
    table = Table(title="studies", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("study", "trials", "best", "key", "values"):
        table.add_column(name, overflow="fold")
    for study in found:
        best = "-" if study["best"] is None else f"{study['best']:.4f}"
        values = ", ".join(f"{key}={value}" for key, value in (study["best_values"] or {}).items())
        row = (f"{study['suggested']}/{study['trials']}", best, study["best_key"] or "-", values)
        table.add_row(study["study"], *row)
    return table
