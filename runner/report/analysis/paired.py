"""Differences of losses on the windows that all of them were judged on, with paired intervals from predictions.

Two levels are resampled: circular blocks of dates, the same for everything that is compared, and seeds within each
cell, deviations inflated by sqrt(m / (m - 1)) for m seeds. The intervals of a family hold together: each is as many
standard deviations wide as the largest standardised deviation of any member stays below in 95 % of the resamples
(the single-step maximum method of Romano and Wolf 2005). So the best of several may be picked after looking.

Array names: N windows, T dates, R resamples, M seeds of a cell, E entries, P pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from runner.report.analysis.trials import Trial
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.predictions import predictions
from trainables.data.splits import MIN_EFFECTIVE
from trainables.schema import ResolvedTask
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import PERCENT, BlockBootstrap, Floats, block_length, label_span
from trainables.training.likelihood import binary_losses, class_losses, gaussian_losses

PLACE = ("date", "asset")  # what names a window of a split
LEVEL = 0.95
MIN_SEEDS = 2  # one seed adds no noise of seeds: its interval says nothing about others


@dataclass(frozen=True, eq=False)
class Source:
    """The run that trials are of: its folder and what its ledger says."""

    paths: RunPaths
    view: LedgerView


@dataclass(frozen=True)
class Entry:
    """What is compared: the mean over its cells (sizes) of the mean over each cell's seeds. A baseline has no seeds."""

    name: str
    cells: tuple[tuple[Trial, ...], ...]
    source: Source

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

    @property
    def better(self) -> bool | None:
        """Whether the first is better; None where the two cannot be distinguished."""
        return self.lower if self.lower or self.higher else None


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


class RefusedError(Exception):
    """Why nothing can be compared."""


def compare(
    entries: Sequence[Entry],
    families: Sequence[Sequence[tuple[str, str]]],
    split: str,
) -> list[Family]:
    """Compare entries under shared resamples; each family of pairs of names has intervals that hold together."""
    return compare_folds([entries], families, split)


def compare_folds(
    folds: Sequence[Sequence[Entry]], families: Sequence[Sequence[tuple[str, str]]], split: str
) -> list[Family]:
    """The same with the mean over folds, each with the same entries by name, on windows and resamples of its own.

    Folds count as independent of each other, which they are not quite where their training spans overlap.
    """
    names = [entry.name for entry in folds[0]]
    folds = [[by_name[name] for name in names] for by_name in ({one.name: one for one in fold} for fold in folds)]
    try:
        each = [_Common(entries, split) for entries in folds]
    except RefusedError as refused:
        return [Family(reason=str(refused)) for _ in families]
    pairs = [pair for family in families for pair in family]
    drawn = [one.resampled(pairs) for one in each]
    for fold, drawn_RE in enumerate(drawn[1:], 1):  # folds of equal length would have the same blocks and seeds drawn
        drawn[fold] = np.random.default_rng(fold).permutation(drawn_RE)
    mean_E = np.mean([one.mean_EN.mean(axis=1) for one in each], axis=0)
    resampled_RE = np.mean(drawn, axis=0)
    enough = {
        entry.name: all(other.enough_seeds for entries in folds for other in entries if other.name == entry.name)
        for entry in folds[0]
    }
    windows, of = sum(len(one.labels_N) for one in each), tuple(sorted({n for one in each for n in one.of}))
    return [Family(_differences(family, enough, mean_E, resampled_RE), windows, of) for family in families]


def _differences(
    pairs: Sequence[tuple[str, str]], enough: Mapping[str, bool], mean_E: Floats, resampled_RE: Floats
) -> tuple[Difference, ...]:
    """Of each pair of names: value and intervals. `enough` has the entries in the order of the arrays."""
    places = {name: number for number, name in enumerate(enough)}
    first_P, second_P = (np.array([places[pair[end]] for pair in pairs]) for end in (0, 1))
    value_P = mean_E[first_P] - mean_E[second_P]
    difference_RP = resampled_RE[:, first_P] - resampled_RE[:, second_P]
    low_P, high_P = np.percentile(difference_RP, PERCENT, axis=0)
    deviation_P = difference_RP.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # two equal predictors differ by 0 in every resample
        largest_R = np.nan_to_num(np.abs(difference_RP - value_P) / deviation_P, posinf=0.0).max(axis=1)
    half_P = float(np.quantile(largest_R, LEVEL)) * deviation_P
    return tuple(
        Difference(
            first,
            second,
            float(value_P[number]),
            (float(low_P[number]), float(high_P[number])),
            float(value_P[number] - half_P[number]),
            float(value_P[number] + half_P[number]),
            enough[first] and enough[second],
        )
        for number, (first, second) in enumerate(pairs)
    )


class _Common:
    """Losses of all entries on the windows that they share."""

    def __init__(self, entries: Sequence[Entry], split: str) -> None:
        trials = list(dict.fromkeys((entry.source, trial.key) for entry in entries for trial in entry.trials))
        tasks = [ResolvedTask.model_validate(source.view.cells[key].cell.spec["task"]) for source, key in trials]
        if len({(task.kind, task.horizon) for task in tasks}) > 1:
            raise RefusedError("they predict different things")
        self.entries = entries
        self._task = tasks[0]
        frames = dict(zip(trials, frames_of(trials, split), strict=True))
        self.of = tuple(sorted({len(frame) for frame in frames.values()}))
        frames = dict(zip(trials, aligned(list(frames.values())), strict=True))
        first = next(iter(frames.values()))
        self.labels_N = first["label"].to_numpy(dtype=np.float64)
        self._dates_N = first["date"].to_numpy().astype("datetime64[ns]")
        if any(not np.array_equal(frame["label"].to_numpy(), first["label"].to_numpy()) for frame in frames.values()):
            raise RefusedError("they were judged by different labels")
        self._span = label_span(self._dates_N, self._task.lookahead)
        effective = len(np.unique(self._dates_N)) // self._span
        if effective < MIN_EFFECTIVE:
            text = f"they share {len(first)} windows, {effective} effective samples, and {MIN_EFFECTIVE} are needed"
            raise RefusedError(text)
        self._losses = {trial: self._loss(frame, *trial) for trial, frame in frames.items()}
        self.mean_EN = np.stack([self._mean(entry) for entry in entries])
        self._places = {entry.name: number for number, entry in enumerate(entries)}

    def _loss(self, frame: pd.DataFrame, source: Source, key: str) -> Floats:
        """Losses [N]; of values up to a constant that all trials of a task share."""
        found = window_losses(frame, self._task, source.view.cells[key])
        if found is None:
            raise RefusedError("the residual variance of a trial is not recorded")
        return found

    def _mean(self, entry: Entry) -> Floats:
        cells = [np.mean([self._losses[entry.source, trial.key] for trial in cell], axis=0) for cell in entry.cells]
        mean_N: Floats = np.mean(cells, axis=0)
        return mean_N

    def resampled(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Losses [R, E] under shared resamples, whose blocks are as long as the most persistent difference asks for."""
        first_P, second_P = (np.array([self._places[pair[end]] for pair in pairs]) for end in (0, 1))
        difference_PN = self.mean_EN[first_P] - self.mean_EN[second_P]
        dates_T, code_N = np.unique(self._dates_N, return_inverse=True)
        count_T = np.bincount(code_N)
        lengths = [block_length(np.bincount(code_N, weights=one_N) / count_T, self._span) for one_N in difference_PN]
        series_N = difference_PN[int(np.argmax(lengths))]
        dates = BlockBootstrap(self._dates_N, series_N, horizon=self._span, label="paired")
        sums_TK = np.stack([np.bincount(code_N, weights=one_N) for one_N in self._losses.values()], axis=1)
        loss_RK = np.concatenate([(one_RT @ sums_TK) / (one_RT @ count_T)[:, None] for one_RT in dates.counts()])
        known = dict(zip(self._losses, loss_RK.T, strict=True))
        random = np.random.default_rng(len(dates_T))
        cells: dict[tuple[tuple[Source, str], ...], Floats] = {}
        columns = []
        for entry in self.entries:
            for cell in entry.cells:
                keys = tuple((entry.source, trial.key) for trial in cell)
                if keys not in cells:
                    cells[keys] = _over_seeds(np.stack([known[key] for key in keys], axis=1), random)
            numbers = [tuple((entry.source, trial.key) for trial in cell) for cell in entry.cells]
            columns.append(np.mean([cells[one] for one in numbers], axis=0))
        return np.stack(columns, axis=1)


def window_losses(frame: pd.DataFrame, task: ResolvedTask, state: CellState) -> Floats | None:
    """Losses [N] of a trial's or baseline's predictions; of values up to a constant that all of a task share.

    The constant is the log of the labels' deviation on training: the results' losses are those of standardised labels.
    None of values whose residual variance is not recorded.
    """
    outputs, labels_N = prediction_tables.outputs(frame), frame["label"].to_numpy(dtype=np.float64)
    if task.outcome == "classes":
        return class_losses(outputs, labels_N)
    if task.outcome == "binary":
        return binary_losses(outputs, labels_N)
    variance = state.ended.result.get("train_residual_variance") if state.ended else None
    return gaussian_losses(outputs - labels_N, variance) if variance else None


def frames_of(trials: Sequence[tuple[Source, str]], split: str) -> list[pd.DataFrame]:
    """Predictions of each trial.

    Raises:
        RefusedError: those of a trial are missing, damaged or not finite.
    """
    found = [predictions(source.paths, key, split) for source, key in trials]
    frames = [frame for frame in found if frame is not None and len(frame)]
    if len(frames) < len(trials):
        missing = len(trials) - len(frames)
        raise RefusedError(f"predictions of {missing} of {len(trials)} trials are missing or damaged")
    if any(not np.isfinite(frame.select_dtypes("number").to_numpy(dtype=np.float64)).all() for frame in frames):
        raise RefusedError("predictions of a trial hold numbers that are not finite")
    return frames


def aligned(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The frames' rows of the windows that all of them have, in one order."""
    places = [frame[list(PLACE)] for frame in frames]
    same = all(place.equals(places[0]) for place in places[1:])
    if any(place.duplicated().any() for place in (places[:1] if same else places)):
        raise RefusedError("predictions of a trial hold a window twice")
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
