"""One asset's bars as they would be used: picked, adjusted, put in order, repaired, and what is wrong with them."""

import logging
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data import calendars, columns, session
from trainables.data.barfile import values
from trainables.data.columns import NUMBERS, PRICES, index_of, to_ours
from trainables.data.source_registry import RawTable
from trainables.data.validation import find_problems, repaired, sound
from trainables.errors import DataError, Problem
from trainables.schema import AS_FOUND, DataSpec
from trainables.schema.common import INTRADAY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Source:
    """One asset's bars as they would be used, before anything is refused.

    Attributes:
        as_read: our columns, those that were found, indexed by row number, from old to new.
        bars: the same, repaired as asked.
        problems: why they would be refused.
        found: what was found out about the form of the source.
        done: what was repaired, in words.
        adjusted_by: names of the source's columns that prices were adjusted by.
        exchange: when bars within a day are traded; None for daily bars.
    """

    as_read: pd.DataFrame
    bars: pd.DataFrame
    problems: list[Problem]
    found: dict[str, str]
    done: list[str]
    adjusted_by: tuple[Hashable, ...]
    exchange: session.Exchange | None


def understood(raw: RawTable, asset: str, source: str, spec: DataSpec) -> Source:
    """Read, adjust, order and repair one asset's bars, and find what is wrong with them.

    Raises:
        DataError: `data.calendar` names none that is known, or nothing says when bars within a day are traded.
    """
    calendar = calendars.of(asset, spec)
    exchange = calendar or spec.session
    within_day = spec.timescale in INTRADAY or (calendar is None and exchange is not None)
    if calendar is None and within_day and (spec.session is None or spec.session.timezone is None):
        fix = f"name its calendar, data.calendar: {{{asset}: XNYS}} for instance, or give data.session"
        raise DataError(Problem(place=source, message="when it is traded is not said", fix=fix))
    read = to_ours(raw.frame, spec.columns, source, spec.format, exchange if within_day else None)
    if calendar and not within_day and "date" in read[0] and read[0]["date"].duplicated().mean() > 1 / 2:
        within_day, read = True, to_ours(raw.frame, spec.columns, source, spec.format, calendar)
    bars, problems, found = read
    bars, more, adjusted_by = adjusted(bars, raw.frame, spec, source)
    bars, without = volume_or_none(bars)
    bars = in_order(bars, source, sort=spec.sort)
    as_read = bars
    bars, done = repaired(bars, spec.repair)
    problems = [*problems, *more, *find_problems(bars, raw.frame, spec.columns, source)]
    found = raw.found | found | without
    return Source(as_read, bars, problems, found, done, adjusted_by, exchange if within_day else None)


def plain(raw: RawTable, spec: DataSpec) -> pd.DataFrame | None:
    """Bars of a table that is as it should be: our names, days as time stamps, numbers, nothing wrong; else None.

    The same comes of `understood`, in several times the time.
    """
    frame = raw.frame
    asked = raw.found or spec.columns or spec.features or spec.session or spec.calendar or spec.timescale in INTRADAY
    if asked or spec.format != AS_FOUND or spec.adjust != "none" or not isinstance(frame.index, pd.RangeIndex):
        return None
    if not {"date", *NUMBERS} <= set(frame.columns) or not frame.columns.is_unique:
        return None
    dates_T, *numbers = (frame[name].to_numpy() for name in ("date", *NUMBERS))
    if dates_T.dtype.kind != "M" or any(number_T.dtype.kind not in "fiu" for number_T in numbers):
        return None
    days_T, time_T = values.days_and_times(dates_T)
    numbers_5T = np.array(numbers, dtype=np.float64)
    volume_T = numbers_5T[-1]
    if time_T.any() or not len(days_T) or not volume_T.min() < volume_T.max() or not sound(days_T, numbers_5T):
        return None
    return pd.DataFrame(
        numbers_5T.T, index=pd.DatetimeIndex(days_T, name="date"), columns=index_of(NUMBERS), copy=False
    )


def volume_or_none(bars: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Bars with a volume of NaN where the source has no volume, or one that never changes; and what was found out."""
    volume = bars.get("volume")
    if volume is not None and volume.min() < volume.max():  # neither where all are NaN
        return bars, {}
    why = "none" if volume is None else f"none: always {volume.iloc[0]:g}" if volume.notna().any() else "none: empty"
    return bars.assign(volume=np.nan), {"volume": f"{why}; features that need it are left out"}


def adjusted(
    bars: pd.DataFrame, raw: pd.DataFrame, spec: DataSpec, source: str
) -> tuple[pd.DataFrame, list[Problem], tuple[Hashable, ...]]:
    """Bars with prices times adjusted close over close, where `data.adjust` asks for it.

    Returns:
        The bars, what is wrong, and the names of the source's columns that were used.
    """
    if spec.adjust == "none" or "close" not in bars:
        return bars, [], ()
    found = columns.adjusted(raw, spec.format.decimal)
    if found is None:
        message = f"data.adjust: ratio needs a column of adjusted closes (its columns: {', '.join(map(str, raw))})"
        return bars, [Problem(place=source, message=message, fix="name it 'Adj Close', or set data.adjust: none")], ()
    name, closes = found
    ratio = closes / bars["close"]
    changed = {price: bars[price] * ratio for price in PRICES if price in bars and price != "close"}
    return bars.assign(**changed, close=closes), [], (name,)


def in_order(bars: pd.DataFrame, source: str, *, sort: bool) -> pd.DataFrame:
    """Bars from old to new, where that is clear (a file from new to old), or where sorting is asked for."""
    if "date" not in bars.columns or bars["date"].is_monotonic_increasing:
        return bars
    known = bars["date"].dropna()
    if len(known) > 1 and known.is_monotonic_decreasing and known.is_unique:
        return bars.iloc[::-1]
    if sort:
        out_of_order = int((bars["date"].diff() < pd.Timedelta(0)).sum())
        logger.warning("%s: sorted by date (data.sort); %d rows came before an earlier one", source, out_of_order)
        return bars.sort_values("date", kind="stable")
    return bars
