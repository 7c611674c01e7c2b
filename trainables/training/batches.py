"""Intervals of one trial's numbers: a jackknife over a few batches of consecutive dates, with Student's t.

Losses of neighbouring dates resemble each other, by more than the labels do: a model's error lasts as long as the state
of the market that it misses. A few long batches need no estimate of how long that is; their number sets the degrees of
freedom. A statistic need not be a mean: it is formed anew without each batch (Quenouille 1956; Tukey 1958), and of a
mean that is the method of batch means (Schmeiser 1982, 'Batch size effects in the analysis of simulation output').

Array names: N windows, T dates, R = 1 + K rows: all windows, then all but each of K batches.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from trainables.training.bootstrap import Floats

# Fewer cover more where losses are persistent, and are wider where they are not: at 665 independent windows the width
# is 1.16 times that of a normal interval with 8 batches, 1.33 times with 5 (benchmarks/interval_coverage.py).
BATCHES = 8
LEVEL = 0.95


def leave_one_out(dates_N: npt.NDArray[np.datetime64]) -> Floats:
    """Weights of windows, [R, N]: 1 in the first row; in each further row 0 in one batch and 1 elsewhere.

    Batches hold consecutive dates, about equally many; windows of several assets on one date share a batch.

    Args:
        dates_N: end date of each window, in any order, repeated across assets.
    """
    dates_T, code_N = np.unique(dates_N, return_inverse=True)
    count = min(BATCHES, len(dates_T))
    batch_N = code_N * count // max(1, len(dates_T))
    kept_KN = batch_N != np.arange(count)[:, None]
    return np.vstack([np.ones((1, len(dates_N))), kept_KN])


def interval(
    values_R: Floats, within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of a statistic, cut at the values that it can take.

    None where it is unknown: fewer than two batches, or a value that is missing without one of them (of a ranking,
    where that batch holds all windows of one class).

    Args:
        values_R: the statistic under each row of `leave_one_out`.
        within: its smallest and largest possible value.
    """
    whole, left_out_K = values_R[0], values_R[1:]
    count = len(left_out_K)
    if count < 2 or not np.isfinite(values_R).all():
        return None, None
    error = math.sqrt((count - 1) / count * np.sum((left_out_K - left_out_K.mean()) ** 2))
    reach = error * float(stdtrit(count - 1, (1 + LEVEL) / 2))
    low, high = np.clip((whole - reach, whole + reach), *within)
    return float(low), float(high)
