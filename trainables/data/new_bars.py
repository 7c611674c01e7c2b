"""Windows of bars that a model was not trained on, presented and scaled as its training windows were.

A window ends at every bar whose context is complete, whatever the splits were and whether its label is known. It holds
bars up to its own end only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainables.data.dataset import Dataset
from trainables.data.labels import make_labels
from trainables.data.representation import Represented
from trainables.data.scaling import Standardizer
from trainables.data.window_index import SplitIndex, index_windows, presented
from trainables.data.windows import Table, Windows, standard
from trainables.errors import DataError, Problem
from trainables.schema import ResolvedData, ResolvedTask

# Shape suffixes: T rows of the dataset, N windows, F features, S = 2F window statistics.
Floats = npt.NDArray[np.float64]

MAX_SAMPLE = 100_000  # windows that drift is held against


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a trial took from its training windows, apart from its weights.

    Attributes:
        standard: of the features (zscore), or of the window statistics (revin); None where nothing is scaled.
        label_mean: of the training labels, in label units.
        label_variance: likewise, in label units squared.
        label_shares: of the classes; empty where labels are values.
        sample_NF: features of the training windows' last bars before scaling: what drift is held against.
        last: the last bar that a training label uses.
        spacing_ns: median time between bars of one asset.
    """

    standard: Standardizer | None
    label_mean: float
    label_variance: float
    label_shares: tuple[float, ...]
    sample_NF: Floats
    last: np.datetime64
    spacing_ns: int


def fit(dataset: Dataset, data: ResolvedData, task: ResolvedTask) -> Fitted:
    """Take from a trial's own data what its training took.

    Raises:
        DataError: not the dataset that the trial was resolved for.
    """
    index = index_windows(dataset, data, task)
    train = index.splits["train"]
    shares = tuple(float(np.mean(train.labels_N == number)) for number in range(task.n_classes))
    return Fitted(
        standard=standard(index, data),
        label_mean=float(train.labels_N.mean()),
        label_variance=float(train.labels_N.var()),
        label_shares=shares,
        sample_NF=index.data.values_TF[train.spread(MAX_SAMPLE).ends_N].astype(np.float64),
        last=dataset.dates_T[train.ends_N + task.lookahead].max(),
        spacing_ns=spacing(dataset),
    )


def spacing(dataset: Dataset) -> int:
    """Median time between consecutive bars of one asset, in nanoseconds."""
    gaps = [np.diff(dataset.dates_T[rows.part].astype(np.int64)) for rows in dataset.rows]
    return int(np.median(np.concatenate(gaps))) if sum(map(len, gaps)) else 0


@dataclass(frozen=True, eq=False)
class NewWindows:
    """All windows of some bars.

    Attributes:
        index: labels are NaN where the future is not complete.
        data: features as presented, before scaling.
        windows: the same, scaled, on the CPU.
    """

    index: SplitIndex
    data: Represented
    windows: Windows


def windows_of(dataset: Dataset, data: ResolvedData, task: ResolvedTask, fitted: Fitted) -> NewWindows:
    """Present and scale new bars.

    Raises:
        DataError: no asset has as many complete bars as a window.
    """
    represented = presented(dataset, data)
    ends, labels_T = [], np.empty(len(dataset.dates_T))
    for rows in dataset.rows:
        complete_T = represented.complete_T[rows.part]
        first = rows.start + int(np.argmax(complete_T)) if complete_T.any() else rows.stop
        ends.append(np.arange(first + task.context - 1, rows.stop, dtype=np.int64))
        labels_T[rows.part] = make_labels(dataset.bars(rows), task)
    ends_N = np.concatenate(ends)
    if not len(ends_N):
        message = f"no window of {task.context} bars: the features need some bars before their first value, too"
        raise DataError(
            Problem(place=", ".join(dataset.entry.sources), message=message, fix="give earlier bars as well")
        )
    index = SplitIndex(ends_N, labels_T[ends_N], dataset.place, np.unique(dataset.dates_T), len(ends_N))
    table = Table(represented, task.context, torch.device("cpu"), fitted.standard, revin=data.scaling == "revin")
    return NewWindows(index, represented, Windows(table, index))
