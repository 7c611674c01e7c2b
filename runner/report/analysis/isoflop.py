"""Trials of equal compute budgets, by what is compared: the axis `compute` of a grid."""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass

from runner.report.analysis.trials import Group, Trial
from runner.scaling import isoflop
from runner.scaling.isoflop import IsoFlop, Point

COMPUTE = "training.length.flops"


@dataclass(frozen=True)
class IsoFlopSeries:
    """Valleys of one horizon and group, its compute axis apart."""

    horizon: int | None
    group: Group
    fit: IsoFlop


def series(trials: tuple[Trial, ...]) -> tuple[IsoFlopSeries, ...]:
    """One for each horizon and group with several compute budgets; collapsed trials say nothing about a size."""
    points: dict[tuple[int, Group], list[Point]] = defaultdict(list)
    for trial in trials:
        compute = _compute(trial)
        usable = trial.status == "finished" and not trial.unsound and trial.n_params and trial.val_loss.value
        if compute is not None and usable:
            axes = tuple((name, value) for name, value in trial.group.axes if name != COMPUTE)
            group = dataclasses.replace(trial.group, axes=axes)
            points[trial.horizon or 0, group].append(Point(compute, trial.n_params or 0, trial.val_loss.value or 0.0))
    return tuple(
        IsoFlopSeries(horizon, group, isoflop.fit(of))
        for (horizon, group), of in sorted(points.items(), key=lambda item: item[0])
    )


def _compute(trial: Trial) -> float | None:
    """The budget as asked, in floating-point operations; a ledger has it as it was written, such as ``1e13``."""
    given = dict(trial.group.axes).get(COMPUTE)
    try:
        return None if given is None else float(given)
    except ValueError:  # a rule of the size
        return None
