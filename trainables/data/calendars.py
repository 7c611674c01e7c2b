"""Session calendars of exchanges, from the package `exchange_calendars`: holidays, half days, breaks.

A calendar knows sessions as days, with the moments in UTC at which each opens and closes.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import pandas as pd

from trainables.errors import DataError, Problem, nearest
from trainables.schema import DataSpec

_DAYS = pd.Timedelta(days=10)  # a session that began before the first bar, and one that is over after the last


@dataclass(frozen=True)
class Calendar:
    """When an exchange trades.

    Attributes:
        name: in `exchange_calendars`, such as XNYS (its market identifier code) or 24/7.
        stamps: clock of time stamps without a zone.
    """

    name: str
    stamps: Literal["exchange", "utc"] = "exchange"

    @property
    def timezone(self) -> str:
        """Of the exchange's clock."""
        return str(_calendar(self.name).tz)

    def schedule(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
        """Sessions around a span of time, as far as they are known: open, break_start, break_end, close, in UTC.

        Indexed by day; all without a zone.
        """
        return _schedule(self.name, first.year, last.year)

    def missing(self, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Sessions between the first and the last of some days that are none of them."""
        sessions = pd.DatetimeIndex(self.schedule(days[0], days[-1]).index)
        return sessions[(sessions > days[0]) & (sessions < days[-1])].difference(days)

    def closed(self, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Those of some days on which the exchange is known to be closed."""
        sessions = pd.DatetimeIndex(self.schedule(days[0], days[-1]).index)
        known = (days >= sessions.min()) & (days <= sessions.max())  # of no session nothing is known
        return days[known].difference(sessions)


def of(asset: str, spec: DataSpec) -> Calendar | None:
    """The calendar that `data.calendar` gives an asset; None where it gives none.

    Raises:
        DataError: there is no such calendar.
    """
    name = spec.calendar.get(asset, spec.calendar.get("*"))
    if name is None:
        return None
    _calendar(name)
    return Calendar(name, spec.session.stamps if spec.session else "exchange")


@lru_cache
def _calendar(name: str, **span: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses what pandas deprecates
        import exchange_calendars  # takes a second, which data without calendars should not cost

        try:
            return exchange_calendars.get_calendar(name, **span)
        except exchange_calendars.errors.InvalidCalendarName:
            known = exchange_calendars.get_calendar_names()
            fix = f"{nearest(name, known)}; names are market identifier codes, such as XNYS, or 24/7 and 24/5"
            raise DataError(Problem(place="data.calendar", message=f"{name!r} is no calendar", fix=fix)) from None


@lru_cache
def _schedule(name: str, first_year: int, last_year: int) -> pd.DataFrame:
    known = _calendar(name)
    earliest, latest = known.bound_min(), known.bound_max()
    start, end = pd.Timestamp(first_year, 1, 1) - _DAYS, pd.Timestamp(last_year, 12, 31) + _DAYS
    start = start if earliest is None else max(start, earliest)
    end = end if latest is None else min(end, latest)
    if start >= end:
        return pd.DataFrame(columns=["open", "break_start", "break_end", "close"], index=pd.DatetimeIndex([]))
    schedule: pd.DataFrame = _calendar(name, start=start, end=end).schedule
    naive = {name: moments.dt.tz_localize(None).astype("datetime64[ns]") for name, moments in schedule.items()}
    return pd.DataFrame(naive)
