"""The table of a plan: one row per budget with ranges, or one per cell."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

from runner.planning import checks, execution
from runner.terminal.console import Console

if TYPE_CHECKING:
    from runner.planning.grid import Cell
    from runner.planning.plan import Plan

SHOWN_VALUES = 3  # of what has no order; further ones are counted
_STATES = ("new", "resumable", "done", "infeasible")
_NUMBERS = ("parameters", "off", "width\nx depth", "lr", "steps", "micro\nx accum.", "memory", "time", "windows",
            "effective\nvalidation")  # fmt: skip
# On a narrow terminal, in this order.
_DISPENSABLE = ("off", "lr", "windows", "width\nx depth", "micro\nx accum.", "effective\nvalidation", "memory", "time")


def plan_table(plan: "Plan", width: int, *, cells: bool = False) -> Table:
    """The grid of a plan.

    Args:
        plan: to be shown.
        width: of the terminal, in characters. Where the table is wider, columns are left out, which its caption says.
        cells: one row for each cell, in place of one for each budget of each model.
    """
    device = plan.grid.device
    cores = "GPU(s)" if device.kind == "cuda" else "cores"
    title = (
        f"{plan.paths.name}: {checks.plural(len(plan.grid.cells), 'cell')} on {device.count} {cores} ({device.name})"
    )
    groups = [[cell] for cell in plan.grid.cells] if cells else _budgets(plan.grid.cells)
    models = not cells and len({cell.spec.model.name for cell in plan.grid.cells}) > 1
    names = ("key", "cell", "state") if cells else ("budget", *(("model",) if models else ()), "cells")
    rows = [
        (*(_named(group[0], plan) if cells else _counted(group, plan, models=models)), *_numbers(group))
        for group in groups
    ]
    lengths = {(cell.spec.training.epochs, cell.spec.training.steps) for cell in plan.grid.cells}
    same = [] if len(lengths) > 1 or any(steps for _, steps in lengths) else ["steps"]
    left_out: list[str] = []
    while (table := _table(title, names, rows, [*same, *left_out])) and _width(table) > width:
        if len(left_out) == len(_DISPENSABLE):
            break
        left_out.append(_DISPENSABLE[len(left_out)])
    if left_out:
        table.caption = f"left out, as {width} columns are too few: {', '.join(' '.join(n.split()) for n in left_out)}"
    return table


def _table(title: str, names: tuple[str, ...], rows: Sequence[tuple[str, ...]], left_out: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.collapse_padding = True
    columns = (*names, *_NUMBERS)
    shown = [place for place, name in enumerate(columns) if name not in left_out]
    for place in shown:
        table.add_column(columns[place], justify="left" if place < len(names) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    return table


def _width(table: Table) -> int:
    """The width at which no cell of the table wraps."""
    console = Console(width=10_000)
    return console.measure(table).maximum


def axes_line(cells: Sequence["Cell"]) -> str:
    """The other axes of a grid with their values, such as ``each with horizon 1, 5; seed 0, 1, 2``."""
    names = ("horizon", "tier", "timescale", "data_fraction", "seed")
    labels = [{**{name: cell.labels.get(name) for name in names}, **cell.axes} for cell in cells]
    values = {name: list(dict.fromkeys(str(one.get(name)) for one in labels)) for name in (labels[0] if labels else ())}
    varied = [f"{name.replace('_', ' ')} {', '.join(found)}" for name, found in values.items() if len(found) > 1]
    return f"each with {'; '.join(varied)}" if varied else ""


def duration(seconds: float) -> str:
    """A forecast in the unit that suits it: ``40 s``, ``12 min``, ``8.5 h``, ``4.6 d``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 60 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def _budgets(cells: Iterable["Cell"]) -> list[list["Cell"]]:
    def place(cell: "Cell") -> tuple[str, int, str]:
        return cell.spec.model.name, cell.target, str(cell.labels["budget"])

    return [list(group) for _, group in groupby(sorted(cells, key=place), key=place)]


def _named(cell: "Cell", plan: "Plan") -> tuple[str, ...]:
    return cell.key, cell.name, plan.states[cell.key]


def _counted(group: list["Cell"], plan: "Plan", *, models: bool) -> tuple[str, ...]:
    counts = Counter(str(plan.states[cell.key]) for cell in group)
    states = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    return str(group[0].labels["budget"]), *((group[0].spec.model.name,) if models else ()), states


def _numbers(group: list["Cell"]) -> tuple[str, ...]:
    feasible = [cell for cell in group if not cell.infeasible]
    needed = [
        *(cell.record.measured.peak_bytes for cell in feasible if cell.record.measured),
        *(cell.decision.needed_bytes for cell in group if cell.infeasible and cell.decision),
    ]
    seconds = [seconds for cell in feasible if (seconds := execution.trial_seconds(cell)) is not None]
    return (
        _range((cell.counts.total for cell in group), lambda n: f"{n:,}"),
        _range((100 * (cell.counts.total / cell.target - 1) for cell in group), lambda off: f"{off:+.2f} %"),
        _distinct(_size(cell.spec.model.shape) for cell in group),
        _range((cell.spec.training.lr for cell in group), lambda lr: f"{lr:.2e}"),
        _range((cell.spec.training.total_steps(cell.sizes["n_train"] or 1) for cell in group), lambda n: f"{n:,}"),
        _distinct(_micro_batch(cell) for cell in feasible),
        _range((value for value in needed if value is not None), lambda value: decimal(int(value))),
        _range(seconds, duration),
        _range(_known(cell.sizes["n_train"] for cell in group), lambda n: f"{n:,}"),
        _range(_known(cell.sizes["n_val_effective"] for cell in group), lambda n: f"{n:,}"),
    )


def _range(values: Iterable[float], text: Callable[[Any], str]) -> str:
    """``132 to 665``; one value where both ends read alike, a dash without any."""
    known = list(values)
    if not known:
        return "-"
    low, high = text(min(known)), text(max(known))
    return low if low == high else f"{low} to {high}"


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _distinct(values: Iterable[str]) -> str:
    known = list(dict.fromkeys(values))
    more = len(known) - SHOWN_VALUES
    return ", ".join(known[:SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "") or "-"


def _micro_batch(cell: "Cell") -> str:
    """Micro-batch and accumulation."""
    record = cell.record
    marks = (", ckpt" if record.activation_checkpointing else "") if record.measured else ", not measured"
    if record.devices > 1:
        marks += f", {'sharded ' if record.sharded else ''}over {record.devices} devices"
    return f"{record.micro_batch} x {record.accumulation}{marks}"


def _size(shape: dict[str, Any]) -> str:
    """Width and depth, as far as the model has them."""
    return " x ".join(str(shape[name]) for name in ("width", "depth") if name in shape) or "-"
