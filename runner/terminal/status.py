"""Progress of a run, on a terminal."""

from typing import Any

from rich.table import Table

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
        table.add_row(
            *(str(cell[name]) for name in ("key", "name", "status", "attempts", "epoch", "step")),
            "-" if cell["best_val_loss"] is None else f"{cell['best_val_loss']:.4f}",
            "-" if cell["skill"] is None else f"{cell['skill']:+.4f}",
            "collapsed" if cell["collapsed"] else cell["reason"],
        )
    console.print(table)
