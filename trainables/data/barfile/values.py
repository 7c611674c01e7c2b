"""From text to numbers and dates, by what all cells of a file have in common."""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

MISSING = ("", "null", "nan", "none", "na", "n/a", "#n/a", "-", "--", ".")
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_DECORATION = re.compile(r"[\s\u00a0\u202f'$€£¥₹]|USD|EUR|GBP|^\+")
_PLAIN = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A zone or offset. Bars are dated by the exchange's own wall clock: it is dropped, not applied.
_ZONE = r"(:\d{2}(?:\.\d+)?)\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$|(?<=\d)(?:Z| UTC| GMT)$"
_TIME = r"[T ]+(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*([AP]M)?$"
_FORMS = (
    "%Y.%m.%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d-%b-%Y", "%d-%b-%y",
    "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%m/%d/%y", "%d/%m/%y",
)  # fmt: skip
_EITHER = (("%m/%d/%Y", "%d/%m/%Y"), ("%m-%d-%Y", "%d-%m-%Y"), ("%m/%d/%y", "%d/%m/%y"))
_MIN_ISO = 8  # '2001-2-3': anything shorter is a year or a count, which the ISO parser would take for a date
_EPOCHS = {"s": (1e8, 1e10, 1e9), "ms": (1e11, 1e13, 1e6), "us": (1e14, 1e16, 1e3), "ns": (1e17, 9e18, 1.0)}
_SERIAL = (20_000, 80_000)  # days since 1899-12-30, as spreadsheets count: 1954 to 2119
_NS_YEARS = (1678, 2261)  # what 64-bit nanoseconds can hold
_NS_FIRST, _NS_END, _NAT = np.datetime64("1678-01-01"), np.datetime64("2262-01-01"), np.datetime64("NaT")
_MOST = 0.9  # of the dates of a column are of one kind
_DAY_NS = 24 * 3600 * 10**9
_EVENING_NS = 20 * 3600 * 10**9
_SUNDAY, _FRIDAY = 6, 4


class AmbiguousError(ValueError):
    """A file can be read in two ways. `fix` is what to write in the sweep file."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


# ---- numbers -----------------------------------------------------------------------------------------------------


def numbers(columns: Mapping[str, pd.Series], decimal: str | None) -> tuple[dict[str, pd.Series], dict[str, str]]:
    """Columns as float64, NaN where a cell is empty or no number; and what was found out.

    Args:
        columns: by our name; text, or numbers already.
        decimal: the decimal sign, or None to find it out from all columns of text together.

    Raises:
        AmbiguousError: '1,138' could be 1138 or 1.138, and no cell decides it; or cells contradict each other.
    """
    texts = {name: bare(column) for name, column in columns.items() if not pd.api.types.is_numeric_dtype(column)}
    sign = decimal or _decimal_sign(texts)
    result = {
        name: _to_float(texts[name], sign) if name in texts else columns[name].astype(np.float64) for name in columns
    }
    return result, {"decimal sign": "comma"} if sign == "," else {}


def bare(column: pd.Series) -> pd.Series:
    """Text without signs of currencies and blanks, which says nothing where it says that a value is missing."""
    text = column.astype("string").fillna("").str.replace(_DECORATION, "", regex=True)
    return text.where(~text.str.lower().isin(MISSING), "")


def _decimal_sign(texts: Mapping[str, pd.Series]) -> str:
    """'.' or ','; one that other than three digits follow, or that comes last of both kinds, is the decimal sign."""
    comma, point, unclear = False, False, ""
    for text in texts.values():
        if not text.str.contains(",", regex=False).any():
            point = point or bool(text.str.contains(r"\.\d*$", regex=True).any())
            continue
        comma = comma or bool(text.str.contains(r"\..*,|^[^,]*,(?!\d{3}(?:\D|$))|^0,", regex=True).any())
        point = point or bool(text.str.contains(r",.*\.|,.*,", regex=True).any())
        example = text[text.str.contains(",", regex=False)].iloc[0]
        unclear = unclear or str(example)
    fix = "data.format: {decimal: ','}  # or '.'"
    if comma and point and unclear:
        raise AmbiguousError("some numbers have a decimal comma and some a decimal point", fix)
    if unclear and not comma and not point:
        raise AmbiguousError(f"{unclear!r} can be read with a decimal comma or with one that groups thousands", fix)
    return "," if comma else "."


def contradicting(text: pd.Series, decimal: str) -> str:
    """The first cell that can only be read with the other decimal sign: '0,5', '1,25' or '1.234,5' with a point."""
    sign, other = re.escape(decimal), "," if decimal == "." else r"\."
    # One sign that other than three digits follow, or that follows a zero; or both kinds, the other one last.
    wrong = rf"^[^.,]*{other}(?!\d{{3}}(?:\D|$))[^.,]*$|^[-+]?0{other}[^.,]*$|{sign}.*{other}"
    found = text[text.str.contains(wrong, regex=True)]
    return str(found.iloc[0]) if len(found) else ""


def _to_float(text: pd.Series, decimal: str) -> pd.Series:
    grouping = "." if decimal == "," else ","
    plain = text.str.replace(grouping, "", regex=False).str.replace(decimal, ".", regex=False)
    unit = plain.str.extract(r"(?i)([KMBT])$")[0].str.upper()
    plain = plain.str.replace(r"(?i)[KMBT%]$", "", regex=True)
    valid = plain.str.fullmatch(_PLAIN).to_numpy(dtype=bool)
    values = np.full(len(text), np.nan)
    values[valid] = np.asarray(plain[valid].tolist(), dtype=np.float64)  # rounded correctly, as Python's float
    return pd.Series(values * unit.map(_UNITS).fillna(1.0).to_numpy(dtype=np.float64), index=text.index)


# ---- dates -------------------------------------------------------------------------------------------------------


def moments(column: pd.Series, form: str | None) -> tuple[pd.Series, dict[str, str]]:
    """Time stamps as they are, with the zone or offset where one is written; epochs are UTC.

    Raises:
        AmbiguousError: as `dates`.
    """
    stamps, found = _stamps(column, form, "UTC")
    if "since 1970, UTC" in found.get("dates", ""):
        stamps = stamps.dt.tz_localize("UTC")
    return stamps.astype("datetime64[ns]") if stamps.dt.tz is None else stamps, found


def dates(column: pd.Series, form: str | None, timezone: str | None) -> tuple[pd.Series, dict[str, str]]:
    """Days as datetime64[ns] at midnight, NaT where a cell could not be understood; and what was found out.

    Args:
        column: text, numbers or time stamps.
        form: a format of `datetime.strptime`, or None to find it out.
        timezone: time stamps are converted to it before they are dated; they are taken to be UTC where they do not say.
            Days without a clock, or all at midnight, are days in any zone.

    Raises:
        AmbiguousError: every date can be read as month/day and as day/month.
    """
    stamps, found = _stamps(column, form, timezone)
    known = stamps.dropna()
    moments_known = stamps.dt.tz is not None or "since 1970" in found.get("dates", "")
    if timezone and (moments_known or (known != known.dt.normalize()).any()):
        aware = stamps.dt.tz_localize("UTC") if stamps.dt.tz is None else stamps
        stamps, found["time zone"] = aware.dt.tz_convert(timezone), timezone
    if getattr(stamps.dtype, "tz", None) is not None:
        stamps = stamps.dt.tz_localize(None)
    days_N, time_N = days_and_times(stamps.to_numpy())
    if timezone is None and _evening_before(days_N, time_N):
        found["dates"] = "stamped in the evening before, Sunday to Thursday: dated by the next day"
        days_N += np.timedelta64(_DAY_NS, "ns")
    return pd.Series(days_N, index=stamps.index), found


def days_and_times(
    found_N: npt.NDArray[np.datetime64],
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.int64]]:
    """Midnight of each time stamp, NaT where nanoseconds cannot hold it, and the nanoseconds since then."""
    stamps_N = np.where((found_N >= _NS_FIRST) & (found_N < _NS_END), found_N, _NAT).astype("datetime64[ns]")
    time_N = stamps_N.view(np.int64) % _DAY_NS
    return stamps_N - time_N.astype("timedelta64[ns]"), time_N


def _evening_before(days_N: npt.NDArray[np.datetime64], time_N: npt.NDArray[np.int64]) -> bool:
    """Whether bars are stamped where they begin, in the evening of the day before in UTC: FX and futures."""
    known_N = ~np.isnat(days_N)
    if not known_N.any() or time_N[known_N].min() < _EVENING_NS:
        return False
    weekdays = set(pd.DatetimeIndex(days_N[known_N]).day_of_week)
    return _SUNDAY in weekdays and _FRIDAY not in weekdays


def _stamps(column: pd.Series, form: str | None, timezone: str | None) -> tuple[pd.Series, dict[str, str]]:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column, {}
    text = column.astype("string").str.strip()
    if form is None:
        counted = pd.to_numeric(text.str.replace(r"\.0+$", "", regex=True), errors="coerce").astype(np.float64)
        if counted.notna().sum() > text.fillna("").ne("").sum() / 2:
            return _counted(counted)
    if timezone and text.str.replace(_ZONE, "", regex=True).ne(text).any():
        return pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce"), {}
    text = text.str.replace(_ZONE, r"\1", regex=True)
    clock = text.str.extract(_TIME)
    day = text.str.replace(_TIME, "", regex=True)
    return _days(day, form, clock)


def _days(day: pd.Series, form: str | None, clock: pd.DataFrame) -> tuple[pd.Series, dict[str, str]]:
    iso = pd.to_datetime(day.where(day.str.len() >= _MIN_ISO), format="ISO8601", errors="coerce")
    read = {"ISO": iso}
    if form is not None:
        asked = pd.to_datetime(day, format=re.split(r"[T ]*%[HIT]", form)[0], errors="coerce")
        if asked.notna().any() or iso.isna().any():  # of several files one may have ISO dates, which need no format
            read = {form: asked}
    elif iso.isna().any():
        read |= {one: pd.to_datetime(day, format=one, errors="coerce") for one in _FORMS}
    known = {one: stamps.notna() for one, stamps in read.items()}
    best = max(read, key=lambda one: int(known[one].sum()))
    for one, other in _EITHER:
        # Rows that are no dates at all, such as a footer or blanks, decide nothing.
        both = {one, other} <= read.keys() and known[one].equals(known[other]) and not read[one].equals(read[other])
        if both and known[one].sum() == known[best].sum():
            message = "the dates can be read as month/day/year and as day/month/year"
            raise AmbiguousError(message, f"data.format: {{dates: '{one}'}}  # or '{other}'")
    hours = clock[0].str.replace(r"^(\d{1,2}:\d{2})$", r"\1:00", regex=True)
    time = pd.to_timedelta(hours, errors="coerce").fillna(pd.Timedelta(0))
    noon = pd.Timedelta(hours=12)
    time += noon * ((clock[1] == "PM") & (time < noon)).fillna(False).astype(int)
    time -= noon * ((clock[1] == "AM") & (time >= noon)).fillna(False).astype(int)  # 12:30 AM is half past midnight
    days = read[best].where(read[best].dt.year.between(*_NS_YEARS))
    return days.astype("datetime64[ns]") + time, {} if best == "ISO" else {"dates": best}


def _counted(values: pd.Series) -> tuple[pd.Series, dict[str, str]]:
    """Dates that are numbers: YYYYMMDD, seconds and the like since 1970 (UTC), or a spreadsheet's days."""
    middle = float(values.median())
    if 1e7 < middle < 1e8:
        text = values.map("{:.0f}".format)
        return pd.to_datetime(text, format="%Y%m%d", errors="coerce"), {"dates": "YYYYMMDD"}
    for unit, (low, high, ns) in _EPOCHS.items():
        if low <= middle < high and values.dropna().between(low, high).mean() > _MOST:
            whole = (values.where(values.between(low, high)) * ns).round().astype("Int64")
            return pd.to_datetime(whole, errors="coerce"), {"dates": f"{unit} since 1970, UTC"}
    low, high = _SERIAL
    if low < middle < high:
        found = {"dates": "days of a spreadsheet, from 1899-12-30"}
        days = values.where(values.between(low, high))
        return pd.Timestamp("1899-12-30") + pd.to_timedelta(days, unit="D"), found
    return pd.to_datetime(pd.Series(pd.NaT, index=values.index)), {}
