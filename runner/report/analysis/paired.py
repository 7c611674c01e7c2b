"""Differences of losses on the windows that all of them were judged on, with paired intervals from predictions.

Two levels are resampled: circular blocks of dates, the same for everything that is compared, and seeds within each
cell, deviations inflated by sqrt(m / (m - 1)) for m seeds. The intervals of a family hold together: each is as many
standard deviations wide as the largest standardised deviation of any member stays below in 95 % of the resamples
(the single-step maximum method of Romano and Wolf 2005). So the best of several may be picked after looking.

Array names: N windows, T dates, R resamples, M seeds of a cell, E entries, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from runner.report.analysis.resamples import predictions
from runner.report.analysis.trials import Trial
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from trainables.data.splits import MIN_EFFECTIVE
from trainables.schema import ResolvedTask
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import PERCENT, BlockBootstrap, Floats, block_length
from trainables.training.likelihood import binary_losses, class_losses, gaussian_losses

PLACE = ("date", "asset")  # what names a window of a split
LEVEL = 0.95
MIN_SEEDS = 2  # one seed adds no noise of seeds: its interval says nothing about others


@dataclass(frozen=True)
class Entry:
    """What is compared: the mean over its cells (sizes) of the mean over each cell's seeds. A baseline has no seeds."""

    name: str
    cells: tuple[tuple[Trial, ...], ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All of them."""
        return tuple(trial for cell in self.cells for trial in cell)

    @property
    def enough_seeds(self) -> bool:
        """Whether each cell can show the noise of seeds, or has none."""
        return all(len(cell) >= MIN_SEEDS or cell[0].kind == "baseline" for cell in self.cells)


@dataclass(frozen=True)
class Difference:
    """Loss of the first less that of the second, in nats; negative where the first is better.

    Attributes:
        alone: 95 % percentile interval of this pair for itself.
        low, high: 95 % interval that holds for all pairs of the family together.
        enough_seeds: whether both sides have the seeds that an interval needs to cover them.
    """

    first: str
    second: str
    value: float
    alone: tuple[float, float]
    low: float
    high: float
    enough_seeds: bool

    @property
    def lower(self) -> bool:
        """Whether the first is better beyond doubt."""
        return self.enough_seeds and self.high < 0

    @property
    def higher(self) -> bool:
        """Whether the first is worse beyond doubt."""
        return self.enough_seeds and self.low > 0


@dataclass(frozen=True)
class Family:
    """Differences that were compared together, or why there are none.

    Attributes:
        windows: on which all entries were judged.
        of: windows of the single trials, ascending; more than one number where they differ.
    """

    differences: tuple[Difference, ...] = ()
    windows: int = 0
    of: tuple[int, ...] = ()
    reason: str = ""

    def between(self, first: str, second: str) -> Difference:
        """The difference of a pair."""
        return next(one for one in self.differences if (one.first, one.second) == (first, second))


class _RefusedError(Exception):
    """Why nothing can be compared."""


def compare(
    paths: RunPaths,
    view: LedgerView,
    entries: Sequence[Entry],
    families: Sequence[Sequence[tuple[str, str]]],
    split: str,
) -> list[Family]:
    """Compare entries under shared resamples; each family of pairs of names has intervals that hold together."""
    try:
        common = _Common(paths, view, entries, split)
    except _RefusedError as refused:
        return [Family(reason=str(refused)) for _ in families]
    resampled_RE = common.resampled([pair for pairs in families for pair in pairs])
    return [Family(common.differences(pairs, resampled_RE), len(common.labels_N), common.of) for pairs in families]


class _Common:
    """Losses of all entries on the windows that they share."""

    def __init__(self, paths: RunPaths, view: LedgerView, entries: Sequence[Entry], split: str) -> None:
        trials = {trial.key: trial for entry in entries for trial in entry.trials}
        tasks = [ResolvedTask.model_validate(view.cells[key].cell.spec["task"]) for key in trials]
        if len({(task.kind, task.horizon) for task in tasks}) > 1:
            raise _RefusedError("they predict different things")
        self.entries = entries
        self._task = tasks[0]
        frames = dict(zip(trials, _frames(paths, list(trials), split), strict=True))
        self.of = tuple(sorted({len(frame) for frame in frames.values()}))
        frames = dict(zip(trials, _aligned(list(frames.values())), strict=True))
        first = next(iter(frames.values()))
        self.labels_N = first["label"].to_numpy(dtype=np.float64)
        self._dates_N = first["date"].to_numpy().astype("datetime64[ns]")
        if any(not np.array_equal(frame["label"].to_numpy(), first["label"].to_numpy()) for frame in frames.values()):
            raise _RefusedError("they were judged by different labels")
        effective = len(np.unique(self._dates_N)) // self._task.lookahead
        if effective < MIN_EFFECTIVE:
            text = f"they share {len(first)} windows, {effective} effective samples, and {MIN_EFFECTIVE} are needed"
            raise _RefusedError(text)
        self._losses = {key: self._loss(frame, view, key) for key, frame in frames.items()}
        self._mean_EN = np.stack([self._mean(entry) for entry in entries])
        self._places = {entry.name: number for number, entry in enumerate(entries)}

    def _loss(self, frame: pd.DataFrame, view: LedgerView, key: str) -> Floats:
        """Losses [N]; of values up to a constant that all trials of a task share."""
        outputs = prediction_tables.outputs(frame)
        if self._task.outcome == "classes":
            return class_losses(outputs, self.labels_N)
        if self._task.outcome == "binary":
            return binary_losses(outputs, self.labels_N)
        ended = view.cells[key].ended
        variance = ended.result.get("train_residual_variance") if ended else None
        if not variance:
            raise _RefusedError("the residual variance of a trial is not recorded")
        return gaussian_losses(outputs - self.labels_N, variance)

    def _ends(self, pairs: Sequence[tuple[str, str]]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        first_P, second_P = (np.array([self._places[pair[end]] for pair in pairs]) for end in (0, 1))
        return first_P, second_P

    def differences(self, pairs: Sequence[tuple[str, str]], resampled_RE: Floats) -> tuple[Difference, ...]:
        """Of each pair of names: value and intervals."""
        first_P, second_P = self._ends(pairs)
        value_P = (self._mean_EN[first_P] - self._mean_EN[second_P]).mean(axis=1)
        difference_RP = resampled_RE[:, first_P] - resampled_RE[:, second_P]
        low_P, high_P = np.percentile(difference_RP, PERCENT, axis=0)
        deviation_P = difference_RP.std(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # two equal predictors differ by 0 in every resample
            largest_R = np.nan_to_num(np.abs(difference_RP - value_P) / deviation_P, posinf=0.0).max(axis=1)
        half_P = float(np.quantile(largest_R, LEVEL)) * deviation_P
        found = []
        for number, (first, second) in enumerate(pairs):
            one, other = self.entries[first_P[number]], self.entries[second_P[number]]
            found.append(
                Difference(
                    first,
                    second,
                    float(value_P[number]),
                    (float(low_P[number]), float(high_P[number])),
                    float(value_P[number] - half_P[number]),
                    float(value_P[number] + half_P[number]),
                    one.enough_seeds and other.enough_seeds,
                )
            )
        return tuple(found)

    def _mean(self, entry: Entry) -> Floats:
        cells = [np.mean([self._losses[trial.key] for trial in cell], axis=0) for cell in entry.cells]
        mean_N: Floats = np.mean(cells, axis=0)
        return mean_N

    def resampled(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Losses [R, E] under shared resamples, whose blocks are as long as the most persistent difference asks for."""
        horizon = self._task.lookahead
        first_P, second_P = self._ends(pairs)
        difference_PN = self._mean_EN[first_P] - self._mean_EN[second_P]
        dates_T, code_N = np.unique(self._dates_N, return_inverse=True)
        count_T = np.bincount(code_N)
        lengths = [block_length(np.bincount(code_N, weights=one_N) / count_T, horizon) for one_N in difference_PN]
        series_N = difference_PN[int(np.argmax(lengths))]
        dates = BlockBootstrap(self._dates_N, series_N, horizon=horizon, label="paired")
        sums_TK = np.stack([np.bincount(code_N, weights=one_N) for one_N in self._losses.values()], axis=1)
        loss_RK = np.concatenate([(one_RT @ sums_TK) / (one_RT @ count_T)[:, None] for one_RT in dates.counts()])
        known = dict(zip(self._losses, loss_RK.T, strict=True))
        random = np.random.default_rng(len(dates_T))
        cells: dict[tuple[str, ...], Floats] = {}
        columns = []
        for entry in self.entries:
            for cell in entry.cells:
                keys = tuple(trial.key for trial in cell)
                if keys not in cells:
                    cells[keys] = _over_seeds(np.stack([known[key] for key in keys], axis=1), random)
            columns.append(np.mean([cells[tuple(trial.key for trial in cell)] for cell in entry.cells], axis=0))
        return np.stack(columns, axis=1)


def _frames(paths: RunPaths, keys: Sequence[str], split: str) -> list[pd.DataFrame]:
    found = [predictions(paths, key, split) for key in keys]
    frames = [frame for frame in found if frame is not None and len(frame)]
    if len(frames) < len(keys):
        missing = len(keys) - len(frames)
        raise _RefusedError(f"predictions of {missing} of {len(keys)} trials are missing or damaged")
    if any(not np.isfinite(frame.select_dtypes("number").to_numpy(dtype=np.float64)).all() for frame in frames):
        raise _RefusedError("predictions of a trial hold numbers that are not finite")
    return frames


def _aligned(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The frames' rows of the windows that all of them have, in one order."""
    places = [frame[list(PLACE)] for frame in frames]
    same = all(place.equals(places[0]) for place in places[1:])
    if any(place.duplicated().any() for place in (places[:1] if same else places)):
        raise _RefusedError("predictions of a trial hold a window twice")
    if same:
        return frames
    common = places[0]
    for place in places[1:]:
        common = common.merge(place, on=list(PLACE))
    return [common.merge(frame, on=list(PLACE), how="left") for frame in frames]


def _over_seeds(losses_RM: Floats, random: np.random.Generator) -> Floats:
    """The cell's mean loss [R] with its seeds drawn anew in each resample."""
    mean_R: Floats = losses_RM.mean(axis=1)
    m = losses_RM.shape[1]
    if m < MIN_SEEDS:
        return mean_R
    deviation_RM = losses_RM - mean_R[:, None]
    picked_RM = np.take_along_axis(deviation_RM, random.integers(m, size=losses_RM.shape), axis=1)
    drawn_R: Floats = mean_R + picked_RM.mean(axis=1) * np.sqrt(m / (m - 1))
    return drawn_R
