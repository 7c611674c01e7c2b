"""Gathering windows in batches from one tensor on the device.

Consecutive rows of a contiguous table are one run of memory, so all windows together are a strided view of the table,
and a batch is one `index_select` on that view: nothing is copied but the batch itself.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data import scaling, splits
from trainables.data.dataset import Dataset
from trainables.data.splits import EffectiveSize, SplitName
from trainables.data.window_index import SplitIndex, WindowIndex, index_windows
from trainables.schema import ResolvedData, ResolvedTask, Scaling

__all__ = ["Batch", "SplitIndex", "TrialData", "WindowIndex", "Windows", "build", "index_windows"]

# Shape suffixes: T rows of the dataset, N windows of a split, B batch, L context bars, F features, S window statistics,
# W = T - L + 1 starts of windows.
Floats = npt.NDArray[np.float64]


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


class Windows:
    """The windows of one split, gathered by index from a table that all splits share.

    Attributes:
        features_TF: float32 on the device: the whole dataset; NaN in rows that warm up, which no window uses.
        ends_N: int64 on the device: row of each window's end.
        labels_N: float32 on the device.
        dates_N: datetime64[ns] of each window's end (numpy).
        assets_N: asset of each window (numpy).
        bars_N: position of each window's end on the common time axis (numpy).
        context: bars in a window.
    """

    def __init__(
        self, features_TF: Tensor, index: SplitIndex, context: int, moments: scaling.WindowMoments | None = None
    ) -> None:
        device = features_TF.device
        self.features_TF = features_TF
        self.context = context
        self.ends_N = torch.from_numpy(index.ends_N).to(device)
        self.labels_N = _to_device(index.labels_N, device)
        self.dates_N, self.assets_N, self.bars_N = index.dates_N, index.assets_N, index.bars_N
        self._starts_N = self.ends_N - (context - 1)
        n_rows, n_features = features_TF.shape
        # max(): a table shorter than a window has no windows, and nothing is ever gathered from the empty view
        self._x_WLF = features_TF.contiguous().as_strided(
            (max(0, n_rows - context + 1), context, n_features), (n_features, n_features, 1)
        )
        self._moments: tuple[Tensor, Tensor, Tensor] | None = None
        if moments is not None:
            scale_NF = 1 / moments.std_NF
            parts = (scale_NF[:, None], (-moments.mean_NF * scale_NF)[:, None], moments.stats_NS)
            scale_N1F, shift_N1F, stats_NS = (_to_device(part, device) for part in parts)
            self._moments = scale_N1F, shift_N1F, stats_NS

    def __len__(self) -> int:
        return len(self.ends_N)

    def batch(self, index_B: Tensor) -> Batch:
        """Gather windows.

        Args:
            index_B: int64 on the device, each below ``len(self)``; any order, repeats allowed.
        """
        x_BLF = self._x_WLF.index_select(0, self._starts_N.index_select(0, index_B))
        y_B = self.labels_N.index_select(0, index_B)
        if self._moments is None:
            return Batch(x_BLF, None, y_B)
        scale_N1F, shift_N1F, stats_NS = self._moments
        # x * scale + shift in one pass, in place: 34 us against 47 us for (x - mean) * scale (CPU, B 128, L 60, F 20)
        torch.addcmul(shift_N1F.index_select(0, index_B), x_BLF, scale_N1F.index_select(0, index_B), out=x_BLF)
        return Batch(x_BLF, stats_NS.index_select(0, index_B), y_B)

    def take(self, index_M: Tensor) -> "Windows":
        """Some of the windows, in the order given, repeats allowed; the table is shared.

        Args:
            index_M: int64 on the device, each below ``len(self)``.
        """
        taken = copy.copy(self)
        host_M = index_M.cpu().numpy()
        taken.dates_N, taken.assets_N, taken.bars_N = self.dates_N[host_M], self.assets_N[host_M], self.bars_N[host_M]
        for name in ("ends_N", "labels_N", "_starts_N"):
            setattr(taken, name, getattr(self, name).index_select(0, index_M))
        if self._moments is not None:
            scale_N1F, shift_N1F, stats_NS = (part.index_select(0, index_M) for part in self._moments)
            taken._moments = scale_N1F, shift_N1F, stats_NS
        return taken


def _to_device(values: Floats, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


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
    """Index, check, scale, and put a trial's data on its device.

    Raises:
        InfeasibleError: a split is too small (`WindowIndex.check`).
        DataError: not the dataset that was resolved, or a feature that never changes over the training windows.
        ConfigError: a split is empty whatever the task.
    """
    index = index_windows(dataset, data, task)
    index.check()
    values_TF, moments = _scale(index, data.scaling)
    features_TF = _to_device(values_TF, device)
    parts = {name: Windows(features_TF, part, task.context, moments.get(name)) for name, part in index.splits.items()}
    labels_N = index.splits["train"].labels_N
    return TrialData(
        **{str(name): part for name, part in parts.items()},
        n_features=len(index.features),
        n_window_stats=2 * len(index.features) if data.scaling == "revin" else 0,
        effective=index.effective,
        label_mean=float(labels_N.mean()),
        label_variance=float(labels_N.var()),
        label_shares=splits.class_shares(labels_N, task.n_classes),
    )


def _scale(index: WindowIndex, how: Scaling) -> tuple[Floats, dict[SplitName, scaling.WindowMoments]]:
    values_TF, context = index.data.values_TF, index.task.context
    if how in ("none", "rank", "by_date"):  # across assets it was done when windows were indexed
        return values_TF, {}
    if how == "zscore":
        used = index.splits["train"].rows(context)
        return scaling.fit(values_TF[used], index.features).apply(values_TF), {}
    moments = {name: scaling.window_moments(index.data, part.ends_N, context) for name, part in index.splits.items()}
    return values_TF, scaling.standardize_statistics(moments, index.features)
