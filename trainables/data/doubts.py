"""Bars that no market makes, as far as numbers can say so: to be looked at, with their dates.

Steps of the price level (splits that were not adjusted, changes of the unit), single prices far off, runs of bars that
repeat each other, and sessions without a bar.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.calendars import Calendar
from trainables.data.columns import PRICES
from trainables.data.session import Sessions

_FACTORS = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100)
_NEAR = 0.06  # of the ratio to a factor: the move of an ordinary day comes on top
_BARS = 5  # on each side, of whose closes the medians must step as well: a single wrong bar is no split
# A price that is this far from its neighbours on both sides: 10 % at least, and 20 deviations of a bar's move, from its
# absolute median. The largest daily move of the S&P 500, of 1987-10-19, was of 21 and did not come back the next day.
_FAR, _DEVIATIONS = 0.10, 20.0
_TO_DEVIATION = 1.4826  # of a normal distribution, from its absolute median
_REPEATED = 5  # equal bars in a row, over a day or more
_LISTED = 3
KINDS = {
    "jump": "the price level steps, as of a split that was not adjusted or another unit",
    "outlier": "single prices are far off and come back",
    "stale_run": "bars repeat each other",
    "missing_session": "bars do not agree with the calendar",
}


@dataclass(frozen=True)
class Doubt:
    """One finding.

    Attributes:
        kind: one of `KINDS`.
        asset: its name.
        day: where it is, or begins.
        words: what it is, to follow day and asset.
    """

    kind: str
    asset: str
    day: date
    words: str

    def __str__(self) -> str:
        """Such as '2014-12-12 spy: to 1/20'."""
        return f"{self.day} {self.asset}: {self.words}"


def doubts(bars: pd.DataFrame, asset: str, calendar: Calendar | None = None) -> Iterator[Doubt]:
    """All findings of one asset.

    Args:
        bars: columns open, high, low and close, indexed by date.
        asset: its name.
        calendar: of the exchange, where it is known; of daily or finer bars.
    """
    dates = pd.DatetimeIndex(bars.index)
    prices = {name: bars[name].to_numpy(np.float64) for name in PRICES}
    found = [(place, "jump", words) for place, words in _jumps(prices["open"], prices["close"])]
    stepped = {place for place, _, _ in found}
    found += [(place, "outlier", words) for place, words in _outliers(prices) if place not in stepped]
    found += [(place, "stale_run", words) for place, words in _stale(prices, dates)]
    for place, kind, words in found:
        yield Doubt(kind, asset, dates[place].date(), words)
    if calendar is not None and len(dates):
        within_day = not dates.equals(dates.normalize())
        days = (Sessions.of(dates, calendar).days if within_day else dates).unique()
        for day in calendar.missing(days):
            yield Doubt("missing_session", asset, day.date(), f"no bar, and {calendar.name} was open")
        for day in calendar.closed(days):
            yield Doubt("missing_session", asset, day.date(), f"a bar, and {calendar.name} was closed")


def _jumps(opens: npt.NDArray[np.float64], closes: npt.NDArray[np.float64]) -> Iterator[tuple[int, str]]:
    """Every step of the level by a usual factor of splits, or by 100 (pence and pounds)."""
    if len(closes) < 2 * _BARS:
        return
    overnight = opens[1:] / closes[:-1]
    for place in np.flatnonzero((overnight < 1 / 1.4) | (overnight > 1.4)) + 1:
        before, after = closes[max(0, place - _BARS) : place], closes[place : place + _BARS]
        level = np.median(after) / np.median(before)
        for factor in (*_FACTORS, *(1 / one for one in _FACTORS)):
            if abs(overnight[place - 1] / factor - 1) < _NEAR and abs(level / factor - 1) < 2 * _NEAR:
                yield int(place), f"to {factor:g} times" if factor > 1 else f"to 1/{1 / factor:g}"
                break


def _outliers(prices: dict[str, npt.NDArray[np.float64]]) -> Iterator[tuple[int, str]]:
    """Single prices far off, which come back: closes from one bar to the next, highs and lows within their bar."""
    logs = {name: np.log(one) for name, one in prices.items()}
    if len(logs["close"]) < 2 * _BARS:
        return
    move = np.diff(logs["close"])
    limit = max(_FAR, _DEVIATIONS * _TO_DEVIATION * float(np.median(np.abs(move))))
    there, back = move[:-1], move[1:]
    nearer = np.minimum(np.abs(there), np.abs(back))
    for place in np.flatnonzero((nearer > limit) & (there * back < 0) & (np.abs(there + back) < nearer / 2)) + 1:
        yield int(place), f"a close of {prices['close'][place]:g} after {prices['close'][place - 1]:g}"
    high, low = np.maximum(logs["open"], logs["close"]), np.minimum(logs["open"], logs["close"])
    for name, beyond in (("high", logs["high"] - high), ("low", low - logs["low"])):
        for place in np.flatnonzero(beyond > limit):
            yield int(place), f"a {name} of {prices[name][place]:g} with a close of {prices['close'][place]:g}"


def _stale(prices: dict[str, npt.NDArray[np.float64]], dates: pd.DatetimeIndex) -> Iterator[tuple[int, str]]:
    """Runs of bars of which each repeats all prices of the one before."""
    equal = np.all([one[1:] == one[:-1] for one in prices.values()], axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2):
        if last - first + 1 >= _REPEATED and dates[last] - dates[first] >= pd.Timedelta(days=1):
            yield int(first), f"{last - first + 1} equal bars, to {dates[last]:%Y-%m-%d}"


def words(found: Iterable[Doubt]) -> str:
    """The first of them, and how many more there are."""
    all_of_them = list(found)
    more = len(all_of_them) - _LISTED
    return ", ".join(map(str, all_of_them[:_LISTED])) + (f" and {more} more" if more > 0 else "")
