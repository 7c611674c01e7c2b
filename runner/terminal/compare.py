"""A comparison of runs on a terminal."""

from collections.abc import Callable, Sequence
from itertools import groupby

from rich.table import Table

from runner.report.analysis.across import RunDifference
from runner.report.analysis.compare import NOT_COMPARABLE, ComparedCell, Comparison, ComparisonQuestion
from runner.report.wording import NONE, count, estimate, number
from runner.terminal.console import Console

_TEXT = ("group", "size", "where", "split", "metric", "says")


def show(comparison: Comparison, console: Console) -> None:
    """Verdicts, losses and skill by size, differences."""
    for side in comparison.sides:
        partial = "" if side.complete else " (partial)"
        console.print(
            f"{side.name}: {side.ended} of {side.cells} cells have ended{partial}", style="bold", markup=False
        )
        for one in side.verdicts:
            console.print(f"  {one['sentence']}", highlight=False, markup=False)
        if not side.verdicts:
            console.print("  no verdict: no trial has finished")
    if not comparison.comparable:
        console.print(f"\n{NOT_COMPARABLE}", style="bold", highlight=False)
    for question in comparison.questions:
        asked = f"data {question.data_sha256[:12]}, splits {question.splits}, task {question.task}"
        console.print(f"\n{asked}", highlight=False, markup=False)
        console.print(_table("validation loss (nats) [95 %]", question, _loss))
        console.print(_table("test loss (nats)", question, lambda cell: number(cell.test_loss, 4)))
        console.print(
            _table("skill (%) [95 %]", question, lambda cell: estimate(cell.skill, 1, signed=True, scale=100))
        )
    _show_paired(comparison.paired, console)
    console.print()
    names = [side.name for side in comparison.sides]
    differences = [(what, *(values[name] for name in names)) for what, values in comparison.differences]
    console.print(
        _grid("what differs", ["what", *names], differences, numbers=False) if differences else "no difference"
    )


def _show_paired(paired: Sequence[RunDifference], console: Console) -> None:
    for (first, second), known in groupby(paired, key=lambda one: (one.first, one.second)):
        found = list(known)
        rows = [
            (
                one.place,
                one.size,
                one.split,
                one.metric,
                estimate(one.value, 4, signed=True),
                count(one.windows),
                one.says,
            )
            for one in found
            if one.value.value is not None
        ]
        console.print()
        if rows:
            title = f"{first} less {second}: paired differences [95 %, all sizes of a metric together]"
            columns = ["where", "size", "split", "metric", "difference", "windows", "says"]
            console.print(_grid(title, columns, rows, numbers=True))
        for one in found:
            if one.value.value is None:
                where = ", ".join(filter(None, (one.place, one.split)))
                place = f" at {where}" if where else ""
                console.print(
                    f"{first} and {second} cannot be paired{place}: {one.says}", highlight=False, markup=False
                )


def _loss(cell: ComparedCell) -> str:
    seeds = f" x{cell.trials}" if cell.trials > 1 else ""
    return estimate(cell.val_loss, 4) + seeds


def _table(title: str, question: ComparisonQuestion, text: Callable[[ComparedCell], str]) -> Table:
    grouped = any(row.group for row in question.rows)
    rows = [
        (
            count(row.horizon),
            *((row.group,) if grouped else ()),
            row.size,
            *(text(row.cells[name]) if name in row.cells else NONE for name in question.runs),
        )
        for row in question.rows
    ]
    return _grid(title, ["horizon", *(("group",) if grouped else ()), "size", *question.runs], rows, numbers=True)


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        words = name in _TEXT or not numbers
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
