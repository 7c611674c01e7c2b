"""Labels: the only place that may look ahead."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.dataset import asset_rows
from trainables.schema import TaskSpec

Array = npt.NDArray[np.float64]

# Relative difference of prices that counts as none. Prices are decimal numbers, and in binary close x (1 + threshold)
# is off by some 1e-16: compared exactly, 6 to 16 of 100 highs of 1 % more and 32 of 100 of 5 % more would be missed. A
# price in cents that does not reach a threshold of whole percents misses it by 1e-4, which is more than this up to a
# price of a million.
ROUNDING = 1e-10


def make_labels(frame: pd.DataFrame, task: TaskSpec) -> Array:
    """What happens in the `h = task.horizon` bars after each bar t, of the same asset.

    - threshold: 1 if the highest high (or close, `task.price`) of bars t+1 .. t+h reaches close_t x (1 + threshold)
    - direction: 1 if close_{t+h} is above close_t, else 0
    Both but for rounding errors (`ROUNDING`): a high of exactly that value reaches it.
    - regression: ln(close_{t+h} / close_t)

    Args:
        frame: bars with columns close and high; a long table sorted by asset and date, or one asset's.
        task: kind, horizon in bars, threshold and price.

    Returns:
        [T] float64; NaN where fewer than h bars follow, even if the threshold was reached before the end of the data.
    """
    close_T = frame["close"].to_numpy(dtype=np.float64)
    price_T = frame[task.price].to_numpy(dtype=np.float64)
    labels_T = np.full(len(frame), np.nan)
    for rows in asset_rows(frame):
        part = slice(rows.start, rows.stop)
        labels_T[part] = _of_one_asset(close_T[part], price_T[part], task)
    return labels_T


def _of_one_asset(close_T: Array, price_T: Array, task: TaskSpec) -> Array:
    horizon = task.horizon
    labels_T = np.full(len(close_T), np.nan)
    if len(close_T) <= horizon:
        return labels_T
    now, later = close_T[:-horizon], close_T[horizon:]
    if task.kind == "threshold":
        highest = pd.Series(price_T).rolling(horizon).max().to_numpy()[horizon:]  # at t+h: the maximum of t+1 .. t+h
        labels_T[:-horizon] = highest >= now * (1 + task.threshold) * (1 - ROUNDING)
    elif task.kind == "direction":
        labels_T[:-horizon] = later > now * (1 + ROUNDING)
    else:
        labels_T[:-horizon] = np.log(later / now)
    return labels_T
