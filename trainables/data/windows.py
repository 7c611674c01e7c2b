"""Gathering windows in batches from a table on the device, or from one that is mapped into memory.

Consecutive rows of a contiguous table are one run of memory, so all windows together are a strided view of the table,
and a batch is one `index_select` on that view: nothing is copied but the batch itself. From a large table that is
mapped, or not on the device, a thread gathers the next batch while the model works on this one: pages may be on the
disk.
"""

import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data import scaling, splits
from trainables.data.dataset import Dataset
from trainables.data.maps import New, release
from trainables.data.representation import Represented
from trainables.data.scaling import SCALE_FLOOR, Standardizer
from trainables.data.splits import EffectiveSize, SplitName
from trainables.data.window_index import MAX_JUDGED, SplitIndex, WindowIndex, index_windows
from trainables.schema import ResolvedData, ResolvedTask

__all__ = ["Batch", "SplitIndex", "Table", "TrialData", "WindowIndex", "Windows", "build", "index_windows"]

# Shape suffixes: T rows of the dataset, N windows of a split, B batch, L context bars, F features, S window statistics,
# W = T - L + 1 starts of windows.
# A larger table stays in the host's memory: the rest of the GPU's is for models, and packed trials have a table each.
DEVICE_SHARE = 0.25
# Of a mapped table that count as this process's. A smaller one is soon in the system's cache: a thread would cost more
# than it saves.
RESIDENT_BYTES = 2 * 2**30
_FAULT_BYTES = 64 * 1024  # that the kernel maps around a page that is asked for (fault_around_bytes)


class Batch(NamedTuple):
    """One batch on the device.

    Attributes:
        x_BLF: float32, scaled; oldest bar first.
        stats_BS: float32 window statistics; None unless `scaling: revin`.
        y_B: float32 labels.
    """

    x_BLF: Tensor
    stats_BS: Tensor | None
    y_B: Tensor


def scaled(
    x_BLF: Tensor,
    revin: bool,
    standard: tuple[Tensor, Tensor] | None,
    unit_BF: Tensor | None = None,
    origin_BF: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Windows as a model is given them, and their statistics [B, S] with RevIN (`scaling.WindowMoments`).

    Args:
        x_BLF: as presented.
        revin: whether each window is normalised by itself.
        standard: mean and standard deviation of features, with RevIN of statistics; None where nothing is scaled.
        unit_BF: of each window's last bar; None = 1.
        origin_BF: likewise; None = 0.
    """
    if standard is None:
        return x_BLF, None
    mean, deviation = standard
    if not revin:
        return (x_BLF - mean) / deviation, None
    mean_BF, variance_BF = x_BLF.mean(dim=1), x_BLF.var(dim=1, unbiased=False)
    unit = torch.ones_like(mean_BF) if unit_BF is None else unit_BF
    origin = torch.zeros_like(mean_BF) if origin_BF is None else origin_BF
    deviation_BF = (variance_BF + (SCALE_FLOOR * unit) ** 2).sqrt()
    raw_BS = torch.cat([(deviation_BF / unit).log(), (mean_BF - origin) / unit], dim=1)
    return (x_BLF - mean_BF[:, None]) / deviation_BF[:, None], (raw_BS - mean) / deviation


class Table:
    """The features of all rows, which all splits share.

    Args:
        data: as presented.
        context: bars in a window.
        device: where batches are wanted. The table is copied there if it fits, and else stays mapped.
        standard: see `scaled`.
        revin: likewise.
    """

    def __init__(
        self, data: Represented, context: int, device: torch.device, standard: Standardizer | None, *, revin: bool
    ) -> None:
        self.device, self.context, self.revin = device, context, revin
        self.values_TF = _placed(data.values_TF, device)
        self.home = self.values_TF.device  # of indices and labels, too
        n_rows, n_features = self.values_TF.shape
        # max(): a table shorter than a window has no windows, and nothing is ever gathered from the empty view
        self._x_WLF = self.values_TF.as_strided(
            (max(0, n_rows - context + 1), context, n_features), (n_features, n_features, 1)
        )
        self._units: tuple[Tensor, Tensor] | None = None
        if revin and data.unit_TF.strides[0]:  # else all of them are 1, and the origins 0
            self._units = _placed(data.unit_TF, device), _placed(data.origin_TF, device)
        self._standard: tuple[Tensor, Tensor] | None = None
        if standard is not None:
            mean, deviation = (torch.from_numpy(one).float().to(device) for one in (standard.mean_F, standard.std_F))
            self._standard = mean, deviation
        self._mapped = data.values_TF, data.unit_TF, data.origin_TF
        too_large = isinstance(data.values_TF, np.memmap) and data.values_TF.nbytes > RESIDENT_BYTES
        self._streamed = self.home != self.device or (self.home.type == "cpu" and too_large)
        self._touched = 0
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[Tensor, Future[list[Tensor]]] | None = None
        self.waited_s = 0.0

    def batch(self, ends_B: Tensor, ends_of_next_B: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Windows that end at these rows, and their statistics, on the device.

        Args:
            ends_B: at home.
            ends_of_next_B: those of the next call: they are gathered meanwhile.
        """
        if not self._streamed:
            return self._scaled(self._gathered(ends_B))
        started = time.perf_counter()
        if self._next is not None and torch.equal(self._next[0], ends_B):
            parts = self._next[1].result()
        else:
            parts = self._gathered(ends_B)
        self.waited_s += time.perf_counter() - started
        self._next = None
        if ends_of_next_B is not None:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="gather")
            self._next = ends_of_next_B, self._thread.submit(self._gathered, ends_of_next_B)
        return self._scaled([part.to(self.device, non_blocking=True) for part in parts])

    def _gathered(self, ends_B: Tensor) -> list[Tensor]:
        pinned = self.device != self.home
        found = []
        for source, rows_B in (
            (self._x_WLF, ends_B - (self.context - 1)),
            *((unit_TF, ends_B) for unit_TF in self._units or ()),
        ):
            out = torch.empty((len(ends_B), *source.shape[1:]), device=self.home, pin_memory=pinned)
            found.append(torch.index_select(source, 0, rows_B, out=out))
        if self._streamed:
            self._touched += len(ends_B) * (_FAULT_BYTES + 4 * found[0][0].numel())
            if self._touched > RESIDENT_BYTES:
                release(*self._mapped)
                self._touched = 0
        return found

    def _scaled(self, parts: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        return scaled(parts[0], self.revin, self._standard, *parts[1:])


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether a table is kept in the device's own memory."""
    if device.type != "cuda":
        return False
    total: int = torch.cuda.get_device_properties(device).total_memory
    return n_bytes <= DEVICE_SHARE * total


def _placed(values_TF: npt.NDArray[Any], device: torch.device) -> Tensor:
    table_TF = torch.from_numpy(values_TF)
    return table_TF.to(device) if fits(values_TF.nbytes, device) else table_TF


class Windows:
    """The windows of one split, gathered by index from a table that all splits share.

    Attributes:
        table: the features.
        ends_N: int64 at the table's home: row of each window's end.
        labels_N: float64 likewise.
        index: the same windows, with dates and assets.
        device: where batches are.
    """

    def __init__(self, table: Table, index: SplitIndex) -> None:
        self.table, self.index, self.device = table, index, table.device
        self.ends_N = torch.from_numpy(index.ends_N).to(table.home)
        self.labels_N = torch.from_numpy(index.labels_N).to(table.home)

    def __len__(self) -> int:
        return len(self.ends_N)

    @property
    def dates_N(self) -> npt.NDArray[np.datetime64]:  # noqa: N802
        """datetime64[ns] of each window's end."""
        return self.index.dates_N

    @property
    def assets_N(self) -> npt.NDArray[np.str_]:  # noqa: N802
        """Asset of each window."""
        return self.index.assets_N

    def batch(self, index_B: Tensor, next_B: Tensor | None = None) -> Batch:
        """Gather windows.

        Args:
            index_B: int64 at the table's home, each below ``len(self)``; any order, repeats allowed.
            next_B: those that will be asked for next.
        """
        next_ends_B = None if next_B is None else self.ends_N.index_select(0, next_B)
        x_BLF, stats_BS = self.table.batch(self.ends_N.index_select(0, index_B), next_ends_B)
        return Batch(x_BLF, stats_BS, self.labels(index_B))

    def labels(self, index_B: Tensor) -> Tensor:
        """Labels of windows, float32 on the device."""
        return self.labels_N.index_select(0, index_B).float().to(self.device)

    def spread(self, most: int) -> "Windows":
        """At most so many of the windows, evenly spread."""
        return self if len(self) <= most else Windows(self.table, self.index.spread(most))

    def take(self, index_M: Tensor) -> "Windows":
        """Some of the windows, in the order given, repeats allowed; the table is shared.

        Args:
            index_M: int64 at the table's home, each below ``len(self)``.
        """
        taken = copy.copy(self)
        taken.index = self.index.where(index_M.cpu().numpy())
        taken.ends_N, taken.labels_N = (part.index_select(0, index_M) for part in (self.ends_N, self.labels_N))
        return taken


@dataclass(frozen=True, eq=False)
class TrialData:
    """Everything a trial trains and is judged on.

    Attributes:
        validation: judges; apart from `selection`, where there is one.
        n_features: F.
        n_window_stats: S: 2F with `scaling: revin`, else 0.
        effective: independent samples of each split.
        label_mean: mean of the training labels; of binary ones, the share of positives.
        label_variance: variance of the training labels (population form).
        label_shares: shares of the classes among the training labels; empty where labels are values.
        selection: chooses epochs; None where the splits have no such part.
    """

    train: Windows
    validation: Windows
    test: Windows
    n_features: int
    n_window_stats: int
    effective: dict[SplitName, EffectiveSize]
    label_mean: float
    label_variance: float
    label_shares: tuple[float, ...]
    selection: Windows | None = None


def build(dataset: Dataset, data: ResolvedData, task: ResolvedTask, device: torch.device) -> TrialData:
    """Index, check, scale, and put a trial's data on its device, where they fit.

    Raises:
        InfeasibleError: a split is too small (`WindowIndex.check`).
        DataError: not the dataset that was resolved, or a feature that never changes over the training windows.
        ConfigError: a split is empty whatever the task.
    """
    index = index_windows(dataset, data, task)
    index.check(splits.FLOOR)  # how many are enough was decided when the sweep was planned
    revin = data.scaling == "revin"
    table = Table(index.data, task.context, device, standard(index, data), revin=revin)
    parts = {name: Windows(table, part) for name, part in index.splits.items()}
    labels_N = index.splits["train"].labels_N

    def of_labels(_: New) -> dict[str, Any]:
        shares = splits.class_shares(labels_N, task.n_classes)
        return {"mean": float(labels_N.mean()), "variance": float(labels_N.var()), "shares": shares}

    # Kept: taking them leaves a worker with several times their size of memory that it does not give back.
    labels = dataset.maps.kept(f"{index.name}-labels", of_labels).info
    return TrialData(
        **{str(name): part for name, part in parts.items()},
        n_features=len(index.features),
        n_window_stats=2 * len(index.features) if revin else 0,
        effective=index.effective,
        label_mean=labels["mean"],
        label_variance=labels["variance"],
        label_shares=tuple(labels["shares"]),
    )


def standard(index: WindowIndex, data: ResolvedData) -> Standardizer | None:
    """What is fitted on training windows: of features (zscore) or of window statistics (revin); None = nothing.

    A logarithm of a scale is near -5 and a level within a few hundredths of 0: a model that is given both as they are
    learns from neither in a short training.

    Raises:
        DataError: a feature or statistic that does not vary, by name.
    """
    if data.scaling not in ("zscore", "revin"):
        return None
    train, names, context = index.splits["train"], index.features, index.task.context

    def make(new: New) -> dict[str, Any]:
        if data.scaling == "zscore":
            pieces = (index.data.values_TF[train.of_asset(rows).rows(context)] for rows in index.dataset.rows)
            found = scaling.fit(pieces, names)
        else:
            some = train.spread(MAX_JUDGED)
            chunks = np.array_split(some.ends_N, max(1, len(some) // scaling.CHUNK_WINDOWS))
            statistics = (scaling.window_moments(index.data, ends_N, context).stats_NS for ends_N in chunks)
            found = scaling.fit(statistics, scaling.statistic_names(names))
        new("mean_F", np.float64, found.mean_F.shape)[:] = found.mean_F
        new("std_F", np.float64, found.std_F.shape)[:] = found.std_F
        return {}

    return Standardizer(**index.dataset.maps.kept(f"{index.name}-{data.scaling}", make).arrays)
