"""The feature tier `talib`: TA-Lib's indicators with their default settings.

The list is written out, so that the columns do not depend on TA-Lib's version: the functions of TA-Lib 0.6, without its
mathematical functions and operators, which are no indicators, and without those that say nothing of their own or depend
on the unit of price: MA (is SMA), MAVP (needs periods), SAREXT (is SAR with a sign), LINEARREG_ANGLE (the angle of
LINEARREG_SLOPE, in a plot's units). The first complete bar is the 89th (TRIX needs 88 bars before it). Averages that
remember all of the past, such as EMA, go on settling for several times their period.
"""

import numpy as np

from trainables.data.tier_registry import Array, AssetBars, Feature, Kind, feature_tier
from trainables.parts import PartConfig

FIRST_COMPLETE = 88  # row, counted from 0

_LEVELS = (
    "ACCBANDS", "BBANDS", "DEMA", "EMA", "HT_TRENDLINE", "KAMA", "MAMA", "MIDPOINT", "MIDPRICE", "SAR", "SMA", "T3",
    "TEMA", "TRIMA", "WMA", "AVGPRICE", "MEDPRICE", "TYPPRICE", "WCLPRICE", "LINEARREG", "LINEARREG_INTERCEPT", "TSF",
)  # fmt: skip
_RANGES = (
    "APO", "MACD", "MACDEXT", "MACDFIX", "MINUS_DM", "PLUS_DM", "MOM", "HT_PHASOR", "AVGDEV", "ATR", "TRANGE",
    "LINEARREG_SLOPE", "STDDEV",
)  # fmt: skip
_PERCENTS = (
    "ADX", "ADXR", "AROON", "DX", "IMI", "MFI", "MINUS_DI", "PLUS_DI", "ROCR100", "RSI", "STOCH", "STOCHF", "STOCHRSI",
    "ULTOSC", "HT_DCPERIOD",
)  # fmt: skip
_SIGNED = ("AROONOSC", "CCI", "CMO", "PPO", "ROC", "TRIX", "WILLR", "HT_DCPHASE", "NATR")
_NUMBERS = ("BOP", "ROCP", "HT_SINE", "BETA", "CORREL")
_PATTERNS = (
    "2CROWS", "3BLACKCROWS", "3INSIDE", "3LINESTRIKE", "3OUTSIDE", "3STARSINSOUTH", "3WHITESOLDIERS", "ABANDONEDBABY",
    "ADVANCEBLOCK", "BELTHOLD", "BREAKAWAY", "CLOSINGMARUBOZU", "CONCEALBABYSWALL", "COUNTERATTACK", "DARKCLOUDCOVER",
    "DOJI", "DOJISTAR", "DRAGONFLYDOJI", "ENGULFING", "EVENINGDOJISTAR", "EVENINGSTAR", "GAPSIDESIDEWHITE",
    "GRAVESTONEDOJI", "HAMMER", "HANGINGMAN", "HARAMI", "HARAMICROSS", "HIGHWAVE", "HIKKAKE", "HIKKAKEMOD",
    "HOMINGPIGEON", "IDENTICAL3CROWS", "INNECK", "INVERTEDHAMMER", "KICKING", "KICKINGBYLENGTH", "LADDERBOTTOM",
    "LONGLEGGEDDOJI", "LONGLINE", "MARUBOZU", "MATCHINGLOW", "MATHOLD", "MORNINGDOJISTAR", "MORNINGSTAR", "ONNECK",
    "PIERCING", "RICKSHAWMAN", "RISEFALL3METHODS", "SEPARATINGLINES", "SHOOTINGSTAR", "SHORTLINE", "SPINNINGTOP",
    "STALLEDPATTERN", "STICKSANDWICH", "TAKURI", "TASUKIGAP", "THRUSTING", "TRISTAR", "UNIQUE3RIVER",
    "UPSIDEGAP2CROWS", "XSIDEGAP3METHODS",
)  # fmt: skip

FUNCTIONS: dict[str, Kind] = {
    **dict.fromkeys(_LEVELS, Kind.LEVEL),
    **dict.fromkeys(_RANGES, Kind.RANGE),
    "VAR": Kind.SQUARE,
    "AD": Kind.CUMULATIVE,
    "OBV": Kind.CUMULATIVE,
    "ADOSC": Kind.FLOW,
    **dict.fromkeys(_PERCENTS, Kind.PERCENT),
    **dict.fromkeys(_SIGNED, Kind.SIGNED),
    "HT_TRENDMODE": Kind.SHARE,
    "ROCR": Kind.SHARE,
    **dict.fromkeys(_NUMBERS, Kind.NUMBER),
    **{f"CDL{name}": Kind.SIGNED for name in _PATTERNS},
}


@feature_tier("talib")
def talib(bars: AssetBars, config: PartConfig) -> dict[str, Feature]:
    """All of TA-Lib's indicators with their default settings, 148 columns."""
    from talib import abstract  # here: whoever only loads a dataset needs no more than its names and kinds

    prices = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    result = {}
    for name, kind in FUNCTIONS.items():
        function = abstract.Function(name)  # type: ignore[attr-defined]
        found = function(prices)
        outputs = found if isinstance(found, list | tuple) else [found]
        for output, values in zip(function.output_names, outputs, strict=True):
            column = name.lower() if len(outputs) == 1 else f"{name}_{output}".lower()
            result[column] = Feature(_warmed_up(values, function.lookback), kind)
    return result


def _warmed_up(values: Array, lookback: int) -> Array:
    """Whole numbers, such as those of candle patterns, have 0 where they are not known yet; NaN says so."""
    result = np.array(values, dtype=np.float64)
    result[:lookback] = np.nan
    return result
