"""How sure the verdicts of a run are together: several horizons, tiers and models are several tests.

Holm (1979): the smallest p counts times all comparisons, the next times all but one, and so on, none below one before
it. Comparisons are those that the ledger holds over the run's whole life, also of grids that were given up: what was
looked at and left out would have been shown had it come out well.
"""

from collections.abc import Mapping, Sequence

from runner.rundir import comparable
from runner.rundir.ledger import LedgerView
from runner.scaling.noise import LEVEL

_NO_COMPARISON = ("budget", "horizon", "task.horizon", "seed", "training.seed", "data_fraction", comparable.FRACTION)


def looked_at(view: LedgerView) -> int:
    """Series of comparable trials with two sizes or more that have ever finished in this run."""
    sizes: dict[tuple[str, str, str], set[int | None]] = {}
    for state in view.cells.values():
        labels: Mapping[str, object] = state.cell.labels
        searched = labels.get("role") == "searched"  # its winner is compared, not it
        if state.cell.cell_kind == "model" and state.status == "finished" and not searched:
            axes = labels.get("axes")
            known = {k: v for k, v in axes.items() if k not in _NO_COMPARISON} if isinstance(axes, dict) else {}
            identity = comparable.identity(state.cell.spec, (comparable.FRACTION,))
            place = (identity, str((labels.get("horizon"), labels.get("model"))), repr(sorted(known.items())))
            sizes.setdefault(place, set()).add(state.cell.n_params)
    return sum(len(found) > 1 for found in sizes.values())


def holm(values: Sequence[float | None], comparisons: int) -> list[float | None]:
    """Adjusted p values, in the order given; comparisons without one count as 1."""
    known = sorted((value, number) for number, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (value, number) in enumerate(known):
        largest = max(largest, min(1.0, (max(comparisons, len(values)) - rank) * value))
        adjusted[number] = largest
    return adjusted


def words(p: float, adjusted: float, comparisons: int, starts: int) -> str:
    """What a reader needs to know of one comparison among several."""
    of = f"{comparisons} comparison{'' if comparisons == 1 else 's'}"
    shown = (
        f"p = {p:.2g}, by Holm {adjusted:.2g} for the {of} in this run's ledger ({starts} start{'s' * (starts != 1)})"
    )
    if p < LEVEL <= adjusted:
        shown += f": not below {LEVEL:g} for all of them together"
    return shown
