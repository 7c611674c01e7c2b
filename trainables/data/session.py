"""Bars within a day: their moments in UTC, the trading day that each belongs to, and coarser bars that end with it.

A bar is stamped where it begins. A session opens and closes by the exchange's wall clock, so that its hours in UTC move
with daylight saving; bars are counted from the open in elapsed time, so that a day of 23 or 25 hours has as many. When
sessions are is said by hours that hold every day (`SessionSpec`), or by a calendar, which knows holidays and half days.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.calendars import Calendar
from trainables.errors import DataError, Problem
from trainables.schema import SessionSpec
from trainables.schema.common import INTRADAY

Exchange = SessionSpec | Calendar

_JOINED = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
_DAY = pd.Timedelta(days=1)


class ClockError(ValueError):
    """Wall-clock times that happened twice, or never."""


def to_utc(stamps: pd.Series, spec: Exchange) -> pd.Series:
    """Moments in UTC, without a zone, of stamps with a zone, or of those without one by `spec.stamps`.

    Raises:
        ClockError: a time of the exchange's clock that is ambiguous or was skipped.
    """
    if stamps.dt.tz is None and spec.stamps == "exchange":
        try:
            stamps = stamps.dt.tz_localize(spec.timezone, ambiguous="infer", nonexistent="raise")
        except ValueError as error:
            message = f"a time of the clock of {spec.timezone} happened twice or never ({error})"
            raise ClockError(message) from error
    if stamps.dt.tz is not None:
        stamps = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    return stamps.astype("datetime64[ns]")


@dataclass(frozen=True, eq=False)
class Sessions:
    """Which trading day each moment belongs to.

    Attributes:
        days: trading day of each moment, midnight without a zone.
        since_open: elapsed time since the day's session opened.
        inside: whether the moment is within the session.
    """

    days: pd.DatetimeIndex
    since_open: pd.TimedeltaIndex
    inside: np.ndarray

    @classmethod
    def of(cls, moments: pd.DatetimeIndex, spec: Exchange) -> "Sessions":
        """Of ascending moments in UTC.

        Raises:
            DataError: a calendar does not know the years of some.
        """
        return _by_calendar(moments, spec) if isinstance(spec, Calendar) else _by_hours(moments, spec)


def _by_hours(moments: pd.DatetimeIndex, spec: SessionSpec) -> Sessions:
    wall = moments.tz_localize("UTC").tz_convert(spec.timezone).tz_localize(None)
    opens = pd.Timedelta(minutes=spec.open_minute)
    length = pd.Timedelta(minutes=(spec.close_minute - spec.open_minute) % (24 * 60) or 24 * 60)
    begun = (wall - opens).normalize()  # day on whose wall clock the session opened
    inside = np.asarray(wall - opens - begun < length)
    overnight = spec.open_minute + length / pd.Timedelta(minutes=1) > 24 * 60
    opened = (begun + opens).tz_localize(
        spec.timezone, ambiguous=np.ones(len(begun), bool), nonexistent="shift_forward"
    )
    since = moments - opened.tz_convert("UTC").tz_localize(None)
    return Sessions(begun + _DAY if overnight else begun, pd.TimedeltaIndex(since), inside)


def _by_calendar(moments: pd.DatetimeIndex, calendar: Calendar) -> Sessions:
    known = calendar.schedule(moments[0], moments[-1])
    if not len(known) or moments[0] < known.index[0] or moments[-1] > known["close"].iloc[-1] + _DAY:
        span = f"{known.index[0]:%Y-%m-%d} to {known.index[-1]:%Y-%m-%d}" if len(known) else "no session"
        message = f"the calendar {calendar.name} knows {span} of these years, and bars are from {moments[0]:%Y-%m-%d}"
        message += f" to {moments[-1]:%Y-%m-%d}"
        raise DataError(Problem(place="data.calendar", message=message, fix="give hours by data.session instead"))
    opened = known["open"].to_numpy()
    place = np.searchsorted(opened, moments.to_numpy(), side="right") - 1
    at = known.iloc[np.maximum(place, 0)]
    on_break = (moments >= at["break_start"].to_numpy()) & (moments < at["break_end"].to_numpy())
    inside = (place >= 0) & np.asarray(moments < at["close"].to_numpy()) & ~np.asarray(on_break)
    return Sessions(pd.DatetimeIndex(at.index), pd.TimedeltaIndex(moments - at["open"].to_numpy()), inside)


def too_coarse(moments: pd.DatetimeIndex, sessions: Sessions, spec: Exchange, timescale: str) -> str:
    """What is wrong with bars that are further apart than the timescale within a day asks for; empty if nothing is.

    The most common distance within a session counts, so that gaps do not matter. Where no session has two bars it is
    that of all bars, unless no session is longer than a bar of the timescale.
    """
    size = pd.Timedelta(minutes=INTRADAY[timescale])
    inside, day = moments[sessions.inside], sessions.days[sessions.inside].to_numpy()
    apart = np.diff(inside.to_numpy())
    within = apart[day[1:] == day[:-1]]
    if not len(apart) or (not len(within) and _longest(inside, spec) <= size):
        return ""
    lengths, counts = np.unique(within if len(within) else apart, return_counts=True)
    usual = pd.Timedelta(lengths[counts.argmax()])
    if usual <= size:
        return ""
    minutes = usual / pd.Timedelta(minutes=1)
    return f"bars are {f'{minutes:g} min' if usual < _DAY else f'{usual / _DAY:g} d'} apart, coarser than {timescale}"


def _longest(moments: pd.DatetimeIndex, spec: Exchange) -> pd.Timedelta:
    """Length of the longest session."""
    if isinstance(spec, Calendar):
        known = spec.schedule(moments[0], moments[-1])
        return pd.Timedelta((known["close"] - known["open"]).max())
    return pd.Timedelta(minutes=(spec.close_minute - spec.open_minute) % (24 * 60) or 24 * 60)


def joined(frame: pd.DataFrame, sessions: Sessions, timescale: str) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """Coarser bars of one asset, none of which reaches into another session.

    The last bar is left out unless a later one exists, as for calendar weeks: it may still be moving.

    Args:
        frame: columns of bars and perhaps others, of which a bar has the last value; indexed by moments in UTC.
        sessions: of its moments; bars outside them are left out.
        timescale: of INTRADAY: indexed by the bars' first moments in UTC; else a bar a session, indexed by its day.

    Returns:
        The bars, and the trading day of each.
    """
    size = INTRADAY.get(timescale)
    number = np.zeros(len(frame), dtype=np.int64)
    if size is not None:
        number = np.asarray(sessions.since_open // pd.Timedelta(minutes=size), dtype=np.int64)
    day = sessions.days.to_numpy()
    kept = sessions.inside
    frame, number, day, since = frame[kept], number[kept], day[kept], sessions.since_open[kept]
    if not len(frame):
        return frame, pd.DatetimeIndex(day)
    group = np.concatenate([[0], np.cumsum((np.diff(number) != 0) | (day[1:] != day[:-1]))])
    complete = int(np.searchsorted(group, group[-1]))  # rows before the last group
    chosen = frame.iloc[:complete]
    how = dict.fromkeys(frame.columns, "last") | _JOINED
    result = chosen.groupby(group[:complete], sort=False).agg(how)
    if frame["volume"].isna().all():
        result["volume"] = np.nan
    first = np.flatnonzero(np.concatenate([[True], np.diff(group[:complete]) > 0])) if complete else np.zeros(0, int)
    days = pd.DatetimeIndex(day[first])
    if size is None:
        return result.set_axis(days.rename("date")), days
    begun = pd.DatetimeIndex(frame.index[first]) - since[first] + number[first] * pd.Timedelta(minutes=size)
    return result.set_axis(begun.rename("date")), days
