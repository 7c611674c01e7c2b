"""How raw features are presented: as they are, or relative to the close and to the volume of the last bars.

Relative, with c the close, v the volume and m the mean volume of the last 20 bars, all of the bar's own row:

    close        ln(c_t / c_{t-1})
    level        value / c - 1                       (moving averages, vwap, open, high, low)
    range        value / c                           (atr, macd)
    square       value / c^2                         (variances)
    volume       ln(1 + v / m) - ln 2                (0 at the mean; ln 1/2 for a bar without volume, never -inf)
    flow         value / m                           (adosc)
    cumulative   (value_t - value_{t-1}) / m         (obv: its origin is arbitrary, its change is not)
    percent      value / 100 - 1/2                   (rsi, stochrsi, adx)
    signed       value / 100                         (cci, candle patterns)
    share        value - 1/2                         (bb_percent_b)
    change       ln(value_t / value_{t-1})           (another market's price)
    number       value                               (correlations)

Every value uses its own and earlier rows of its own asset only. Relative values are free of the unit of price and of
volume: multiplying all prices, or all volumes, by a constant changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.dataset import asset_rows
from trainables.data.features import VOLUME_BARS, trailing_sum
from trainables.data.tier_registry import TRADED, Kind
from trainables.data.tiers import first_complete
from trainables.schema import Representation

# Shape suffixes: T rows of the dataset, F features.
Array = npt.NDArray[np.float64]

_PRICED = (Kind.CLOSE, Kind.LEVEL, Kind.RANGE)


@dataclass(frozen=True, eq=False)
class Represented:
    """Features as presented, before scaling.

    Attributes:
        values_TF: NaN in rows that are still warming up.
        unit_TF: what a difference of this feature is measured in: 1 in the relative representation; raw: the close,
            the mean volume of the last 20 bars, or 100.
        origin_TF: what its level is measured from: 0 in the relative representation; raw: the close for prices, the
            mean volume for volumes, the current value for running totals, the middle for percentages and shares, else
            0.
        complete_T: all features (and their units) of the row are finite.
    """

    values_TF: Array
    unit_TF: Array
    origin_TF: Array
    complete_T: npt.NDArray[np.bool_]


def represent(frame: pd.DataFrame, kinds: Mapping[str, Kind], representation: Representation) -> Represented:
    """Present a dataset's raw features.

    Args:
        frame: long table sorted by asset and date with open, high, low, close, volume and the raw features.
        kinds: of the features that models see, in order.
        representation: relative or raw.

    Raises:
        DataError: a value that is not finite after its warm-up, with its row and date.
    """
    shape = (len(frame), len(kinds))
    if representation == "relative":  # every unit is 1 and every origin 0: views of one number
        units = np.broadcast_to(1.0, shape), np.broadcast_to(0.0, shape)
    else:
        units = np.empty(shape), np.empty(shape)
    result = Represented(np.empty(shape), *units, np.zeros(len(frame), dtype=bool))
    names = list(kinds)
    close_T, volume_T = (frame[name].to_numpy(dtype=np.float64) for name in ("close", "volume"))
    raw_F = [frame[name].to_numpy(dtype=np.float64) for name in names]
    dates = pd.DatetimeIndex(frame["date"])
    for rows in asset_rows(frame):
        part = slice(rows.start, rows.stop)
        mean_T = trailing_sum(volume_T[part], VOLUME_BARS) / VOLUME_BARS
        mean_T[mean_T == 0] = np.nan  # no volume in 20 bars: nothing to compare with
        for column, kind in enumerate(kinds.values()):
            present = _relative if representation == "relative" else _raw
            columns = present(kind, raw_F[column][part], close_T[part], volume_mean_T=mean_T)
            targets = (result.values_TF, *(units if representation == "raw" else ()))
            for target_TF, column_T in zip(targets, columns, strict=False):
                target_TF[part, column] = column_T
        usable_TF = result.values_TF[part]
        if representation == "raw":
            usable_TF = np.where(np.isfinite(result.unit_TF[part]), usable_TF, np.nan)
        result.complete_T[
            rows.start + first_complete(usable_TF, dates[part], names, rows.asset or "data") : rows.stop
        ] = 1
    return result


def _raw(kind: Kind, value_T: Array, close_T: Array, volume_mean_T: Array) -> tuple[Array, Array, Array]:
    """Value, unit and origin."""
    zero_T = np.zeros_like(value_T)
    if kind in _PRICED:
        return value_T, close_T, zero_T if kind is Kind.RANGE else close_T
    if kind in TRADED:
        origins = {Kind.VOLUME: volume_mean_T, Kind.FLOW: zero_T, Kind.CUMULATIVE: value_T}
        return value_T, volume_mean_T, origins[kind]
    if kind is Kind.SQUARE:
        return value_T, close_T**2, zero_T
    if kind is Kind.CHANGE:
        return value_T, value_T, value_T
    scale = 100.0 if kind in (Kind.PERCENT, Kind.SIGNED) else 1.0
    return value_T, zero_T + scale, zero_T + (scale / 2 if kind in (Kind.PERCENT, Kind.SHARE) else 0.0)


def _relative(kind: Kind, value_T: Array, close_T: Array, volume_mean_T: Array) -> tuple[Array, Array, Array]:
    """Value, unit and origin; the formulas are at the top of this file."""
    match kind:
        case Kind.CLOSE | Kind.CHANGE:
            result_T = np.log(value_T / _previous(value_T))
        case Kind.LEVEL:
            result_T = value_T / close_T - 1
        case Kind.RANGE:
            result_T = value_T / close_T
        case Kind.VOLUME:
            result_T = np.log1p(value_T / volume_mean_T) - np.log(2)
        case Kind.FLOW:
            result_T = value_T / volume_mean_T
        case Kind.CUMULATIVE:
            result_T = (value_T - _previous(value_T)) / volume_mean_T
        case Kind.PERCENT:
            result_T = value_T / 100 - 0.5
        case Kind.SHARE:
            result_T = value_T - 0.5
        case Kind.SQUARE:
            result_T = value_T / close_T**2
        case Kind.SIGNED:
            result_T = value_T / 100
        case Kind.NUMBER:
            result_T = value_T
    return result_T, np.ones_like(result_T), np.zeros_like(result_T)


def _previous(value_T: Array) -> Array:
    return np.concatenate(([np.nan], value_T[:-1]))
