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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.dataset import Dataset, asset_rows
from trainables.data.features import VOLUME_BARS, trailing_sum
from trainables.data.maps import RELEASED_ROWS, New, release
from trainables.data.tier_registry import TRADED, Kind
from trainables.data.tiers import first_complete
from trainables.schema import Representation

# Shape suffixes: T rows of the dataset, F features.
Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

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

    values_TF: Floats
    unit_TF: Floats
    origin_TF: Floats
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
    targets = [result.values_TF, *(units if representation == "raw" else ())]
    close_T, volume_T = (frame[name].to_numpy(dtype=np.float64) for name in ("close", "volume"))
    raw_F = {name: frame[name].to_numpy(dtype=np.float64) for name in kinds}
    dates_T = frame["date"].to_numpy()
    for rows in asset_rows(frame):
        columns = {name: raw_T[rows.part] for name, raw_T in raw_F.items()}
        parts = [target_TF[rows.part] for target_TF in targets]
        first = _present(parts, columns, kinds, close_T[rows.part], volume_T[rows.part], dates_T[rows.part], rows.asset)
        result.complete_T[rows.start + first : rows.stop] = 1
    return result


def table(dataset: Dataset, representation: Representation) -> Represented:
    """All of a dataset's features as presented: float32, mapped into memory (`maps`).

    Raises:
        DataError: a value that is not finite after its warm-up, with its row and date.
    """
    kinds = dataset.entry.kinds_of_features
    shape = (len(dataset.dates_T), len(kinds))
    names = ("values_TF", "unit_TF", "origin_TF") if representation == "raw" else ("values_TF",)

    def make(new: New) -> dict[str, Any]:
        arrays = [new(name, np.float32, shape) for name in names]
        complete_T = new("complete_T", np.bool_, shape[:1])
        close_T, volume_T, dates_T = dataset.number("close"), dataset.number("volume"), dataset.dates_T
        for rows, (_, columns) in zip(dataset.rows, dataset.pieces(kinds), strict=True):
            parts = [array_TF[rows.part] for array_TF in arrays]
            bars = close_T[rows.part], volume_T[rows.part], dates_T[rows.part]
            first = _present(parts, columns, kinds, *bars, rows.asset)
            complete_T[rows.part] = np.arange(rows.stop - rows.start) >= first
            if rows.stop // RELEASED_ROWS > rows.start // RELEASED_ROWS:
                release(*arrays)
        return {}

    group = dataset.maps.kept(representation, make)
    units: dict[str, Any] = {
        "unit_TF": np.broadcast_to(np.float32(1), shape),
        "origin_TF": np.broadcast_to(np.float32(0), shape),
    }
    return Represented(**(units | group.arrays))


def _present(
    targets: Sequence[Floats],
    columns: Mapping[str, Array],
    kinds: Mapping[str, Kind],
    close_T: Array,
    volume_T: Array,
    dates_T: npt.NDArray[np.datetime64],
    asset: str,
) -> int:
    """Present one asset's features.

    Args:
        targets: get the values; three of them also units and origins.
        columns: raw features by name.
        kinds: of the features, in order.
        close_T: closes of the same bars.
        volume_T: likewise.
        dates_T: likewise.
        asset: for messages.

    Returns:
        The first row in which all features, and their units, are finite.
    """
    mean_T = trailing_sum(volume_T, VOLUME_BARS) / VOLUME_BARS
    mean_T[mean_T == 0] = np.nan  # no volume in 20 bars: nothing to compare with
    usable_FT = np.empty((len(kinds), len(close_T)))
    for number, (name, kind) in enumerate(kinds.items()):
        if len(targets) == 1:
            usable_FT[number] = _relative(kind, columns[name], close_T, mean_T)
            continue
        value_T, unit_T, origin_T = _raw(kind, columns[name], close_T, mean_T)
        for target_TF, column_T in zip(targets, (value_T, unit_T, origin_T), strict=True):
            target_TF[:, number] = column_T
        usable_FT[number] = np.where(np.isfinite(unit_T), value_T, np.nan)
    if len(targets) == 1:
        targets[0][:] = usable_FT.T
    return first_complete(usable_FT.T, pd.DatetimeIndex(dates_T), list(kinds), asset or "data")


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


def _relative(kind: Kind, value_T: Array, close_T: Array, volume_mean_T: Array) -> Array:
    """The value; the formulas are at the top of this file."""
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
    return result_T


def _previous(value_T: Array) -> Array:
    return np.concatenate(([np.nan], value_T[:-1]))
