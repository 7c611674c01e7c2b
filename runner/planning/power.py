"""The power of a plan: for each series of comparable cells, the smallest change of loss that it could detect.

The error by the sampling of the validation period is that of a paired difference of losses under resampled blocks: of
this run's largest and smallest size where both have finished trials, else of the two baselines `linear` and
`boosted_trees`, fitted here. They differ about as much as two sizes of a model do (``docs/fits.md``). The labels of
test are not used: its error is that of validation, scaled by the number of windows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runner.planning.checks import CheckFinding, plural
from runner.planning.grid import Cell
from runner.planning.plan import Plan
from runner.planning.validation_noise import PAIR, Blocks, ValidationNoise
from runner.rundir import comparable, ledger
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import DATA
from runner.scaling.direction import FLAT_SHARE
from runner.scaling.power import PROBABILITY, Grid

SPREAD = 0.005  # of the loss, between seeds: those of the quickstart differ by 0.3 to 1 % (benchmarks/false_laws.py)
OF_INTEREST = 0.02  # share of the prior's loss: twice the margin of 'flat'
FOLD = "data.splits.fold"
_APART = (comparable.FRACTION, FOLD)


@dataclass(frozen=True)
class SeriesPower:
    """What one series can detect.

    Attributes:
        place: which series, in words.
        horizon: bars ahead.
        grid: sizes, seeds and noise; changes and deviations are shares of the prior's loss.
        basis: what the noise was taken from, in words.
        assets: how many are in the data, and how many would detect 1 %; None where that cannot be said.
    """

    place: str
    horizon: int
    grid: Grid
    basis: str
    assets: tuple[int, int | None]

    @property
    def detectable(self) -> float | None:
        """The smallest change, as a share of the prior's loss."""
        return self.grid.detectable()

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        grid = self.grid
        return {
            "place": self.place,
            "horizon": self.horizon,
            "detectable": self.detectable,
            "probability": PROBABILITY,
            "possible": list(grid.possible()),
            "flat_probability": grid.flat(),
            "for_1_percent": {
                "seeds": grid.seeds_for(),
                "folds": grid.folds_for(),
                "windows": grid.windows_for(),
                "assets": self.assets[1],
            },
            "noise": {**asdict(grid), "basis": self.basis},
        }

    def words(self) -> str:
        """One sentence."""
        found, grid = self.detectable, self.grid
        if found is None:
            return f"{self.place}: no change is detected, whatever its size: 2 sizes and 2 seeds of each are needed"
        verdicts = ", ".join(grid.possible())
        return (
            f"{self.place}: a change from the smallest to the largest size is detected with {100 * PROBABILITY:.0f} % "
            f"from {_percent(found)} of the prior's loss on; possible: {verdicts}; {self._for_one_percent()}"
        )

    def _for_one_percent(self) -> str:
        grid, (have, assets) = self.grid, self.assets
        seeds, folds, windows = grid.seeds_for(), grid.folds_for(), grid.windows_for()
        ways = [plural(seeds, "seed")] if seeds else []
        ways += [f"{windows:.1f} times the windows over as much more time"] if windows else []
        ways += [plural(folds, "fold") + " of this length"] if folds else []
        ways += [f"{assets} assets that move as these {have} do"] if assets else []
        if (self.detectable or math.inf) <= FLAT_SHARE:
            return "1 % is detected"
        joined = " or ".join(ways) or "none of seeds, windows, assets and folds alone"
        return f"{_percent(FLAT_SHARE)} would take {joined}"


def of_plan(
    plan: Plan, *, data_root: Path = DATA, cache: Path | None = None, spread: float | None = None
) -> tuple[SeriesPower, ...]:
    """The power of every series of a plan's grid, by ascending horizon.

    Args:
        plan: with its cells.
        data_root: folder of the datasets.
        cache: the user's folder; what the two baselines gave is kept there.
        spread: deviation between seeds as a share of the loss; None takes that of the run's ledger, else `SPREAD`.

    Raises:
        DataError: a dataset's bytes have changed since the plan.
    """
    noise = ValidationNoise(plan.paths, ledger.read(plan.paths.ledger), data_root, cache)
    series: dict[tuple[str, ...], list[Cell]] = {}
    for cell in plan.grid.cells:
        if not cell.infeasible or cell.short_of_memory:
            series.setdefault(_series(cell), []).append(cell)
    by_horizon = sorted(series.values(), key=lambda cells: cells[0].spec.task.horizon)
    found = (_of_series(cells, list(series.values()), noise, spread) for cells in by_horizon)
    return tuple(one for one in found if one is not None)


def _series(cell: Cell) -> tuple[str, ...]:
    """What must be equal for cells to be compared, sizes, seeds, fractions and folds apart."""
    axes = {name: value for name, value in cell.axes.items() if name not in (*_APART, "training.seed", "training.lr")}
    return (comparable.identity(cell.spec.model_dump(mode="json"), _APART), str(cell.labels["model"]), repr(axes))


def _of_series(
    cells: Sequence[Cell], others: Sequence[Sequence[Cell]], noise: ValidationNoise, spread: float | None
) -> SeriesPower | None:
    whole = max(cell.spec.data.fraction for cell in cells)
    folds = {cell.spec.data.splits.fold: cell for cell in cells if cell.spec.data.fraction == whole}
    of_run = [noise.of_trials([cell for cell in cells if _alike(cell, fold)]) for fold in folds.values()]
    blocks = [one for one in of_run if one is not None]
    pair = "the largest size less the smallest, of this run's trials"
    if len(blocks) < len(folds):
        blocks = [one for cell in folds.values() if (one := noise.of_baselines(cell)) is not None]
        pair = " less ".join(PAIR)
    if not blocks:
        return None
    seen = None if spread is not None else _spread(cells, noise.view)
    prior = float(np.mean([one.prior_loss for one in blocks]))
    cell = next(iter(folds.values()))
    n_val, n_test = cell.sizes["n_val"] or 1, cell.sizes["n_test"] or 1
    grid = Grid(
        sizes=len({cell.target for cell in cells}),
        seeds=len({cell.spec.training.seed for cell in cells}),
        blocks=float(np.sqrt(np.mean([one.deviation**2 for one in blocks]))) / prior,
        spread=spread if spread is not None else seen if seen is not None else SPREAD,
        test_windows=n_test / n_val,
        folds=len(blocks),
    )
    of = "asked for" if spread is not None else "of this run's trials" if seen is not None else "assumed"
    basis = f"blocks of validation: {_percent(grid.blocks)} ({pair}), seeds: {_percent(grid.spread)} {of}"
    return SeriesPower(_place(cells, others), cell.spec.task.horizon, grid, basis, _assets(blocks[0], grid))


def _alike(cell: Cell, other: Cell) -> bool:
    splits, fraction = other.spec.data.splits, other.spec.data.fraction
    return (cell.spec.data.splits, cell.spec.data.fraction) == (splits, fraction)


def _place(cells: Sequence[Cell], others: Sequence[Sequence[Cell]]) -> str:
    """The horizon, and what else tells a series from the others."""
    firsts = [one[0] for one in others]
    shown = [f"horizon {cells[0].spec.task.horizon}"]
    labels = [name for name in ("model", "tier", "timescale") if len({cell.labels[name] for cell in firsts}) > 1]
    shown += [str(cells[0].labels[name]) for name in labels]
    axes = [name for name in cells[0].axes if len({str(cell.axes.get(name)) for cell in firsts}) > 1]
    shown += [f"{name} {cells[0].axes[name]}" for name in axes if name not in _APART]
    return ", ".join(shown)


def _assets(blocks: Blocks, grid: Grid) -> tuple[int, int | None]:
    """Assets in the data, and as many as would detect 1 %, if all are correlated as these are."""
    have, r, factor = blocks.assets, blocks.correlation, grid.windows_for()
    if r is None or factor is None:
        return have, None
    wanted = (r + (1 - r) / have) / factor - r  # variance of a mean of A assets: r + (1 - r) / A
    return have, math.ceil((1 - r) / wanted) if wanted > 0 else None


def _spread(cells: Sequence[Cell], view: LedgerView) -> float | None:
    """Deviation of the log loss between seeds that are finished, pooled over cells; None without any two."""
    known: dict[tuple[int, str], list[float]] = {}
    for cell in cells:
        state = view.cells.get(cell.key)
        loss = state.ended.result.get("val_loss") if state and state.ended and state.status == "finished" else None
        if loss is not None and loss > 0:
            place = comparable.identity(cell.spec.model_dump(mode="json"))
            known.setdefault((cell.target, f"{place}{cell.spec.training.lr}"), []).append(math.log(loss))
    groups = [np.array(losses) for losses in known.values() if len(losses) > 1]
    if not groups:
        return None
    squares = sum(float(((losses - losses.mean()) ** 2).sum()) for losses in groups)
    return math.sqrt(squares / sum(len(losses) - 1 for losses in groups))


def findings(series: Sequence[SeriesPower]) -> Iterator[CheckFinding]:
    """Series that can detect nothing of interest."""
    for one in series:
        if one.detectable is not None and one.detectable > OF_INTEREST:
            yield CheckFinding(
                gate="power",
                level="warn",
                number=one.detectable,
                limit=OF_INTEREST,
                message=f"{one.place} detects no change below {_percent(one.detectable)} of the prior's loss; where "
                "nothing is found there, that says little",
                fix="more seeds, windows, assets or folds: the plan says how many detect 1 %",
            )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
