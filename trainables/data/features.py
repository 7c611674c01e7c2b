"""The feature tiers `a20` and `ohlcv`. Every feature looks back only."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.ohlcv import week_number
from trainables.data.tier_registry import AssetBars, Feature, Kind, feature_tier
from trainables.parts import PartConfig

Array = npt.NDArray[np.float64]

VOLUME_BARS = 20  # the window of vwap_20, and of the mean volume that flows are compared with


A20 = {
    "dema_9": Kind.LEVEL,
    "dema_10": Kind.LEVEL,
    "sma_12": Kind.LEVEL,
    "dema_20": Kind.LEVEL,
    "dema_25": Kind.LEVEL,
    "sma_50": Kind.LEVEL,
    "dema_90": Kind.LEVEL,
    "sma_100": Kind.LEVEL,
    "sma_200": Kind.LEVEL,
    "rsi_daily": Kind.PERCENT,
    "rsi_weekly": Kind.PERCENT,
    "stochrsi_daily": Kind.PERCENT,
    "stochrsi_weekly": Kind.PERCENT,
    "macd_line": Kind.RANGE,
    "obv": Kind.CUMULATIVE,
    "adosc": Kind.FLOW,
    "atr_14": Kind.RANGE,
    "adx_14": Kind.PERCENT,
    "bb_percent_b": Kind.SHARE,
    "vwap_20": Kind.LEVEL,
}
OHLCV = {
    "open": Kind.LEVEL,
    "high": Kind.LEVEL,
    "low": Kind.LEVEL,
    "close": Kind.CLOSE,
    "volume": Kind.VOLUME,
}


@feature_tier("ohlcv")
def ohlcv(bars: AssetBars, config: PartConfig) -> dict[str, Feature]:
    """The bars alone."""
    return {name: Feature(bars.frame[name], kind) for name, kind in OHLCV.items()}


@feature_tier("none")
def none(bars: AssetBars, config: PartConfig) -> dict[str, Feature]:
    """No features of a tier: own columns or a context alone."""
    return {}


@feature_tier("a20")
def a20(bars: AssetBars, config: PartConfig) -> dict[str, Feature]:
    """Twenty indicators, most of them TA-Lib's.

    `rsi_weekly` and `stochrsi_weekly` come from the daily closes of calendar weeks (the last close of each), whatever
    the length of a bar; a bar has the value of the last week before its own.
    """
    values = _indicators(bars) | _weekly(bars)
    return {name: Feature(values[name], kind) for name, kind in A20.items()}


def trailing_sum(values_T: Array, bars: int) -> Array:
    """Sum over the last `bars` bars, which are the last axis; NaN before there are as many.

    Each sum is added up anew, in one fixed order: a running sum would carry a rounding error on from bar to bar.
    """
    result_T = np.full(values_T.shape, np.nan)
    count = values_T.shape[-1] - bars + 1
    if count > 0:
        total_T = result_T[..., bars - 1 :]
        total_T[:] = 0
        for offset in range(bars):
            total_T += values_T[..., offset : offset + count]
    return result_T


def _indicators(bars: AssetBars) -> dict[str, Array]:
    import talib  # here: whoever only loads a dataset needs the names and kinds above, not the library

    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    upper, _, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2, nbdevdn=2, matype=talib.MA_Type.SMA)
    macd_line, _, _ = talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)
    values = {f"dema_{bars}": talib.DEMA(close, timeperiod=bars) for bars in (9, 10, 20, 25, 90)}
    values |= {f"sma_{bars}": talib.SMA(close, timeperiod=bars) for bars in (12, 50, 100, 200)}
    # 0 / 0 stays NaN on purpose: a flat Bollinger band or a window without volume has no value, and is refused later.
    with np.errstate(divide="ignore", invalid="ignore"):
        percent_b = (close - lower) / (upper - lower)
        traded_T, volume_T = trailing_sum(np.stack([close * volume, volume]), VOLUME_BARS)
        vwap = traded_T / volume_T
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


def _weekly(bars: AssetBars) -> dict[str, Array]:
    """Indicators of weekly closes, carried to bars: each has the value of the last week before its own."""
    daily = bars.daily
    week_of_day = week_of_bar = week_number(pd.DatetimeIndex(daily.index))
    if bars.frame is not daily:
        week_of_bar = week_number(pd.DatetimeIndex(bars.frame.index) if bars.days is None else bars.days)
    last_of_week = np.flatnonzero(np.diff(week_of_day, append=week_of_day[-1] + 1))
    weeks, closes = week_of_day[last_of_week], daily["close"].to_numpy(dtype=np.float64)[last_of_week]
    before = np.searchsorted(weeks, week_of_bar) - 1
    carry: Callable[[Array], Array] = lambda weekly: np.where(before >= 0, weekly[np.maximum(before, 0)], np.nan)  # noqa: E731
    return {"rsi_weekly": carry(_rsi(closes)), "stochrsi_weekly": carry(_stochrsi(closes))}
