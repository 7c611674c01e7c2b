"""From the facts of a grid's data sets and tasks to findings, at the levels that the block `gates` sets."""

from collections.abc import Iterator, Sequence

from runner.config.gates import GatesSpec
from runner.planning.checks import CheckFinding, plural
from runner.planning.data_rules import RULES, Breach, Rule, shortfall
from runner.planning.grid import Cell

_EFFECTIVE_FIX = "use a shorter horizon or context, more bars or assets over a longer time, or a larger split"
_SELECTION_FIX = (
    ", or another data.splits.selection; or training.judged_epoch: last and no early_stopping, which choose nothing"
)
_NAMED = 4  # places in one message


def check(cells: Sequence[Cell], spec: GatesSpec) -> list[CheckFinding]:
    """All findings on the data of a grid; one per check, of the place where it is worst."""
    return [*_infeasible(cells, spec), *_rules(cells, spec)]


def _infeasible(cells: Sequence[Cell], spec: GatesSpec) -> Iterator[CheckFinding]:
    """Cells that the splits cannot decide. They are never run; where none remains the sweep stops in any case."""
    refused = [cell for cell in cells if cell.infeasible and not cell.short_of_memory]
    nothing_left = len(refused) == len(cells)
    if spec.effective_samples == "off" and not nothing_left:
        return
    for reason in dict.fromkeys(cell.infeasible for cell in refused):
        affected = [cell for cell in refused if cell.infeasible == reason]
        short = shortfall(affected[0].facts, spec.limits)
        yield CheckFinding(
            gate="effective samples",
            level="error" if nothing_left or spec.effective_samples == "error" else "warn",
            number=short.number if short else 0,
            limit=short.limit if short else 1,
            message=f"{plural(len(affected), 'cell')} of {len(cells)} infeasible: {reason}",
            fix=_EFFECTIVE_FIX + (_SELECTION_FIX if "selection" in affected[0].facts.splits else ""),
        )


def _rules(cells: Sequence[Cell], spec: GatesSpec) -> Iterator[CheckFinding]:
    places = {id(cell.facts): cell for cell in cells if not cell.infeasible or cell.short_of_memory}
    for rule in RULES:
        level = getattr(spec, rule.key)
        found = [
            (cell, breach) for cell in places.values() if (breach := rule.find(cell.facts, spec.limits)) is not None
        ]
        if found and level != "off":
            yield _finding(rule, level, found, list(places.values()))


def _finding(rule: Rule, level: str, found: list[tuple[Cell, Breach]], places: list[Cell]) -> CheckFinding:
    cell, worst = max(found, key=lambda item: item[1].excess)
    message = worst.message
    if where := _where(cell, places):
        others = [_where(other, places) for other, _ in found if other is not cell]
        named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
        message += f"; at {where}" + (f", where it is worst; likewise at {named}" if others else "")
    accept = f"; gates.{rule.key}: warn lets it pass" if level == "error" else ""
    return CheckFinding(
        gate=rule.name,
        level="error" if level == "error" else "warn",
        number=worst.number,
        limit=worst.limit,
        message=message,
        fix=rule.fix + accept,
    )


def _where(cell: Cell, places: list[Cell]) -> str:
    """What tells a data set and task from the others of the grid."""
    labels = {"horizon": "task.horizon", "tier": "data.tier", "timescale": "data.timescale"}
    labels["data_fraction"] = "data.fraction"
    shown = [
        f"{name.replace('_', ' ')} {cell.labels[name]}"
        for name in labels
        if len({place.labels[name] for place in places}) > 1
    ]
    shown += [
        f"{axis} {value}"
        for axis, value in cell.axes.items()
        if axis.startswith(("data.", "task."))
        and axis not in labels.values()
        and len({str(place.axes.get(axis)) for place in places}) > 1
    ]
    return ", ".join(shown)
