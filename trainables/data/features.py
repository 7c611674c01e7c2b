"""Feature tiers: names, kinds, and their values computed from one asset's bars. Every feature looks back only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.columns import NUMBERS
from trainables.data.ohlcv import week_number
from trainables.errors import DataError, Problem
from trainables.schema import Tier

Array = npt.NDArray[np.float64]

FEATURES_VERSION = 1  # raise it when a value of a feature changes: datasets built before are then refused
VOLUME_BARS = 20  # the window of vwap_20, and of the mean volume that flows are compared with


class Kind(StrEnum):
    """What a feature's unit is; the representation of a feature follows from it."""

    CLOSE = "close"  # the close itself
    LEVEL = "level"  # a price
    RANGE = "range"  # a difference of prices
    VOLUME = "volume"  # shares traded
    FLOW = "flow"  # a signed number of shares
    CUMULATIVE = "cumulative"  # a running total of shares, counted from the first bar
    PERCENT = "percent"  # bounded, 0 to 100
    SHARE = "share"  # about 0 to 1


@dataclass(frozen=True)
class Feature:
    """A column of a dataset that models see."""

    name: str
    kind: Kind


TIERS: dict[Tier, tuple[Feature, ...]] = {
    "a20": (
        Feature("dema_9", Kind.LEVEL),
        Feature("dema_10", Kind.LEVEL),
        Feature("sma_12", Kind.LEVEL),
        Feature("dema_20", Kind.LEVEL),
        Feature("dema_25", Kind.LEVEL),
        Feature("sma_50", Kind.LEVEL),
        Feature("dema_90", Kind.LEVEL),
        Feature("sma_100", Kind.LEVEL),
        Feature("sma_200", Kind.LEVEL),
        Feature("rsi_daily", Kind.PERCENT),
        Feature("rsi_weekly", Kind.PERCENT),
        Feature("stochrsi_daily", Kind.PERCENT),
        Feature("stochrsi_weekly", Kind.PERCENT),
        Feature("macd_line", Kind.RANGE),
        Feature("obv", Kind.CUMULATIVE),
        Feature("adosc", Kind.FLOW),
        Feature("atr_14", Kind.RANGE),
        Feature("adx_14", Kind.PERCENT),
        Feature("bb_percent_b", Kind.SHARE),
        Feature("vwap_20", Kind.LEVEL),
    ),
    "ohlcv": (
        Feature("open", Kind.LEVEL),
        Feature("high", Kind.LEVEL),
        Feature("low", Kind.LEVEL),
        Feature("close", Kind.CLOSE),
        Feature("volume", Kind.VOLUME),
    ),
}


def compute(frame: pd.DataFrame, daily: pd.DataFrame, tier: Tier, place: str = "bars") -> pd.DataFrame:
    """The raw features of one asset.

    The indicators of tier a20 are TA-Lib's. `rsi_weekly` and `stochrsi_weekly` come from the daily closes of calendar
    weeks (the last close of each), whatever the length of a bar; a bar has the value of the last week before its own.

    Args:
        frame: bars of the timescale, indexed by date: open, high, low, close, volume.
        daily: the bars as they came from the source, indexed by date.
        tier: which features.
        place: named in errors.

    Returns:
        One float64 column a feature, in the tier's order, indexed like `frame`; NaN while an indicator warms up.

    Raises:
        DataError: a value that is not finite where TA-Lib would read it, or in a feature after its warm-up.
    """
    dates = pd.DatetimeIndex(frame.index)
    if tier == "ohlcv":
        values = {name: _numbers(frame, name) for name in NUMBERS}
    else:
        for bars in (frame, daily):
            _refuse_non_finite(bars, place)
        values = _indicators(frame) | _weekly(dates, daily)
    names = [feature.name for feature in TIERS[tier]]
    result = pd.DataFrame({name: values[name] for name in names}, index=dates)
    first_complete(result.to_numpy(), dates, names, place)
    return result


def trailing_sum(values_T: Array, bars: int) -> Array:
    """Sum over the last `bars` bars; NaN before there are as many.

    Each sum is added up anew, in one fixed order: a running sum would carry a rounding error on from bar to bar.
    """
    result_T = np.full(len(values_T), np.nan)
    count = len(values_T) - bars + 1
    if count > 0:
        total_T = np.zeros(count)
        for offset in range(bars):
            total_T += values_T[offset : offset + count]
        result_T[bars - 1 :] = total_T
    return result_T


def first_complete(values_TF: Array, dates: pd.DatetimeIndex, names: Sequence[str], place: str) -> int:
    """First row in which all features are finite.

    Raises:
        DataError: a feature is never finite (too few bars for its warm-up), or not finite again after its warm-up.
    """
    finite_TF = np.isfinite(values_TF)
    problems = []
    first_F = np.argmax(finite_TF, axis=0) if len(values_TF) else np.zeros(len(names), dtype=np.int64)
    for column, name in enumerate(names):
        finite_T = finite_TF[:, column]
        if not finite_T.any():
            message = f"too few bars: {name} is still warming up after all {len(values_TF)} of them"
            fix = "use a longer series, a finer timescale or a smaller tier"
            problems.append(Problem(place=place, message=message, fix=fix))
            continue
        gaps = np.flatnonzero(~finite_T[first_F[column] :]) + first_F[column]
        if len(gaps):
            where = f"{place}, bar {gaps[0] + 1} ({dates[gaps[0]]:%Y-%m-%d})"
            more = f" (and on {len(gaps) - 1} later bars)" if len(gaps) > 1 else ""
            message = f"{name} is not finite: {values_TF[gaps[0], column]}{more}"
            fix = "bars without any movement or volume over its whole window give no value: leave that span out"
            problems.append(Problem(place=where, message=message, fix=fix))
    if problems:
        raise DataError(problems)
    return int(first_F.max())


def _numbers(frame: pd.DataFrame, name: str) -> Array:
    return np.ascontiguousarray(frame[name].to_numpy(dtype=np.float64))


def _refuse_non_finite(bars: pd.DataFrame, place: str) -> None:
    """One NaN silently poisons TA-Lib's moving averages to the end of the series."""
    problems = []
    for name in NUMBERS:
        bad = np.flatnonzero(~np.isfinite(_numbers(bars, name)))
        if len(bad):
            where = f"{place}, bar {bad[0] + 1} ({pd.DatetimeIndex(bars.index)[bad[0]]:%Y-%m-%d})"
            message = f"{name} is not finite, and indicators cannot be computed from it"
            problems.append(Problem(place=where, message=message, fix="correct the bar or leave it out"))
    if problems:
        raise DataError(problems)


def _indicators(frame: pd.DataFrame) -> dict[str, Array]:
    import talib  # here: whoever only loads a dataset needs the names and kinds above, not the library

    high, low, close, volume = (_numbers(frame, name) for name in ("high", "low", "close", "volume"))
    upper, _, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2, nbdevdn=2, matype=talib.MA_Type.SMA)
    macd_line, _, _ = talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)
    values = {f"dema_{bars}": talib.DEMA(close, timeperiod=bars) for bars in (9, 10, 20, 25, 90)}
    values |= {f"sma_{bars}": talib.SMA(close, timeperiod=bars) for bars in (12, 50, 100, 200)}
    # 0 / 0 stays NaN on purpose: a flat Bollinger band or a window without volume has no value, and is refused later.
    with np.errstate(divide="ignore", invalid="ignore"):
        percent_b = (close - lower) / (upper - lower)
        vwap = trailing_sum(close * volume, VOLUME_BARS) / trailing_sum(volume, VOLUME_BARS)
    return values | {
        "rsi_daily": _rsi(close),
        "stochrsi_daily": _stochrsi(close),
        "macd_line": macd_line,
        "obv": talib.OBV(close, volume),
        "adosc": talib.ADOSC(high, low, close, volume, fastperiod=3, slowperiod=10),
        "atr_14": talib.ATR(high, low, close, timeperiod=14),
        "adx_14": talib.ADX(high, low, close, timeperiod=14),
        "bb_percent_b": percent_b,
        "vwap_20": vwap,
    }


def _rsi(close: Array) -> Array:
    import talib

    return np.asarray(talib.RSI(close, timeperiod=14))


def _stochrsi(close: Array) -> Array:
    """The %K line: where RSI(14) stands in its own range of the last 5 values, 0 to 100."""
    import talib

    percent_k, _ = talib.STOCHRSI(close, timeperiod=14, fastk_period=5, fastd_period=3, fastd_matype=talib.MA_Type.SMA)
    return np.asarray(percent_k)


def _weekly(dates: pd.DatetimeIndex, daily: pd.DataFrame) -> dict[str, Array]:
    """Indicators of weekly closes, carried to bars: each has the value of the last week before its own."""
    week_of_day = week_number(pd.DatetimeIndex(daily.index))
    last_of_week = np.flatnonzero(np.diff(week_of_day, append=week_of_day[-1] + 1))
    weeks, closes = week_of_day[last_of_week], _numbers(daily, "close")[last_of_week]
    before = np.searchsorted(weeks, week_number(dates)) - 1
    carry: Callable[[Array], Array] = lambda weekly: np.where(before >= 0, weekly[np.maximum(before, 0)], np.nan)  # noqa: E731
    return {"rsi_weekly": carry(_rsi(closes)), "stochrsi_weekly": carry(_stochrsi(closes))}
