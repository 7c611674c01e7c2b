"""Paired block bootstrap over time, for differences between trials: every trial of a sweep has the same resamples.

Intervals of a single trial's numbers are those of `batches`: a block length that suits all trials is taken from the
labels, and a single trial's losses can depend on time for longer than they do.

Dates are resampled, not windows: windows of several assets on one date share that date's news. Blocks of consecutive
dates are resampled, not single dates, because overlapping labels and clustered volatility make neighbours alike.
Politis and Romano 1992, 'A circular block-resampling procedure for stationary data'; block length after Politis and
White 2004 with the correction of Patton, Politis and White 2009 (`arch.bootstrap.optimal_block_length`).

Array names: N windows, T dates, R resamples of one piece.
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
PERCENT = (2.5, 97.5)  # a 95 % percentile interval
_PIECE = 4_000_000  # numbers held at once: 32 MB


class BlockBootstrap:
    """Resamples of the dates of one split.

    They depend on the dates, the horizon and the label alone, never on a trial: the same resample number is the same
    sample in every trial, so that differences between trials are paired.
    """

    def __init__(self, dates_N: npt.NDArray[np.datetime64], series_N: Floats, *, horizon: int, label: str) -> None:
        """Set the resamples up.

        Args:
            dates_N: end date of each window, in any order, repeated across assets.
            series_N: a series of the task, the same for all trials, whose dependence over time sets the block length.
            horizon: dates that a label spans (`label_span`); blocks are at least this long.
            label: names the label; part of the seed.
        """
        dates_T, code_N = np.unique(dates_N.astype("datetime64[ns]"), return_inverse=True)
        self.n_dates = len(dates_T)
        self._code_N = code_N
        self._windows_T = np.bincount(code_N).astype(np.float64)
        self.block_length = block_length(np.bincount(code_N, weights=series_N) / self._windows_T, horizon)
        facts = dates_T.astype(np.int64).tobytes() + f"{horizon}:{label}".encode()
        self._seed = int.from_bytes(hashlib.sha256(facts).digest()[:8], "big")

    def counts(self) -> Iterator[Floats]:
        """How often each date occurs in each resample, in pieces [R, T]; every row adds up to the number of dates."""
        random = np.random.default_rng(self._seed)
        n, length = self.n_dates, self.block_length
        blocks = math.ceil(n / length)
        lengths = np.full(blocks, length)
        lengths[-1] = n - length * (blocks - 1)
        at_once = max(1, min(RESAMPLES, _PIECE // n))
        for start in range(0, RESAMPLES, at_once):
            rows = min(at_once, RESAMPLES - start)
            yield _circular_counts(random.integers(n, size=(rows, blocks)), lengths, n)

    def means(self, counts_RT: Floats, values_N: Floats) -> Floats:
        """Mean over the windows of each resample."""
        sums_T = np.bincount(self._code_N, weights=values_N)
        means_R: Floats = (counts_RT @ sums_T) / (counts_RT @ self._windows_T)
        return means_R


def label_span(dates_N: npt.NDArray[np.datetime64], lookahead: int) -> int:
    """Dates that a label spans: its bars, or more where assets of other calendars have dates in between.

    Args:
        dates_N: end date of each window, of one asset after the other, ascending for each.
        lookahead: bars that a label spans.
    """
    code_N = np.unique(dates_N, return_inverse=True)[1]
    of_assets = np.split(code_N, np.flatnonzero(np.diff(code_N) <= 0) + 1)
    spans = [int(np.median(one[lookahead:] - one[:-lookahead])) for one in of_assets if len(one) > lookahead]
    return max([lookahead, *spans])


def block_length(series_T: Floats, horizon: int) -> int:
    """Length of a block in dates: the larger of the horizon and the optimal length for the series.

    At most a third of the dates, beyond which resamples hardly differ from the sample and intervals would look narrow;
    a split whose horizon is that long has been refused before as too small.
    """
    from arch.bootstrap import optimal_block_length  # takes a second to import, and only the end of a trial needs it

    n = len(series_T)
    optimal = math.nan
    if n >= 10 and np.ptp(series_T) > 0:
        with np.errstate(all="ignore"):  # a series that ends constant divides by zero inside
            optimal = float(optimal_block_length(series_T)["circular"].iloc[0])
    longest = max(horizon, math.ceil(optimal) if math.isfinite(optimal) else 1)
    return max(1, min(longest, n // 3))


def _circular_counts(starts_RK: npt.NDArray[np.int64], lengths_K: npt.NDArray[np.int64], n: int) -> Floats:
    """Occurrences of each of `n` positions in blocks (K a resample) that wrap around: +1 at starts, -1 past ends."""
    rows = len(starts_RK)
    ends_RK = starts_RK + lengths_K
    offset_R1 = np.arange(rows)[:, None] * (n + 1)
    up_RT = np.bincount((starts_RK + offset_R1).ravel(), minlength=rows * (n + 1))
    down_RT = np.bincount((np.where(ends_RK > n, ends_RK - n, ends_RK) + offset_R1).ravel(), minlength=rows * (n + 1))
    change_RT = (up_RT - down_RT).reshape(rows, n + 1)
    change_RT[:, 0] += (ends_RK > n).sum(axis=1)  # a block that wraps also covers the first positions
    return np.cumsum(change_RT[:, :n], axis=1, dtype=np.float64)


def interval(values_R: Floats) -> tuple[float, float] | tuple[None, None]:
    """The percentile interval over resamples; resamples without a value (one class only) are left out."""
    known = values_R[np.isfinite(values_R)]
    if len(known) == 0:
        return None, None
    low, high = np.percentile(known, PERCENT)
    return float(low), float(high)
