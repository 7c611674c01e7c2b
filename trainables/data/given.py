"""Columns that are used as given: their kinds, their gaps, and their names as features.

They cannot be proven to look back only, as a tier's can: nothing says how they were computed. The checks before any
trial look at them harder, and the dataset's lineage says of each that it is as given.
"""

import re
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trainables.data.barfile import names, values
from trainables.data.spilled import Spilled
from trainables.data.tier_registry import Array, Kind
from trainables.errors import DataError, Problem
from trainables.schema.given import ColumnKind, FeaturesSpec, GivenSpec

ALL = "*"
_KINDS: dict[ColumnKind, Kind] = {
    "level": Kind.LEVEL,
    "range": Kind.RANGE,
    "flow": Kind.FLOW,
    "percent": Kind.PERCENT,
    "share": Kind.SHARE,
    "change": Kind.CHANGE,
    "as is": Kind.NUMBER,
}
_LEVEL_RATIO, _LEVEL_SHARE, _LEVEL_CORRELATION = (0.5, 2.0), 0.95, 0.9  # a price moves with the close and is near it
_LIKE_NUMBERS = r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?[KMBTkmbt%]?"
_NUMERIC = 0.5  # of a column's filled cells are numbers


@dataclass(frozen=True, eq=False)
class Given:
    """Columns of all assets.

    Attributes:
        values: by asset, float64 columns by feature name, indexed like its bars; NaN only before the first value.
        kinds: by column.
        how: by column, in words: its kind, and what was done about gaps.
    """

    values: Mapping[str, pd.DataFrame]
    kinds: dict[str, Kind]
    how: dict[str, str]


def own_columns(
    raw: pd.DataFrame,
    spec: FeaturesSpec,
    used: Collection[Hashable],
    decimal: str | None,
    source: str,
    of_bars: str | None = None,
) -> tuple[pd.DataFrame, list[Problem]]:
    """A source's own numeric columns as float64, indexed by row number (from 1); and what is wrong.

    Args:
        raw: the table as read.
        spec: which columns.
        used: columns that something else is read from.
        decimal: the decimal sign that was asked for, or None.
        source: the place named in problems.
        of_bars: the one that was found for the bars, which holds for the whole file; or None.
    """
    try:
        chosen = numeric(raw, spec.columns, used, decimal, of_bars)
    except values.AmbiguousError as error:
        return pd.DataFrame(), [Problem(place=source, message=str(error), fix=error.fix)]
    missing = [name for name in spec.columns if name != ALL and name not in chosen]
    problems = []
    if missing:
        listed = ", ".join(str(name) for name in raw.columns if name not in used) or "none"
        message = f"has no numeric column {', '.join(map(repr, missing))} (it has: {listed})"
        problems.append(Problem(place=source, message=message, fix="correct data.features.columns"))
    elif not chosen:
        message = "has no numeric column but its bars"
        problems.append(Problem(place=source, message=message, fix="leave data.features out"))
    return pd.DataFrame(chosen).set_axis(pd.RangeIndex(1, len(raw) + 1, name="row")), problems


def numeric(
    raw: pd.DataFrame,
    wanted: Collection[str],
    used: Collection[Hashable],
    decimal: str | None,
    of_bars: str | None = None,
) -> dict[str, "pd.Series[float]"]:
    """Columns of numbers by name; infinite ones are missing ones. The arguments are those of `own_columns`.

    Raises:
        AmbiguousError: the decimal sign, which all columns have in common, cannot be found out, or is not the bars'.
    """
    columns: dict[str, pd.Series[Any]] = {}
    filled: dict[str, int] = {}
    for name in raw.columns:
        if (ALL in wanted and name not in used) or str(name) in wanted:
            column = raw[name]
            if pd.api.types.is_datetime64_any_dtype(column.dtype):
                continue
            if pd.api.types.is_bool_dtype(column.dtype):
                column = column.astype(np.float64)
            if pd.api.types.is_numeric_dtype(column.dtype):
                count = int(column.notna().sum())
            else:
                text = values.bare(column)
                count = int((text != "").sum())
                like_N = text.str.fullmatch(_LIKE_NUMBERS)
                if like_N.sum() <= _NUMERIC * count:
                    continue  # words, whose commas say nothing about numbers
                if decimal is None and of_bars and (cell := values.contradicting(text[like_N], of_bars)):
                    # Read by the bars' sign, '0,02' would be 2.
                    message = f"{cell!r} of the column {str(name)!r} has another decimal sign than the bars"
                    fix = "write one sign, or leave the column out; where the bars are no text, set data.format.decimal"
                    raise values.AmbiguousError(message, fix)
            columns[str(name)], filled[str(name)] = column, count
    read, _ = values.numbers(columns, decimal or of_bars)
    return {
        name: x_T.where(np.isfinite(x_T)).reset_index(drop=True)
        for name, x_T in read.items()
        if x_T.notna().sum() > _NUMERIC * filled[name]
    }


def symbols(raw: pd.DataFrame) -> list[Hashable]:
    """The column of symbols, which is no feature."""
    column = names.first_of(raw.columns, names.SYMBOLS)
    return [] if column is None else [column]


def refuse_missing(columns: Mapping[str, Collection[str]]) -> None:
    """Refuse own columns that some assets lack, or have without a value: they would be dropped for all.

    Args:
        columns: names of the columns with values, by asset.

    Raises:
        DataError: with every asset and column.
    """
    known = dict.fromkeys(name for found in columns.values() for name in found)
    fix = "correct data.features.columns"
    problems = [
        Problem(place=asset, message=f"has no values in {name!r}, which another asset has", fix=fix)
        for asset, found in columns.items()
        for name in known
        if name not in found
    ]
    if problems:
        raise DataError(problems)


def settle(
    columns: Mapping[str, pd.DataFrame],
    spec: GivenSpec,
    found: Mapping[str, ColumnKind],
    place: str,
    name_of: Mapping[str, str],
    tables: Spilled,
) -> Given:
    """Kinds, gaps and names of columns that are on the bars' dates already.

    Args:
        columns: by asset, float64 columns by their own names, the same for all; NaN where a value is missing.
        spec: kinds and gaps.
        found: by the column's own name, the kind that its values suggest.
        place: the block of the sweep file, named in problems.
        name_of: by the column's own name, the feature's.
        tables: gets the values by asset.

    Raises:
        DataError: a gap that is refused; values that are not of the kind.
    """
    known = [str(name) for name in next(iter(columns.values()))]
    problems = []
    for what, block in (("kind", spec.kind), ("gaps", spec.gaps)):
        problems += [
            Problem(place=f"{place}.{what}.{name}", message="is no column in use", fix=f"use one of {', '.join(known)}")
            for name in block
            if name != ALL and name not in known
        ]
    if problems:
        raise DataError(problems)
    rule_of = {name: spec.gaps.get(name, spec.gaps.get(ALL, "refuse")) for name in known}
    kind_of = {name: spec.kind.get(name) or spec.kind.get(ALL) or found[name] for name in known}
    gaps_of = dict.fromkeys(known, 0)
    for frame in columns.values():
        for name in known:
            gaps_of[name] += int(_gaps(frame[name].to_numpy(dtype=np.float64)).sum())
    kinds: dict[str, Kind] = {}
    how: dict[str, str] = {}
    for name in known:
        feature, rule, n_gaps = name_of[name], rule_of[name], gaps_of[name]
        asked = spec.kind.get(name) or spec.kind.get(ALL)
        words = [kind_of[name] if asked else f"{kind_of[name]} (by its values)"]
        kinds[feature] = _KINDS[kind_of[name]]
        if n_gaps:
            words.append(f"{n_gaps} gaps {'masked' if rule == 'mask' else 'filled'}")
        if n_gaps and rule == "mask":
            kinds[f"{feature}_known"] = Kind.NUMBER
            words.append(f"{feature}_known says where")
        how[feature] = "; ".join(words)
    for asset, frame in columns.items():
        filled: dict[str, Array] = {}
        for name in known:
            feature, rule, x_T = name_of[name], rule_of[name], frame[name].to_numpy(dtype=np.float64)
            gap_T = _gaps(x_T)
            if gaps_of[name] and rule == "mask":
                filled[f"{feature}_known"] = np.where(gap_T, 0.0, 1.0)
            filled[feature] = _filled(x_T, gap_T, rule)
            where = f"{place}, {name} of {asset}"
            problems += _wrong(filled[feature], x_T, pd.DatetimeIndex(frame.index), rule, kind_of[name], where)
        if not problems:
            tables[asset] = pd.DataFrame(filled, index=frame.index)[list(kinds)]
    if problems:
        raise DataError(problems)
    return Given(tables, kinds, how)


def _gaps(x_T: Array) -> "np.ndarray":
    return np.asarray(np.isnan(x_T) & _begun(x_T))


def _begun(x_T: Array) -> "np.ndarray":
    return np.maximum.accumulate(np.isfinite(x_T)) if len(x_T) else np.zeros(0, dtype=bool)


def _filled(x_T: Array, gap_T: "np.ndarray", rule: str | int) -> Array:
    """Gaps hold the value before them: all of them under `mask`, up to a number of bars where the rule is one."""
    if rule == "refuse" or not gap_T.any():
        return x_T
    limit = None if rule == "mask" else int(rule)
    return np.asarray(pd.Series(x_T).ffill(limit=limit), dtype=np.float64)


def _wrong(
    filled_T: Array, x_T: Array, dates: pd.DatetimeIndex, rule: str | int, kind: ColumnKind, place: str
) -> list[Problem]:
    if not np.isfinite(filled_T).any():
        return [Problem(place=place, message="has no value", fix="leave the column out")]
    left = np.flatnonzero(np.isnan(filled_T) & _begun(x_T))
    if len(left):
        limit = f" that {rule} bars do not fill" if isinstance(rule, int) else ""
        message = f"{len(left)} values are missing{limit}, the first on {dates[left[0]]:%Y-%m-%d}"
        fix = "data: ... gaps: {COLUMN: N} fills N bars with the value before, {COLUMN: mask} all, and says where"
        return [Problem(place=place, message=message, fix=fix)]
    if kind in ("change", "level") and np.nanmin(filled_T) <= 0:
        day = dates[int(np.nanargmin(filled_T))]
        message = f"is of the kind {kind!r} and not positive on {day:%Y-%m-%d}: {np.nanmin(filled_T):g}"
        return [Problem(place=place, message=message, fix="give it another kind, such as 'as is'")]
    return []


def found_kinds(columns: Mapping[str, pd.DataFrame], closes: Mapping[str, "pd.Series[float]"]) -> dict[str, ColumnKind]:
    """The kind that the values of each column suggest, of all assets that have it."""
    names = dict.fromkeys(name for frame in columns.values() for name in frame)
    having = {name: [asset for asset, frame in columns.items() if name in frame] for name in names}
    return {
        str(name): found_kind(
            [np.asarray(columns[asset][name], dtype=np.float64) for asset in assets],
            [np.asarray(closes[asset], dtype=np.float64) for asset in assets],
        )
        for name, assets in having.items()
    }


def found_kind(columns: list[Array], closes: list[Array] | None = None) -> ColumnKind:
    """The kind that a column's values suggest.

    A level is near the close and moves with it; a share lies in 0 to 1, a percent in 0 to 100; all else is as it is.

    Args:
        columns: by asset.
        closes: likewise; None for a column that has nothing to do with an asset's price, which is then no level.
    """
    x = np.concatenate([x_T[np.isfinite(x_T)] for x_T in columns])
    if not len(x):
        return "as is"
    if closes is not None and x.min() > 0 and _is_level(columns, closes):
        return "level"
    if x.min() >= 0 and x.max() <= 1:
        return "share"
    if x.min() >= 0 and x.max() <= 100:
        return "percent"
    return "change" if closes is None and x.min() > 0 else "as is"


def _is_level(columns: list[Array], closes: list[Array]) -> bool:
    for x_T, close_T in zip(columns, closes, strict=True):
        known_T = np.isfinite(x_T)
        ratio = x_T[known_T] / close_T[known_T]
        near = (ratio > _LEVEL_RATIO[0]) & (ratio < _LEVEL_RATIO[1])
        logs = np.log(x_T[known_T]), np.log(close_T[known_T])
        if len(ratio) < 3 or near.mean() < _LEVEL_SHARE or min(np.std(logs[0]), np.std(logs[1])) == 0:
            return False
        if np.corrcoef(*logs)[0, 1] < _LEVEL_CORRELATION:
            return False
    return True


def feature_names(columns: Collection[str], taken: Collection[str], prefix: str = "") -> dict[str, str]:
    """A feature's name for each column: letters, digits, '_', '-', '.', and none that is taken.

    Raises:
        DataError: two columns would have one name.
    """
    result: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{prefix}{column}").strip("_")[:60]
        if not re.match(r"[A-Za-z]", name) or name in taken:
            name = f"own_{name}"[:60]
        if name in result.values() or name in taken:
            message = f"the column {column!r} would be the feature {name!r}, which is there already"
            raise DataError(Problem(place=prefix.rstrip("_") or "data.features", message=message, fix="rename it"))
        result[column] = name
    return result
