"""How far two samples of the model's inputs differ, and how well one input alone ranks a label.

Array names: N windows (M of another split), K inputs.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_BINS = 10
_ROUNDING = 1e-12  # a spread this small relative to its mean is rounding error


def constant(values_NK: Floats) -> Flags:
    """Which columns never change, [K]."""
    return np.asarray(values_NK.std(axis=0) <= _ROUNDING * np.abs(values_NK.mean(axis=0)), dtype=bool)


def mean_shift(train_NK: Floats, other_MK: Floats) -> Floats:
    """Difference of the means in standard deviations of the training sample, [K]; columns must vary in it."""
    shift_K: Floats = (other_MK.mean(axis=0) - train_NK.mean(axis=0)) / train_NK.std(axis=0)
    return shift_K


def population_stability(train_NK: Floats, other_MK: Floats) -> Floats:
    """Population stability index, [K]: sum over bins of (q - p) ln(q / p), p in training and q in the other sample.

    Bins are the deciles of the training sample (Siddiqi 2006, 'Credit Risk Scorecards'); half a count is added to each,
    so that an empty bin has a logarithm.
    """
    edges_EK = np.quantile(train_NK, np.linspace(0, 1, _BINS + 1)[1:-1], axis=0)
    found = [
        _stability(train_N, other_M, np.unique(edges_E))
        for train_N, other_M, edges_E in zip(train_NK.T, other_MK.T, edges_EK.T, strict=True)
    ]
    return np.array(found, dtype=np.float64)


def _stability(train_N: Floats, other_M: Floats, edges_E: Floats) -> float:
    p_B, q_B = (
        (np.bincount(np.searchsorted(edges_E, values), minlength=len(edges_E) + 1) + 0.5)
        / (len(values) + 0.5 * (len(edges_E) + 1))
        for values in (train_N, other_M)
    )
    return float(np.sum((q_B - p_B) * np.log(q_B / p_B)))


def duplicates(values_NK: Floats, limit: float) -> list[tuple[int, int, float]]:
    """Pairs of varying columns whose correlation is beyond `limit` in size, with it."""
    varying = np.flatnonzero(~constant(values_NK))
    if len(varying) < 2:
        return []
    correlation = np.asarray(np.corrcoef(values_NK[:, varying], rowvar=False))
    pairs = np.argwhere(np.triu(np.abs(correlation) > limit, k=1))
    return [(int(varying[i]), int(varying[j]), float(correlation[i, j])) for i, j in pairs]


def single_auc(values_NK: Floats, positive_N: Flags) -> Floats:
    """Area under the ROC curve of each column alone, in its better direction, [K]; 1/2 where one class is absent.

    From the rank sum (Mann and Whitney 1947).
    """
    n, n_positive = len(positive_N), int(positive_N.sum())
    if n_positive in (0, n):
        return np.full(values_NK.shape[1], 0.5)
    ranks_NK = pd.DataFrame(values_NK).rank().to_numpy()
    sums_K = ranks_NK[positive_N].sum(axis=0) - n_positive * (n_positive + 1) / 2
    auc_K = sums_K / (n_positive * (n - n_positive))
    better_K: Floats = np.maximum(auc_K, 1 - auc_K)
    return better_K
