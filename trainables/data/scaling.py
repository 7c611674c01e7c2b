"""Scaling: z-scores fitted on training rows, and per-window (RevIN) moments with what they would erase.

RevIN (Kim et al. 2022, "Reversible instance normalization") subtracts a window's mean and divides by its standard
deviation, feature by feature. That also takes away the window's volatility, which a threshold label is about, so the
scale and the level of every window are further inputs of the model. Nothing is reversed: the outputs are logits, not
prices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trainables.data.representation import Represented
from trainables.data.splits import Flags
from trainables.errors import DataError, Problem

# Shape suffixes: T rows of the dataset, N windows, F features, L context bars, S = 2F window statistics.
Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

# Smallest scale of a window, in units of the feature (a share of the close, of the mean volume, ...): a tenth of a
# basis point of the close. Keeps the logarithm finite where a window is flat, as weekly features in a short one are.
SCALE_FLOOR = 1e-5
_ROUNDING = 1e-12  # a spread this small relative to its mean is rounding error, not spread
CHUNK_WINDOWS = 20_000  # whose statistics are held at once
_CHUNK_VALUES = 4_000_000  # window values held at once while moments are taken: 32 MB


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Mean and standard deviation of each column (population form, divided by the count)."""

    mean_F: Array
    std_F: Array

    def apply(self, values_NF: Array) -> Array:
        """(values - mean) / std."""
        return (values_NF - self.mean_F) / self.std_F


@dataclass(frozen=True, eq=False)
class WindowMoments:
    """Moments of windows over their contexts, and the statistics that a model is given.

    Attributes:
        mean_NF: in the features' own units.
        std_NF: in the features' own units, never below `SCALE_FLOOR` units.
        stats_NS: first F columns: ln(std / unit); last F columns: (mean - origin) / unit, unit and origin being those
            of the window's last bar (`representation.Represented`). Free of the unit of price and volume.
    """

    mean_NF: Array
    std_NF: Array
    stats_NS: Array


def fit(pieces: Iterable[npt.NDArray[np.floating]], names: Sequence[str]) -> Standardizer:
    """Mean and standard deviation of each column over all rows of some pieces, of which one at a time is in memory.

    Pieces are joined as in Chan, Golub and LeVeque (1983), 'Algorithms for computing the sample variance'.

    Raises:
        DataError: a column that does not vary, by name.
    """
    count, mean_F, squares_F = 0, np.zeros(len(names)), np.zeros(len(names))
    for piece in (piece for piece in pieces if len(piece)):
        x_NF = piece.astype(np.float64)
        own_F, total = x_NF.mean(axis=0), count + len(x_NF)
        squares_F += x_NF.var(axis=0) * len(x_NF) + (own_F - mean_F) ** 2 * (count * len(x_NF) / total)
        mean_F = mean_F + (own_F - mean_F) * (len(x_NF) / total)
        count = total
    std_F = np.sqrt(squares_F / max(1, count))
    flat_F = std_F <= _ROUNDING * np.abs(mean_F)
    if flat_F.any():
        fix = "use a longer training span, a larger fraction, or another tier"
        raise DataError(
            Problem(place=f"feature {names[column]}", message="never changes over the training windows", fix=fix)
            for column in np.flatnonzero(flat_F).tolist()
        )
    return Standardizer(mean_F, std_F)


def across_assets(
    values_TF: Floats, dates_T: npt.NDArray[np.datetime64], among_T: Flags, *, rank: bool, out: Floats
) -> None:
    """Each feature relative to the other assets of its date: uniform ranks in -1/2 to 1/2, or z-scores.

    Args:
        values_TF: as presented.
        dates_T: of the rows.
        among_T: rows that are compared; all others are compared with these rows, and count in no comparison.
        rank: ranks, ties having the mean of theirs; else (value - mean) / standard deviation of the date's rows.
        out: [T, F]; gets NaN where a value is; 0 where a date has fewer than two rows, or all values are equal.
    """
    order = np.argsort(dates_T, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(dates_T[order])) + 1).tolist(), len(order)]
    for start, stop in pairwise(edges):
        rows = order[start:stop]
        x_AF, y_BF = (values_TF[some].astype(np.float64) for some in (rows, rows[among_T[rows]]))
        if len(y_BF) < 2:
            out[rows] = np.where(np.isfinite(x_AF), 0.0, np.nan)
        elif rank:
            below_AF = (y_BF[None] < x_AF[:, None]).sum(axis=1) + 0.5 * (y_BF[None] == x_AF[:, None]).sum(axis=1)
            out[rows] = np.where(np.isfinite(x_AF), below_AF / len(y_BF) - 0.5, np.nan)
        else:
            mean_F, std_F = y_BF.mean(axis=0), y_BF.std(axis=0)
            flat_F = std_F <= _ROUNDING * np.abs(mean_F)
            out[rows] = np.where(flat_F, 0.0 * x_AF, (x_AF - mean_F) / np.where(flat_F, 1.0, std_F))


def statistic_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the S = 2F columns of `WindowMoments.stats_NS`."""
    return tuple(f"log_scale({name})" for name in names) + tuple(f"level({name})" for name in names)


def moments(values_TF: Floats, ends_N: Ints, bars: int) -> tuple[Array, Array]:
    """Mean and variance, [N, F], of the last `bars` rows up to and including each end."""
    n_features = values_TF.shape[1]
    mean_NF, variance_NF = np.empty((2, len(ends_N), n_features))
    chunk = max(1, _CHUNK_VALUES // (bars * n_features))
    if len(ends_N):
        contexts = np.lib.stride_tricks.sliding_window_view(values_TF, bars, axis=0)  # [T-L+1, F, L]
        for first in range(0, len(ends_N), chunk):
            part = slice(first, first + chunk)
            x_NFL = contexts[ends_N[part] - bars + 1].astype(np.float64)
            mean_NF[part], variance_NF[part] = x_NFL.mean(axis=-1), x_NFL.var(axis=-1)
    return mean_NF, variance_NF


def window_moments(data: Represented, ends_N: Ints, context: int) -> WindowMoments:
    """Moments of the windows that end at given rows.

    Args:
        data: features before scaling.
        ends_N: last row of each window.
        context: bars in a window.
    """
    mean_NF, variance_NF = moments(data.values_TF, ends_N, context)
    unit_NF, origin_NF = (array_TF[ends_N].astype(np.float64) for array_TF in (data.unit_TF, data.origin_TF))
    std_NF = np.sqrt(variance_NF + (SCALE_FLOOR * unit_NF) ** 2)
    stats_NS = np.concatenate([np.log(std_NF / unit_NF), (mean_NF - origin_NF) / unit_NF], axis=1)
    return WindowMoments(mean_NF, std_NF, stats_NS)
