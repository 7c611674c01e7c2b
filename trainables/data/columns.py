"""From a source's own columns to ours: date, open, high, low, close, volume.

Row numbers count the source's data rows from 1 and stay with the rows as the index, so that every later message can
name them.
"""

from collections.abc import Collection, Hashable, Mapping
from functools import lru_cache

import pandas as pd

from trainables.data import session as sessions
from trainables.data.barfile import names, values
from trainables.errors import Problem
from trainables.schema import AS_FOUND, FileFormat

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
ADJUSTED = ("adj close", "adjclose", "adjusted close", "adjusted", "close adj", "adj last")
_UNNAMED = ("", "Unnamed: 0")  # an index written to CSV without a name


@lru_cache
def index_of(columns: tuple[str, ...]) -> "pd.Index[str]":
    """The index of some columns, with what it has learned of them: making one takes as long as copying a column."""
    return pd.Index(columns)


def unused(frame: pd.DataFrame, mapping: Mapping[str, str], further: Collection[Hashable] = ()) -> tuple[str, ...]:
    """Names of the source's columns that nothing is read from, in the source's order; `further` are in use."""
    used = {_match(frame, ours, mapping.get(ours))[0] for ours in ("date", *NUMBERS)} | set(further)
    return tuple(str(name) for name in frame.columns if name not in used)


def to_ours(
    frame: pd.DataFrame,
    mapping: Mapping[str, str],
    source: str,
    form: FileFormat = AS_FOUND,
    session: sessions.Exchange | None = None,
) -> tuple[pd.DataFrame, list[Problem], dict[str, str]]:
    """Pick, name and type the columns.

    Args:
        frame: a table as read.
        mapping: `DataSpec.columns`, ours to theirs; columns that are not mapped are matched by name in any case, or by
            a name that a vendor gives them.
        source: the place named in problems.
        form: what the user says about numbers and dates.
        session: when bars within a day are traded, which are dated by their moment in UTC; None for daily bars.

    Returns:
        The columns that were found, `date` as datetime64[ns] at midnight and the rest as float64 (NaT and NaN where a
        value could not be understood), indexed by row number; what was wrong; and what was found out about the file.
    """
    table = _with_index(frame, mapping)
    chosen: dict[str, pd.Series] = {}
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for ours in ("date", *NUMBERS):
        theirs, problem = _match(table, ours, mapping.get(ours))
        if problem and ours == "volume" and ours not in mapping and not _several(table, ours):
            continue  # indices and currencies have none
        if problem:
            problems.append(Problem(place=source, message=problem, fix=_map_fix(ours)))
        elif theirs is not None:
            chosen[ours] = table[theirs]
            if theirs != ours and names.normalised(theirs) != ours:
                found[ours] = f"from the column {str(theirs)!r}"
    ours_columns: dict[str, pd.Series] = {}
    try:
        if "date" in chosen:
            dated = chosen.pop("date")
            if session is None:
                ours_columns["date"], more = values.dates(dated, form.dates, form.timezone)
            else:
                read, more = values.moments(_with_time(table, dated), form.dates)
                ours_columns["date"] = sessions.to_utc(read, session)
            found |= more
    except sessions.ClockError as error:
        fix = "give time stamps in UTC (data.session.stamps: utc) or with their offset"
        problems.append(Problem(place=source, message=str(error), fix=fix))
        ours_columns["date"] = pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns]")
    except values.AmbiguousError as error:
        ours_columns["date"] = pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns]")
        problems.append(Problem(place=source, message=str(error), fix=error.fix))
    try:
        columns, more = values.numbers(chosen, form.decimal)
        ours_columns |= columns
        found |= more
    except values.AmbiguousError as error:
        problems.append(Problem(place=source, message=str(error), fix=error.fix))
    return pd.DataFrame(ours_columns, index=table.index), problems, found


def _with_time(table: pd.DataFrame, dated: pd.Series) -> pd.Series:
    """Days with the time of day of another column, where there is one."""
    column = names.first_of([name for name in table.columns if name != dated.name], names.TIMES)
    if column is None:
        return dated
    return dated.astype("string").str.strip() + " " + table[column].astype("string").str.strip()


def _with_index(frame: pd.DataFrame, mapping: Mapping[str, str]) -> pd.DataFrame:
    """The table with what its index holds as columns, where these lack a date; and with row numbers instead."""
    table = frame
    if not isinstance(table.index, pd.RangeIndex) and not _has_date(table, mapping):
        wanted = mapping.get("date", "date")
        table = table.reset_index() if isinstance(table.index, pd.MultiIndex) else table.reset_index(names=wanted)
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="row"))


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
    if mapped is None:
        known = names.matches(table.columns, ours)
        if ours == "volume":  # some vendors fill one of two
            known = [name for name in known if _is_filled(table[name])] or known
        if known:
            return known[0], ""
        if ours == "date" and len(table.columns) and str(table.columns[0]) in _UNNAMED:
            return table.columns[0], ""
    has = ", ".join(map(str, table.columns)) or "none"
    if mapped is not None:
        return None, f"column {ours} is missing: there is no {mapped!r} (its columns: {has})"
    return None, f"column {ours} is missing (its columns: {has})"


def _several(table: pd.DataFrame, ours: str) -> bool:
    return sum(str(name).strip().lower() == ours for name in table.columns) > 1


def adjusted(frame: pd.DataFrame, decimal: str | None) -> tuple[Hashable, pd.Series] | None:
    """The column of adjusted closes, with its name, indexed by row number; None where there is none."""
    column = names.first_of(frame.columns, ADJUSTED)
    if column is None:
        return None
    read, _ = values.numbers({"adjusted": frame[column]}, decimal)
    return column, read["adjusted"].set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))


def _is_filled(column: pd.Series) -> bool:
    return bool((~column.astype("string").fillna("").str.strip().isin(("", "0", "0.0"))).any())
