"""Series that all assets see, such as a volatility index or rates, joined as of each bar.

A row is known from its own date, or from the day that it was published, plus a delay. A bar sees the newest row that is
known on its date; rows that become known later are never seen.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data import given, sources
from trainables.data.barfile import names, values
from trainables.data.given import Given
from trainables.data.spilled import Spilled
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec
from trainables.schema.given import ContextSpec

logger = logging.getLogger(__name__)

_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True, eq=False)
class Series:
    """One block of the context, as read.

    Attributes:
        frame: float64 columns, indexed by the moment from which a row is known, ascending.
        dates: the rows' own dates.
        sha256: of what was read.
        unused: columns that nothing is read from.
    """

    frame: pd.DataFrame
    dates: pd.DatetimeIndex
    sha256: str
    unused: tuple[str, ...]


def read(name: str, spec: ContextSpec, data: DataSpec) -> Series:
    """Read a block.

    Raises:
        DataError: it cannot be read, has no dates, or lacks a column.
    """
    place = f"data.context.{name}"
    raw = sources.read_any(spec.source, data)
    table = raw.frame if isinstance(raw.frame.index, pd.RangeIndex) else raw.frame.reset_index()
    dated = _date_column(table, spec.date, place)
    dates = _dates(table[dated], data, place)
    known = dates if spec.published is None else _dates(table[_column(table, spec.published, place)], data, place)
    used = [dated, *([spec.published] if spec.published else []), *given.symbols(table)]
    theirs = {str(column).strip().lower(): str(column) for column in table.columns}
    wanted = [one if one == given.ALL else theirs.get(one.strip().lower(), one) for one in spec.columns]
    if wanted == ["close"] and "close" not in theirs:  # the default, and a file of dates and values
        wanted = [given.ALL]
    try:
        columns = given.numeric(table, wanted, used, data.format.decimal)
    except values.AmbiguousError as error:
        raise DataError(Problem(place=place, message=str(error), fix=error.fix)) from error
    if missing := [one for one in wanted if one != given.ALL and one not in columns]:
        message = f"{spec.source} has no numeric column {missing[0]!r} (it has: {', '.join(map(str, table.columns))})"
        raise DataError(Problem(place=place, message=message, fix=f"correct {place}.columns"))
    if not columns:
        raise DataError(Problem(place=place, message=f"{spec.source} has no column of numbers", fix="name another"))
    _refuse_undated(pd.DataFrame(columns), dates, known, spec.source, place)
    unused = tuple(str(one) for one in table.columns if one not in used and str(one) not in columns)
    return _ordered(pd.DataFrame(columns), dates, known + pd.Timedelta(days=spec.delay_days), raw.sha256, unused, place)


def _refuse_undated(frame: pd.DataFrame, dates: pd.Series, known: pd.Series, source: str, place: str) -> None:
    """Refuse values without a date among dated ones; those after the last date, as in a footer, are left out aloud."""
    dated_N = (dates.notna() & known.notna()).to_numpy()
    lost_N = np.flatnonzero(~dated_N & frame.notna().any(axis=1).to_numpy())
    if not len(lost_N):
        return
    message = f"{len(lost_N)} rows have a value and no date that can be understood, the first is row {lost_N[0] + 1}"
    if dated_N.any() and lost_N[0] < np.flatnonzero(dated_N)[-1]:
        raise DataError(Problem(place=place, message=f"{source}: {message}", fix="correct their dates, or remove them"))
    logger.warning("%s: %s: they are left out", source, message)


def _ordered(
    frame: pd.DataFrame, dates: pd.Series, known: pd.Series, sha256: str, unused: tuple[str, ...], place: str
) -> Series:
    """Rows in the order in which they become known; one that is older than what is known by then says nothing new."""
    whole = frame.assign(_date=dates.to_numpy(), _known=known.to_numpy()).dropna(subset=["_date", "_known"])
    whole = whole.sort_values(["_known", "_date"], kind="stable")
    if whole.duplicated(["_date", "_known"]).any():
        day = whole.loc[whole.duplicated(["_date", "_known"]), "_date"].iloc[0]
        message = f"has two rows of {day:%Y-%m-%d}"
        raise DataError(
            Problem(place=place, message=message, fix="keep one row per date (hours are not read), or name `published`")
        )
    whole = whole[whole["_date"] >= whole["_date"].cummax()]
    if whole.empty:
        raise DataError(Problem(place=place, message="has no row with a date", fix=f"correct {place}.date"))
    return Series(
        whole[list(frame.columns)].set_axis(pd.DatetimeIndex(whole["_known"])),
        pd.DatetimeIndex(whole["_date"]),
        sha256,
        unused,
    )


def _column(table: pd.DataFrame, name: str, place: str) -> str:
    if name not in table.columns:
        message = f"there is no column {name!r} (there are: {', '.join(map(str, table.columns))})"
        raise DataError(Problem(place=place, message=message, fix="correct its name"))
    return name


def _date_column(table: pd.DataFrame, named: str | None, place: str) -> str:
    if named is not None:
        return _column(table, named, place)
    found = names.matches(table.columns, "date")
    return str(found[0] if found else table.columns[0])


def _dates(column: pd.Series, data: DataSpec, place: str) -> pd.Series:
    try:
        read, found = values.dates(column, data.format.dates, data.format.timezone)
    except values.AmbiguousError as error:
        raise DataError(Problem(place=place, message=str(error), fix=error.fix)) from error
    if read.isna().mean() > 0.1:
        message = f"the column {str(column.name)!r} holds no dates: {str(column.iloc[0])!r}"
        raise DataError(Problem(place=place, message=message, fix=f"name the column of dates: {place}.date"))
    if found:
        logger.warning("%s: %s", place, "; ".join(f"{what} {value}" for what, value in found.items()))
    return read


def join(series: Series, dates: pd.DatetimeIndex, spec: ContextSpec) -> pd.DataFrame:
    """Of each column the value known at each date, `lag` values before the newest; NaN where there is none."""
    joined = {str(name): _joined(column, series.dates, dates, spec) for name, column in series.frame.items()}
    return pd.DataFrame(joined, index=dates)


def _joined(
    column: "pd.Series[float]", own_dates: pd.DatetimeIndex, dates: pd.DatetimeIndex, spec: ContextSpec
) -> np.ndarray:
    valued = column.notna().to_numpy()
    known, of_row, x = column.index.to_numpy()[valued], own_dates[valued], column.to_numpy()[valued]
    if not len(x):
        return np.full(len(dates), np.nan)
    row_T = np.searchsorted(known, dates.to_numpy(), side="right") - 1 - spec.lag
    seen_T = row_T >= 0
    if spec.max_age_days is not None:
        seen_T &= np.asarray(dates - of_row[np.maximum(row_T, 0)] <= spec.max_age_days * _DAY)
    return np.where(seen_T, x[np.maximum(row_T, 0)], np.nan)


def settle(name: str, spec: ContextSpec, series: Series, frames: Spilled, taken: tuple[str, ...]) -> Given:
    """A block as features of all assets.

    Args:
        name: the block's.
        spec: its keys.
        series: as read.
        frames: bars by asset.
        taken: names of other features.

    Raises:
        DataError: as `given.settle`; or a delay after which bars within a day would see its value before it is over.
    """
    place = f"data.context.{name}"
    moments = pd.DatetimeIndex(series.frame.index) - pd.Timedelta(days=spec.delay_days)
    if spec.delay_days < 1 and _are_days(moments) and not all(_are_days(frame.index) for frame in frames.values()):
        message = (
            f"of {spec.source} only days count, hours are not read: "
            "bars within a day would see a value before its day is over"
        )
        raise DataError(Problem(place=f"{place}.delay_days", message=message, fix="set 1 or more"))
    columns = list(series.frame.columns)
    named = {columns[0]: name} if len(columns) == 1 else given.feature_names(columns, taken, f"{name}_")
    kinds = {column: given.found_kind([series.frame[column].to_numpy()]) for column in columns}
    joined = frames.like()
    joined.update((asset, join(series, pd.DatetimeIndex(frame.index), spec)) for asset, frame in frames.items())
    found = given.settle(joined, spec, kinds, place, named, frames.like())
    words = f"of {spec.source}, known {spec.delay_days:g} days after its date"
    return Given(found.values, found.kinds, {feature: f"{how}; {words}" for feature, how in found.how.items()})


def _are_days(moments: pd.Index) -> bool:
    """Whether no moment has an hour."""
    dates = pd.DatetimeIndex(moments)
    return bool((dates == dates.normalize()).all())
