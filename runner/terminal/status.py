"""Progress of a run, on a terminal."""

from typing import Any

from rich.table import Table

from runner.rundir.ledger import FINAL
from runner.terminal.console import Console


def show(status: dict[str, Any], console: Console) -> None:
    """Print a status for people."""
    counts = ", ".join(f"{count} {name}" for name, count in status["counts"].items())
    code = "" if status["exit_code"] is None else f", exit code {status['exit_code']}"
    table = Table(title=f"{status['run']}: {status['state']}{code}; {counts}")
    for name in ("key", "cell", "status"):
        table.add_column(name)
    for name in ("attempts", "epoch", "step", "best validation loss", "skill"):
        table.add_column(name, justify="right")
    table.add_column("remarks")
    for cell in status["cells"]:
        if cell["role"] == "searched" and cell["status"] in FINAL:
            continue  # as many as there are trials of a search; the table of the studies has their sum
        table.add_row(
            *(str(cell[name]) for name in ("key", "name", "status", "attempts", "epoch", "step")),
            "-" if cell["best_val_loss"] is None else f"{cell['best_val_loss']:.4f}",
            "-" if cell["skill"] is None else f"{cell['skill']:+.4f}",
            "collapsed" if cell["collapsed"] else cell["reason"],
        )
    console.print(table)
    if status["studies"]:
        show_studies(status["studies"], console)


def show_studies(found: list[dict[str, Any]], console: Console) -> None:
    """Print the best of each study so far."""
    table = Table(title="studies")
    for name in ("study", "trials", "best", "number", "values"):
        table.add_column(name)
    for study in found:
        best = "-" if study["best"] is None else f"{study['best']:.4f}"
        values = ", ".join(f"{key}={value}" for key, value in (study["best_values"] or {}).items())
        row = (f"{study['suggested']}/{study['trials']}", best, str(study["best_number"]), values)
        table.add_row(study["study"], *row)
    console.print(table)
