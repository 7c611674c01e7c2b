"""Which windows each split has: numpy only, no tensor and no device, so that a plan can count them.

A window is the `context` rows up to and including its end, of one asset and inside one split.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data import scaling, splits, tier_registry
from trainables.data.dataset import Dataset, asset_rows
from trainables.data.labels import make_labels
from trainables.data.membership import COLUMN
from trainables.data.representation import Represented, represent
from trainables.data.splits import SPLITS, EffectiveSize, Flags, SplitName
from trainables.errors import ConfigError, DataError, InfeasibleError, Problem
from trainables.schema import DataSpec, ResolvedData, ResolvedTask

# Shape suffixes: T rows of the dataset, N windows of a split.
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_ASSETS = 2


@dataclass(frozen=True, eq=False)
class SplitIndex:
    """The windows of one split, sorted by asset and date.

    Attributes:
        ends_N: row of each window's end in the dataset.
        labels_N: float64.
        dates_N: date of each window's end, datetime64[ns].
        assets_N: asset of each window.
        bars_N: position of each window's end on the common time axis.
    """

    ends_N: Ints
    labels_N: Floats
    dates_N: npt.NDArray[np.datetime64]
    assets_N: npt.NDArray[np.str_]
    bars_N: Ints

    def __len__(self) -> int:
        return len(self.ends_N)

    def where(self, mask_N: Flags) -> "SplitIndex":
        """Some of the windows."""
        return SplitIndex(*(getattr(self, field.name)[mask_N] for field in fields(self)))

    def rows(self, context: int) -> Ints:
        """Rows of the dataset that the windows' contexts use, ascending, each once."""
        if not len(self):
            return self.ends_N
        ends = np.sort(self.ends_N)
        steps = np.zeros(ends[-1] + 2, dtype=np.int64)
        np.add.at(steps, ends - context + 1, 1)
        np.add.at(steps, ends + 1, -1)
        return np.flatnonzero(np.cumsum(steps))


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """The windows of all splits, before any tensor is made.

    Attributes:
        data: features as presented, before scaling.
        splits: the windows of each split, and of `selection` where the splits ask for one.
        effective: independent samples of each split.
        features: names of the columns of `data.values_TF`.
        task: what the labels are.
    """

    data: Represented
    splits: dict[SplitName, SplitIndex]
    effective: dict[SplitName, EffectiveSize]
    features: tuple[str, ...]
    task: ResolvedTask

    def check(self) -> None:
        """Refuse data on which nothing can be decided.

        Raises:
            InfeasibleError: fewer than 100 effective samples, or 30 of the rarest class, in selection, validation or
                test; a training split without windows, or without one of the classes. Every reason, with number and
                limit.
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
                reasons += splits.shortfalls(name, self.effective[name], len(part))
        if reasons:
            raise InfeasibleError(f"horizon {horizon}: " + "; ".join(reasons))


def index_windows(dataset: Dataset, data: DataSpec | ResolvedData, task: ResolvedTask) -> WindowIndex:
    """Find the windows of every split; see `splits` for the rules.

    Raises:
        DataError: the dataset is not the one that was resolved, or a feature is not finite after its warm-up.
        ConfigError: a split is empty whatever the task.
    """
    _same_data(dataset, data)
    frame = dataset.frame
    represented = presented(dataset, data)
    dates_T = frame["date"].to_numpy().astype("datetime64[ns]")
    axis = np.unique(dates_T[represented.complete_T])
    spans = splits.limits(axis, data.splits, data.fraction)
    position_T = np.searchsorted(axis, dates_T)
    labels_T = make_labels(frame, task)
    member_T = members(frame)
    ends: dict[SplitName, list[Ints]] = {name: [] for name in SPLITS}
    assets: dict[SplitName, list[npt.NDArray[np.str_]]] = {name: [] for name in SPLITS}
    for rows in asset_rows(frame):
        first = int(np.argmax(represented.complete_T[rows.start : rows.stop]))
        for name, span in spans.items():
            part = position_T[rows.start : rows.stop]
            found = splits.window_ends(part, first, span, task.context, task.lookahead) + rows.start
            found = found[member_T[found]]
            found = found[np.isfinite(labels_T[found])]  # a task may not know every label
            ends[name].append(found)
            assets[name].append(np.full(len(found), rows.asset))
    index: dict[SplitName, SplitIndex] = {}
    for name in SPLITS:
        ends_N = np.concatenate(ends[name])
        whole = SplitIndex(ends_N, labels_T[ends_N], dates_T[ends_N], np.concatenate(assets[name]), position_T[ends_N])
        if name == "validation" and data.splits.selection:
            label_ends_N = position_T[ends_N + task.lookahead]
            chooses_N, judges_N = splits.divide(whole.bars_N, label_ends_N, data.splits.selection)
            index["selection"], whole = whole.where(chooses_N), whole.where(judges_N)
        index[name] = whole
    effective = {
        name: splits.effective_size(part.bars_N, part.labels_N, task.lookahead, n_classes=task.n_classes)
        for name, part in index.items()
    }
    return WindowIndex(represented, index, effective, dataset.features, task)


def presented(dataset: Dataset, data: DataSpec | ResolvedData) -> Represented:
    """Features as a model is given them, but for what is fitted on training windows.

    Raises:
        ConfigError: assets are to be compared, and there is one.
    """
    represented = represent(dataset.frame, dataset.entry.kinds_of_features, data.representation)
    if data.scaling not in ("rank", "by_date"):
        return represented
    if len(dataset.entry.assets) < MIN_ASSETS:
        message = f"{data.scaling} compares the assets of a date, and there is one"
        raise ConfigError(Problem(place="data.scaling", message=message, fix="use zscore, or more assets"))
    dates_T = dataset.frame["date"].to_numpy().astype("datetime64[ns]")
    among_T = represented.complete_T & members(dataset.frame)
    scaled_TF = scaling.across_assets(represented.values_TF, dates_T, among_T, rank=data.scaling == "rank")
    return replace(represented, values_TF=scaled_TF)


def members(frame: pd.DataFrame) -> Flags:
    """Rows on whose date the asset belongs to the universe; all of them where no membership is given."""
    return frame[COLUMN].to_numpy(dtype=bool) if COLUMN in frame else np.ones(len(frame), dtype=bool)


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
