"""What a task's labels look at, found by changing the bars after them.

Array names: T bars.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.errors import ConfigError, InputError, Problem
from trainables.tasks.registry import BARS, Task

Array = npt.NDArray[np.float64]

MAX_BARS = 20_000  # the newest bars of an asset that are looked at
CUTS = 8  # places at which the future is changed: a task that looks ahead by a fixed number of bars does so at each
FACTORS = (0.5, 2.0)  # prices and volumes after a cut: labels of rises and of falls both move
_FRACTIONS = np.linspace(0.2, 0.95, CUTS)


def labels(task: Task, bars: pd.DataFrame) -> Array:
    """Labels [T] as float64, from the columns that a task may see.

    Raises:
        ConfigError: the task failed on these bars.
    """
    columns = [name for name in BARS if name in bars.columns]
    seen = (bars if len(columns) == len(bars.columns) else bars[columns]).reset_index(drop=True)
    try:
        return np.array(task.labels(seen), dtype=np.float64)
    except InputError:
        raise
    except Exception as error:  # code of somebody else
        message = f"failed on {len(bars)} bars: {type(error).__name__}: {error}"
        fix = f"correct it ({task.part.source.place})"
        raise ConfigError(Problem(place=f"task {task.part.name}", message=message, fix=fix)) from error


def wrong_values(labels_T: Array, n_bars: int, n_classes: int) -> str:
    """What is wrong with labels: their number, or values that are none of the outcome's; empty if nothing is.

    Args:
        labels_T: as the task gave them.
        n_bars: how many there must be.
        n_classes: of the outcome; 0 where labels are values.
    """
    if labels_T.shape != (n_bars,):
        return f"labels have the shape {labels_T.shape}; one a bar, ({n_bars},), is needed"
    known = labels_T[~np.isnan(labels_T)]
    if not np.isfinite(known).all():
        return "a label is infinite; NaN says that it is not known"
    if n_classes and len(strange := known[~np.isin(known, np.arange(n_classes))]):
        return f"a label is {strange[0]:g}; {n_classes} classes are numbered from 0 to {n_classes - 1}"
    return ""


def beyond(task: Task, bars: pd.DataFrame, ahead: int) -> str:
    """Which label uses bars that are more than `ahead` bars after it, in words; empty if none does.

    At some places the bars after a cut are made other ones, or taken away: labels that lie `ahead` bars and more before
    the cut must stay as they are.
    """
    bars = bars.iloc[-MAX_BARS:]
    whole_T = labels(task, bars)
    places = np.unique((_FRACTIONS * len(bars)).astype(int))
    for cut in (int(place) for place in places if ahead < place < len(bars)):
        settled = cut - ahead  # labels of the rows before it use no bar from the cut on
        for future in (*(_changed(bars, cut, factor) for factor in FACTORS), bars.iloc[:cut]):
            found_T = labels(task, future)[:settled]
            same = (found_T == whole_T[:settled]) | (np.isnan(found_T) & np.isnan(whole_T[:settled]))
            if not same.all():
                row = int(np.argmin(same))
                return (
                    f"the label of bar {row} changes with bars from {cut} on, {cut - row} bars later; its lookahead is "
                    f"{ahead}"
                )
    return ""


def _changed(bars: pd.DataFrame, cut: int, factor: float) -> pd.DataFrame:
    """The bars with other prices and volumes from a row on."""
    numeric = [name for name in BARS if name != "date" and name in bars.columns]
    other = bars.copy()
    values = other[numeric].to_numpy(dtype=np.float64, copy=True)
    values[cut:] *= factor
    other[numeric] = values
    return other
