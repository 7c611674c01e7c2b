"""Steps of the price level that no market makes: splits that were not adjusted, and changes of the unit."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

_FACTORS = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100)
_NEAR = 0.06  # of the ratio to a factor: the move of an ordinary day comes on top
_BARS = 5  # on each side, of whose closes the medians must step as well: a single wrong bar is no split
_LISTED = 3


@dataclass(frozen=True)
class Jump:
    """The level of one asset steps between two neighbouring bars. `factor` is above 1 for a rise, below for a fall."""

    asset: str
    day: date
    factor: float

    def __str__(self) -> str:
        """Such as '2014-12-12 spy: to 1/20'."""
        to = f"{self.factor:g} times" if self.factor > 1 else f"1/{1 / self.factor:g}"
        return f"{self.day} {self.asset}: to {to}"


def jumps(bars: pd.DataFrame, asset: str) -> list[Jump]:
    """Every step of the level by a usual factor of splits, or by 100 (pence and pounds).

    Args:
        bars: of one asset, with columns open and close, indexed by date.
        asset: its name.
    """
    opens, closes = bars["open"].to_numpy(np.float64), bars["close"].to_numpy(np.float64)
    if len(closes) < 2 * _BARS:
        return []
    overnight = opens[1:] / closes[:-1]
    found = []
    for place in np.flatnonzero((overnight < 1 / 1.4) | (overnight > 1.4)) + 1:
        before, after = closes[max(0, place - _BARS) : place], closes[place : place + _BARS]
        level = np.median(after) / np.median(before)
        for factor in (*_FACTORS, *(1 / one for one in _FACTORS)):
            if abs(overnight[place - 1] / factor - 1) < _NEAR and abs(level / factor - 1) < 2 * _NEAR:
                day = pd.Timestamp(bars.index[int(place)]).date()
                found.append(Jump(asset, day, factor))
                break
    return found


def words(found: list[Jump]) -> str:
    """The first of them, and how many more there are."""
    more = len(found) - _LISTED
    return ", ".join(map(str, found[:_LISTED])) + (f" and {more} more" if more > 0 else "")
