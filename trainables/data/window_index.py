"""Which windows each split has: numpy only, no tensor and no device, so that a plan can count them.

A window is the `context` rows up to and including its end, of one asset and inside one split.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data import representation, scaling, splits, tier_registry
from trainables.data.dataset import AssetRows, Dataset, Rows
from trainables.data.labels import make_labels
from trainables.data.maps import New
from trainables.data.representation import Represented
from trainables.data.splits import LEAST, SPLITS, EffectiveSize, Flags, SplitName
from trainables.errors import ConfigError, DataError, InfeasibleError, Problem
from trainables.schema import DataSpec, ResolvedData, ResolvedTask
from trainables.tasks import registry

# Shape suffixes: T rows of the dataset, N windows of a split.
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_ASSETS = 2
# Windows of a part that judges, and their number in all: more tell nothing that these, evenly spread, do not.
MAX_JUDGED = 1_000_000


@dataclass(frozen=True, eq=False)
class SplitIndex:
    """The windows of one split, sorted by asset and date.

    Attributes:
        ends_N: row of each window's end in the dataset.
        labels_N: float64.
        place: dates and assets of the dataset's rows; those of the windows are made when they are asked for.
        axis_A: the common time axis, datetime64[ns].
        total: windows that there are; above `MAX_JUDGED` those here are a part of them, evenly spread.
    """

    ends_N: Ints
    labels_N: Floats
    place: Rows
    axis_A: npt.NDArray[np.datetime64]
    total: int

    def __len__(self) -> int:
        return len(self.ends_N)

    @property
    def dates_N(self) -> npt.NDArray[np.datetime64]:  # noqa: N802
        """Date of each window's end, datetime64[ns]."""
        return np.asarray(self.place.dates_T[self.ends_N])

    @property
    def assets_N(self) -> npt.NDArray[np.str_]:  # noqa: N802
        """Asset of each window."""
        spans = self.place.spans
        names, stops = np.array([one.asset for one in spans]), np.array([one.stop for one in spans])
        return names[np.searchsorted(stops, self.ends_N, side="right")]

    @property
    def bars_N(self) -> Ints:  # noqa: N802
        """Position of each window's end on the common time axis."""
        return np.searchsorted(self.axis_A, self.dates_N)

    def where(self, chosen_N: Flags | Ints) -> "SplitIndex":
        """Some of the windows."""
        return replace(self, ends_N=self.ends_N[chosen_N], labels_N=self.labels_N[chosen_N])

    def spread(self, most: int) -> "SplitIndex":
        """At most so many of the windows, evenly spread over assets and dates."""
        return self if len(self) <= most else self.where(np.linspace(0, len(self) - 1, most).round().astype(np.int64))

    def of_asset(self, rows: AssetRows) -> "SplitIndex":
        """The windows of one asset."""
        first, last = np.searchsorted(self.ends_N, (rows.start, rows.stop))
        return replace(self, ends_N=self.ends_N[first:last], labels_N=self.labels_N[first:last])

    def effective(self, task: ResolvedTask) -> EffectiveSize:
        """Independent samples among the windows."""
        shortest_A = np.full(len(self.axis_A), np.inf)
        for rows in self.place.spans:
            position_T = np.searchsorted(self.axis_A, self.place.dates_T[rows.part])
            ends_N = self.of_asset(rows).ends_N - rows.start
            splits.cover(shortest_A, *(position_T[ends_N + ahead] for ahead in (0, 1, task.lookahead)))
        return splits.effective_size(shortest_A, self.labels_N, task.n_classes)

    def rows(self, context: int) -> Ints:
        """Rows of the dataset that the windows' contexts use, ascending, each once."""
        if not len(self):
            return self.ends_N
        first = self.ends_N[0] - context + 1
        steps = np.zeros(self.ends_N[-1] - first + 2, dtype=np.int64)
        steps[self.ends_N - context + 1 - first] += 1
        steps[self.ends_N + 1 - first] -= 1
        return np.asarray(np.flatnonzero(np.cumsum(steps)) + first)


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """The windows of all splits, before any tensor is made.

    Attributes:
        dataset: the rows.
        data: features as presented, before scaling.
        splits: the windows of each split, and of `selection` where the splits ask for one.
        effective: independent samples of each split.
        features: names of the columns of `data.values_TF`.
        task: what the labels are.
        name: of what is kept of them (`maps`).
    """

    dataset: Dataset
    data: Represented
    splits: dict[SplitName, SplitIndex]
    effective: dict[SplitName, EffectiveSize]
    features: tuple[str, ...]
    task: ResolvedTask
    name: str

    def check(self, least: EffectiveSize = LEAST) -> None:
        """Refuse data on which nothing can be decided.

        Args:
            least: effective samples that selection, validation and test must hold.

        Raises:
            InfeasibleError: fewer in one of them; a training split without windows, or without one of the classes.
                Every reason, with number and limit.
        """
        task, horizon = self.task, self.task.horizon
        train = self.splits["train"]
        reasons = []
        if not len(train):
            reasons.append(f"train has no window of {task.context} bars with a label {task.lookahead} bars ahead")
        elif task.n_classes > len(present := np.unique(train.labels_N)):
            missing = ", ".join(name for number, name in enumerate(task.classes) if number not in present)
            reasons.append(f"train holds no window of {missing}" if missing else "train holds one class only")
        for name, part in self.splits.items():
            if name != "train":
                reasons += splits.shortfalls(name, self.effective[name], len(part), least)
        if reasons:
            raise InfeasibleError(f"horizon {horizon}: " + "; ".join(reasons))


def index_windows(dataset: Dataset, data: DataSpec | ResolvedData, task: ResolvedTask) -> WindowIndex:
    """Find the windows of every split; see `splits` for the rules.

    Raises:
        DataError: the dataset is not the one that was resolved, or a feature is not finite after its warm-up.
        ConfigError: a split is empty whatever the task.
    """
    _same_data(dataset, data)
    represented = presented(dataset, data)
    follows: list[Any] = [
        data.representation,
        data.splits.model_dump(mode="json"),
        data.fraction,
        every := data.every if isinstance(data, ResolvedData) else data.sample.every,
        task.model_dump(mode="json"),
        registry.of_trial(task).part.source.sha256,
    ]
    of = "windows-" + hashlib.sha256(json.dumps(follows, sort_keys=True).encode()).hexdigest()[:16]
    found = dataset.maps.kept(of, lambda new: _find(new, dataset, represented.complete_T, data, task, every))
    axis_A = found["axis"].view("datetime64[ns]")
    index: dict[SplitName, SplitIndex] = {
        name: SplitIndex(found[f"{name}-ends"], found[f"{name}-labels"], dataset.place, axis_A, total)
        for name, total in found.info["total"].items()
    }
    effective: dict[SplitName, EffectiveSize] = {
        name: EffectiveSize(*size) for name, size in found.info["effective"].items()
    }
    return WindowIndex(dataset, represented, index, effective, dataset.features, task, of)


def _find(
    new: New, dataset: Dataset, complete_T: Flags, data: DataSpec | ResolvedData, task: ResolvedTask, every: int
) -> dict[str, Any]:
    """Ends and labels of each split's windows, one asset after the other."""
    axis = np.empty(0, dtype="datetime64[ns]")
    for rows in dataset.rows:
        dates_T = dataset.dates_T[rows.part][complete_T[rows.part]]
        if len(axis) != len(dates_T) or not np.array_equal(axis, dates_T):
            axis = np.union1d(axis, dates_T)
    spans = splits.limits(axis, data.splits, data.fraction)
    found: dict[SplitName, list[tuple[Ints, Floats]]] = {name: [] for name in SPLITS}
    reaches: list[Ints] = []  # of validation: last position with which each label shares time
    for rows in dataset.rows:
        begun_T, over_T = splits.overlapped(axis, dataset.dates_T[rows.part], data.timescale)
        labels_T = make_labels(dataset.bars(rows), task)
        usable_T = np.isfinite(labels_T)  # a task may not know every label
        if dataset.member_T is not None:
            usable_T &= dataset.member_T[rows.part]
        first = int(np.argmax(complete_T[rows.part]))
        for name, span in spans.items():
            embargo = 0 if name == "train" else data.splits.embargo
            ends_N = splits.window_ends(begun_T, over_T, first, span, task.context, task.lookahead, embargo)
            ends_N = ends_N[usable_T[ends_N]]
            found[name].append((ends_N + rows.start, labels_T[ends_N]))
            if name == "validation":
                reaches.append(over_T[ends_N + task.lookahead])
    index: dict[SplitName, SplitIndex] = {}
    for name in SPLITS:
        ends_N, labels_N = (np.concatenate(parts) for parts in zip(*found.pop(name), strict=True))
        whole = SplitIndex(ends_N, labels_N, dataset.place, axis, len(ends_N))
        if name == "validation" and data.splits.selection:
            chooses_N, judges_N = splits.divide(whole.bars_N, np.concatenate(reaches), data.splits.selection)
            index["selection"], whole = whole.where(chooses_N), whole.where(judges_N)
        index[name] = whole
    new("axis", "<i8", axis.shape)[:] = axis.view(np.int64)
    info: dict[str, Any] = {"total": {}, "effective": {}}
    for name, part in index.items():
        size = part.effective(task)
        kept = part.spread(MAX_JUDGED)
        if name == "train":
            kept = part = part if every == 1 else part.where(part.bars_N % every == 0)
        info["effective"][name], info["total"][name] = [size.total, size.rarer_class], len(part)
        new(f"{name}-ends", np.int64, kept.ends_N.shape)[:] = kept.ends_N
        new(f"{name}-labels", np.float64, kept.ends_N.shape)[:] = kept.labels_N
    return info


def presented(dataset: Dataset, data: DataSpec | ResolvedData) -> Represented:
    """Features as a model is given them, but for what is fitted on training windows.

    Raises:
        ConfigError: assets are to be compared, and there is one.
    """
    represented = representation.table(dataset, data.representation)
    if data.scaling not in ("rank", "by_date"):
        return represented
    if len(dataset.entry.assets) < MIN_ASSETS:
        message = f"{data.scaling} compares the assets of a date, and there is one"
        raise ConfigError(Problem(place="data.scaling", message=message, fix="use zscore, or more assets"))

    def make(new: New) -> dict[str, Any]:
        among_T = represented.complete_T if dataset.member_T is None else represented.complete_T & dataset.member_T
        values_TF, rank = represented.values_TF, data.scaling == "rank"
        scaled_TF = new("values_TF", np.float32, values_TF.shape)
        scaling.across_assets(values_TF, dataset.dates_T, among_T, rank=rank, out=scaled_TF)
        return {}

    return replace(represented, **dataset.maps.kept(f"{data.representation}-{data.scaling}", make).arrays)


def _same_data(dataset: Dataset, data: DataSpec | ResolvedData) -> None:
    """A trial's key holds the content hash; training on other data under that key would be a lie."""
    entry = dataset.entry
    tier = data.tier if isinstance(data, ResolvedData) else tier_registry.resolved(data.tier)
    asked: tuple[object, ...] = (tier, data.timescale)
    given: tuple[object, ...] = (entry.tier, entry.timescale)
    if isinstance(data, ResolvedData):
        asked += (data.content_sha256, data.assets, data.features)
        given += (entry.content_sha256, entry.assets, entry.features)
    if asked != given:
        message = f"this dataset is not the one the trial was resolved for: {given} instead of {asked}"
        raise DataError(Problem(place=entry.path, message=message, fix="plan the sweep again, on this data"))
