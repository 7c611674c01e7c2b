"""The features of one asset: a tier's columns, computed and checked."""

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.columns import NUMBERS, PRICES, index_of
from trainables.data.tier_registry import TRADED, Array, AssetBars, Feature, Kind, Tier, of_dataset
from trainables.errors import DataError, Problem
from trainables.parts import Part, PartConfig
from trainables.schema import ResolvedTier

_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")
NO_TIER = "none"
_TAKEN = ("date", "asset")
_KINDS = frozenset(Kind)
_STEPS = (0.6180339887, 0.4142135623)  # irrational: volumes that never repeat


class TooShortError(DataError):
    """A series that ends before a feature has its first value."""


@dataclass(frozen=True, eq=False)
class Computed:
    """Raw features of one asset.

    Attributes:
        values: one float64 column per feature, in the tier's order, indexed like the bars; NaN while it warms up.
        kinds: by column.
        left_out: columns that need a volume, where the bars have none.
    """

    values: pd.DataFrame
    kinds: dict[str, Kind]
    left_out: tuple[str, ...] = ()


def compute(
    frame: pd.DataFrame,
    daily: pd.DataFrame,
    tier: str | ResolvedTier,
    place: str = "bars",
    days: pd.DatetimeIndex | None = None,
) -> Computed:
    """The raw features of one asset.

    Args:
        frame: bars of the timescale, indexed by date: open, high, low, close, volume.
        daily: the bars as they came from the source, indexed by date.
        tier: which features.
        place: named in errors.
        days: the trading day of each bar; None where it is the bar's own date.

    Raises:
        DataError: a value that is not finite, in the bars or in a feature after its warm-up; a tier that fails or gives
            something else than columns of one number a bar.
        ConfigError: no such tier.
    """
    for bars in (frame,) if daily is frame else (frame, daily):
        _refuse_non_finite(bars, place)
    result = columns(*of_dataset(tier), AssetBars(frame, daily, days), place)
    first_complete(result.values.to_numpy(), pd.DatetimeIndex(frame.index), list(result.kinds), place)
    return result


def columns(part: Part[Tier], config: PartConfig, bars: AssetBars, place: str) -> Computed:
    """A tier's columns as it gives them, not yet looked at for gaps.

    Of bars without volume, columns that need it are left out. They are found by computing the tier with two volumes
    that are made up: what differs needs one.

    Raises:
        DataError: the tier fails, or gives something else than columns of one number a bar.
    """
    if not np.isnan(bars.volume).all():
        return _columns(part, config, bars, place)
    one, other = (_columns(part, config, _made_up(bars, step), place) for step in _STEPS)
    kept = {
        name: kind
        for name, kind in one.kinds.items()
        if kind not in TRADED and name in other.values and one.values[name].equals(other.values[name])
    }
    return Computed(one.values[list(kept)], kept, tuple(name for name in one.kinds if name not in kept))


def _made_up(bars: AssetBars, step: float) -> AssetBars:
    def volume(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(volume=1e6 * (1 + np.arange(1, len(frame) + 1) * step % 1))

    return AssetBars(volume(bars.frame), volume(bars.daily), bars.days)


def _columns(part: Part[Tier], config: PartConfig, bars: AssetBars, place: str) -> Computed:
    try:
        found = part.target(bars, config)
    except DataError:
        raise
    except Exception as error:  # code of somebody else: its own file and line say more than a traceback of ours
        message = f"{place}: the tier fails with {type(error).__name__}: {error}"
        raise _refusal(part, message, _line(part, error)) from error
    if not isinstance(found, Mapping) or (not found and part.name != NO_TIER):
        raise _refusal(part, f"returned {type(found).__name__}, not a dictionary of columns by name")
    values_FT = np.empty((len(found), len(bars.frame)))
    kinds: dict[str, Kind] = {}
    for row, (name, feature) in enumerate(found.items()):
        if wrong := _wrong(name, feature, bars, len(values_FT[row])):
            raise _refusal(part, f"column {name!r}: {wrong}")
        values_FT[row], kinds[name] = feature.values, Kind(feature.kind)
    named = index_of(tuple(kinds))
    return Computed(pd.DataFrame(values_FT.T, index=bars.frame.index, columns=named, copy=False), kinds)


def _wrong(name: object, feature: object, bars: AssetBars, rows: int) -> str:
    """What is wrong with one column, or an empty text."""
    if not isinstance(name, str) or not _COLUMN.fullmatch(name) or name in _TAKEN:
        return f"a name is letters, digits, '_', '-', '.', starting with a letter, and not {' or '.join(_TAKEN)}"
    if not isinstance(feature, Feature):
        return f"is {type(feature).__name__}, not isotherm.Feature(values, kind)"
    if feature.kind not in _KINDS:
        return f"{feature.kind!r} is no kind; known are {', '.join(Kind)}"
    try:
        values = np.asarray(feature.values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        return f"its values are not numbers ({error})"
    if values.shape != (rows,):
        return f"has values of shape {values.shape}, not one for each of the {rows} bars"
    if name in NUMBERS and not np.array_equal(values, bars.frame[name], equal_nan=True):
        return "is the name of a bar's own number, and holds other values; give it another name"
    if feature.kind == Kind.CLOSE and not np.array_equal(values, bars.frame["close"], equal_nan=True):
        return "the kind close is for the close itself; a price is a level"
    return ""


def _line(part: Part[Tier], error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == part.source.place]
    return f":{lines[-1]}" if lines else ""


def _refusal(part: Part[Tier], message: str, line: str = "") -> DataError:
    place = f"{part.source.place}{line}"
    return DataError(Problem(place=place, message=f"{part.kind} {part.name!r}: {message}", fix="correct the tier"))


def first_complete(values_TF: Array, dates: pd.DatetimeIndex, names: Sequence[str], place: str) -> int:
    """First row in which all features are finite.

    Raises:
        DataError: a feature is never finite (too few bars for its warm-up), or not finite again after its warm-up.
    """
    finite_TF = np.isfinite(values_TF)
    problems, short = [], []
    first_F = np.argmax(finite_TF, axis=0) if len(values_TF) else np.zeros(len(names), dtype=np.int64)
    count_F = finite_TF.sum(axis=0)
    if (count_F > 0).all() and (count_F == len(values_TF) - first_F).all():
        return int(first_F.max(initial=0))
    for column, name in enumerate(names):
        finite_T = finite_TF[:, column]
        if not finite_T.any():
            message = f"too few bars: {name} is still warming up after all {len(values_TF)} of them"
            fix = "use a longer series, a finer timescale or a smaller tier"
            short.append(Problem(place=place, message=message, fix=fix))
            continue
        gaps = np.flatnonzero(~finite_T[first_F[column] :]) + first_F[column]
        if len(gaps):
            where = f"{place}, bar {gaps[0] + 1} ({dates[gaps[0]]:%Y-%m-%d})"
            more = f" (and on {len(gaps) - 1} later bars)" if len(gaps) > 1 else ""
            message = f"{name} is not finite: {values_TF[gaps[0], column]}{more}"
            fix = "bars without any movement or volume over its whole window give no value: leave that span out"
            problems.append(Problem(place=where, message=message, fix=fix))
    if problems:
        raise DataError([*short, *problems])
    if short:
        raise TooShortError(short)
    return int(first_F.max(initial=0))


def _numbers(frame: pd.DataFrame, name: str) -> Array:
    return np.ascontiguousarray(frame[name].to_numpy(dtype=np.float64))


def _refuse_non_finite(bars: pd.DataFrame, place: str) -> None:
    """One NaN silently poisons TA-Lib's moving averages to the end of the series."""
    if np.isfinite(bars.to_numpy()).all():
        return
    problems = []
    for name in NUMBERS if bars["volume"].notna().any() else PRICES:
        bad = np.flatnonzero(~np.isfinite(_numbers(bars, name)))
        if len(bad):
            where = f"{place}, bar {bad[0] + 1} ({pd.DatetimeIndex(bars.index)[bad[0]]:%Y-%m-%d})"
            message = f"{name} is not finite, and indicators cannot be computed from it"
            problems.append(Problem(place=where, message=message, fix="correct the bar or leave it out"))
    if problems:
        raise DataError(problems)
