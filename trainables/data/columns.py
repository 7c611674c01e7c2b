"""From a source's own columns to ours: date, open, high, low, close, volume.

Row numbers count the source's data rows from 1 and stay with the rows as the index, so that every later message can
name them.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd

from trainables.errors import Problem

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
_UNNAMED = ("", "Unnamed: 0")  # an index written to CSV without a name
# A time zone after a time of day. Bars are dated by the exchange's own wall clock: the offset is dropped, not applied.
_OFFSET = r"(:\d{2}(?:\.\d+)?)\s*(?:Z|[+-]\d{2}:?\d{2})$"
_SLASHED = ("%m/%d/%Y", "%d/%m/%Y")
_MIN_DATE_TEXT = 8  # '2001-2-3': anything shorter is a year or a count, which the ISO parser would take for a date
_NS_YEARS = (1678, 2261)  # what 64-bit nanoseconds can hold


def unused(frame: pd.DataFrame, mapping: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the source's columns that none of ours is read from, in the source's order."""
    used = {_match(frame, ours, mapping.get(ours))[0] for ours in ("date", *NUMBERS)}
    return tuple(str(name) for name in frame.columns if name not in used)


def to_ours(frame: pd.DataFrame, mapping: Mapping[str, str], source: str) -> tuple[pd.DataFrame, list[Problem]]:
    """Pick, name and type the columns.

    Args:
        frame: a table as read.
        mapping: `DataSpec.columns`, ours to theirs; columns that are not mapped are matched by name in any case.
        source: the place named in problems.

    Returns:
        The columns that were found, `date` as datetime64[ns] at midnight and the rest as float64 (NaT and NaN where a
        value could not be understood), indexed by row number; and what was wrong.
    """
    table = frame
    if isinstance(table.index, pd.DatetimeIndex) and not _has_date(table, mapping):
        table = table.reset_index(names=mapping.get("date", "date"))
    table = table.set_axis(pd.RangeIndex(1, len(table) + 1, name="row"))
    found: dict[str, pd.Series] = {}
    problems: list[Problem] = []
    for ours in ("date", *NUMBERS):
        theirs, problem = _match(table, ours, mapping.get(ours))
        if problem:
            problems.append(Problem(place=source, message=problem, fix=_map_fix(ours)))
        elif theirs is not None:
            found[ours] = table[theirs]
    ours_frame = pd.DataFrame(index=table.index)
    for name, column in found.items():
        if name == "date":
            dates, problem = _parse_dates(column)
            ours_frame[name] = dates
            if problem:
                problems.append(Problem(place=source, message=problem, fix="write dates as YYYY-MM-DD"))
        else:
            ours_frame[name] = pd.to_numeric(column, errors="coerce").astype(np.float64)
    return ours_frame, problems


def original(frame: pd.DataFrame, mapping: Mapping[str, str], ours: str, row: int) -> str:
    """The text in the source at one of our columns and a row number (from 1)."""
    theirs, _ = _match(frame, ours, mapping.get(ours))
    if theirs is None:
        return str(frame.index[row - 1])
    value = frame[theirs].iloc[row - 1]
    return "nothing" if pd.isna(value) else repr(value) if isinstance(value, str) else str(value)


def _has_date(table: pd.DataFrame, mapping: Mapping[str, str]) -> bool:
    return _match(table, "date", mapping.get("date"))[0] is not None


def _map_fix(ours: str) -> str:
    return f"name the column in the sweep file: data.columns: {{{ours}: <its name>}}"


def _match(table: pd.DataFrame, ours: str, mapped: str | None) -> tuple[Hashable | None, str]:
    """Their name of our column, or what is wrong with it."""
    wanted = mapped or ours
    if wanted in table.columns:
        return wanted, ""
    same = [name for name in table.columns if str(name).strip().lower() == wanted.strip().lower()]
    if len(same) == 1:
        return same[0], ""
    if len(same) > 1:
        return None, f"more than one column could be {ours}: {', '.join(map(str, same))}"
    if ours == "date" and mapped is None and len(table.columns) and str(table.columns[0]) in _UNNAMED:
        return table.columns[0], ""
    has = ", ".join(map(str, table.columns)) or "none"
    if mapped is not None:
        return None, f"column {ours} is missing: there is no {mapped!r} (its columns: {has})"
    return None, f"column {ours} is missing (its columns: {has})"


def _parse_dates(column: pd.Series) -> tuple[pd.Series, str]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _as_days(column.dt.tz_localize(None)), ""
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return _as_days(column), ""
    text = column.astype("string").str.strip().str.replace(_OFFSET, r"\1", regex=True)
    text = text.where(text.str.len() >= _MIN_DATE_TEXT)
    iso = pd.to_datetime(text, format="ISO8601", errors="coerce")
    month_first, day_first = (pd.to_datetime(text, format=form, errors="coerce") for form in _SLASHED)
    if month_first.notna().all() and day_first.notna().all() and not month_first.equals(day_first):
        return _as_days(iso), "the dates can be read as month/day/year and as day/month/year"
    return _as_days(max((iso, month_first, day_first), key=lambda dates: int(dates.notna().sum()))), ""


def _as_days(dates: pd.Series) -> pd.Series:
    in_range = dates.dt.year.between(*_NS_YEARS)
    days: pd.Series = dates.where(in_range).dt.normalize().astype("datetime64[ns]")
    return days
