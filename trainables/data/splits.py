"""Chronological splits on one time axis: limits, purge, embargo, folds, and how many samples they really hold.

The axis holds every date on which all features of at least one asset are complete, ascending; a position is an index
into it. Assets with different calendars share it, so that limits are moments for all of them. Between two bars
of one asset there may then be positions at which others have bars, and bars of two assets may overlap in part.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainables.errors import ConfigError, Problem
from trainables.schema import SplitSpec, Timescale
from trainables.schema.common import INTRADAY

# `selection` is the first part of validation where `SplitSpec.selection` asks for one; `validation` is then the rest.
SplitName = Literal["train", "selection", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

_ROUNDING = 1e-6  # of a sum of parts 1/n, n up to MAX_LOOKAHEAD: far below the smallest of them

_IN_WORDS = {"selection": "the selection part of validation"}

Dates = npt.NDArray[np.datetime64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EffectiveSize:
    """Independent samples of a split: overlapping windows count once per span of a label, assets do not multiply.

    Attributes:
        total: the sum over contiguous spans of window ends on the time axis of floor(length / positions that a label
            spans), which are as many as its bars where all assets have one calendar.
        rarer_class: total times the share of the rarest class; None where labels are values.
    """

    total: int
    rarer_class: int | None


# Below these a metric cannot tell a model from the prior: with 100 independent samples the standard error of an
# accuracy near 1/2 is already 0.05. A sweep may ask for more or less, down to the floor, where it is 0.11.
MIN_EFFECTIVE, MIN_EFFECTIVE_RARER_CLASS = 100, 30
FLOOR_EFFECTIVE, FLOOR_RARER_CLASS = 20, 5
LEAST = EffectiveSize(MIN_EFFECTIVE, MIN_EFFECTIVE_RARER_CLASS)
FLOOR = EffectiveSize(FLOOR_EFFECTIVE, FLOOR_RARER_CLASS)


def limits(axis: Dates, spec: SplitSpec, fraction: float = 1.0) -> dict[SplitName, range]:
    """Positions of each split on the axis, after fold, fraction and embargo.

    Args:
        axis: [A] datetime64, ascending.
        spec: fractions or dates, embargo in bars (`window_ends` counts each asset's own), folds.
        fraction: newest part of the training span that is used.

    Raises:
        ConfigError: a split is empty whatever the task: a date outside the data, or more folds than fit.
    """
    by_dates = isinstance(spec.train, date)
    edges = _edges_by_date(axis, spec) if by_dates else _edges_by_fraction(len(axis), spec)
    starts = [0, edges[0] + spec.embargo, edges[1] + spec.embargo]
    starts[0] = edges[0] - max(1, round(fraction * edges[0]))
    spans = {name: range(start, stop) for name, start, stop in zip(SPLITS, starts, edges, strict=True)}
    empty = [name for name, span in spans.items() if not len(span) or span.start < 0]
    if empty:
        what = f"no bars are left for {', '.join(empty)}"
        if by_dates:
            place, fix = "data.splits", f"choose dates inside {_day(axis[0])} to {_day(axis[-1])}"
        elif spec.folds > 1 and edges[0] <= 0:
            place, fix = (
                "data.splits.folds",
                "fewer folds, or a smaller test split: each earlier fold ends one test sooner",
            )
        else:
            place, fix = (
                "data.splits",
                f"larger fractions or a smaller embargo ({len(axis)} bars, embargo {spec.embargo})",
            )
        raise ConfigError(Problem(place=place, message=what, fix=fix))
    return spans


def _edges_by_fraction(bars: int, spec: SplitSpec) -> list[int]:
    """First position after each split."""
    parts = [float(part) for part in (spec.train, spec.validation, spec.test)]  # type: ignore[arg-type]
    edges = [min(bars, round(total * bars)) for total in np.cumsum(parts).tolist()]
    shift = (spec.folds - 1 - spec.fold) * (edges[2] - edges[1])
    return [edge - shift for edge in edges]


def _edges_by_date(axis: Dates, spec: SplitSpec) -> list[int]:
    lasts = np.array([spec.train, spec.validation, spec.test], dtype="datetime64[D]")
    return [int(edge) for edge in np.searchsorted(axis.astype("datetime64[D]"), lasts, side="right")]


def _day(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[D]"))


def overlapped(axis: Dates, dates_T: Dates, timescale: Timescale) -> tuple[Ints, Ints]:
    """First and last position on the axis with which each bar of one asset shares time.

    Both are the bar's own position where all assets have one calendar. Bars within a day are dated by their beginning,
    coarser ones by their last day.

    Args:
        axis: [A] datetime64[ns], ascending.
        dates_T: of the bars, ascending.
        timescale: of the bars.
    """
    position_T = np.searchsorted(axis, dates_T)
    if timescale in INTRADAY:
        over_T = dates_T + np.timedelta64(INTRADAY[timescale], "m")
        return position_T, np.maximum(position_T, np.searchsorted(axis, over_T) - 1)
    if timescale == "daily":
        return position_T, position_T
    day_T = dates_T.astype("datetime64[D]")
    if timescale == "monthly":
        begun_T = day_T.astype("datetime64[M]").astype("datetime64[D]")
    elif timescale in ("weekly", "2wk"):
        length = 7 if timescale == "weekly" else 14
        begun_T = day_T - (day_T.astype(np.int64) - 4) % length  # counted from Monday 1970-01-05
    else:  # several bars from the day after the bar before, which is close, or far across a gap
        before_T = np.concatenate([day_T[:1] - 1, day_T[:-1]])
        begun_T = np.maximum(before_T + 1, day_T - 2 * int(timescale[0]))
    return np.minimum(position_T, np.searchsorted(axis, begun_T.astype(dates_T.dtype))), position_T


def window_ends(
    begun_T: Ints, over_T: Ints, first: int, span: range, context: int, lookahead: int, embargo: int = 0
) -> Ints:
    """Rows of one asset at which a window may end: its whole context and its label's whole span lie inside the split.

    Args:
        begun_T: first position on the axis with which each row of the asset shares time, ascending; see `overlapped`.
        over_T: last one.
        first: first row with complete features.
        span: the split's positions.
        context: bars in a window, its end included.
        lookahead: bars after the end that the label uses.
        embargo: as many positions were left out before the span; of the asset's own bars as many are, which takes
            longer where others have bars in between.

    Returns:
        [N] int64 rows, counted within the asset, ascending.
    """
    ends_N = np.arange(first + context - 1, len(begun_T) - lookahead, dtype=np.int64)
    begins_inside = ends_N - context + 1 >= np.searchsorted(begun_T, span.start - embargo) + embargo
    label_ends_inside = over_T[ends_N + lookahead] < span.stop
    return np.asarray(ends_N[begins_inside & label_ends_inside])


def divide(positions_N: Ints, label_ends_N: Ints, share: float) -> tuple[Flags, Flags]:
    """Which validation windows choose epochs, and which judge.

    The first judged window ends where `share` of the window ends on the time axis are over. Windows that choose have
    labels that end there or before, so that no bar is in a label of both; the windows of lookahead - 1 bars before the
    limit are in neither. Contexts may overlap: features are known when a window ends.

    Args:
        positions_N: position of each window's end on the time axis, any order; assets may repeat positions.
        label_ends_N: position of the last bar of each window's label.
        share: of the ends that choose.

    Returns:
        Two masks [N].
    """
    distinct = np.flatnonzero(np.bincount(positions_N))
    if not len(distinct):
        nothing = np.zeros(0, dtype=bool)
        return nothing, nothing
    first_judged = distinct[min(round(share * len(distinct)), len(distinct) - 1)]
    return label_ends_N <= first_judged, positions_N >= first_judged


def cover(shortest_A: Floats, positions_N: Ints, nexts_N: Ints, label_ends_N: Ints) -> None:
    """Enter one asset's windows: each covers the time axis from its end until the asset's next bar.

    Args:
        shortest_A: of each position on the axis, the shortest span of a label among the windows that cover it, in
            positions; infinite where there is none.
        positions_N: position of each window's end, ascending.
        nexts_N: of the asset's next bar.
        label_ends_N: of the last bar of the window's label.
    """
    steps_N, spans_M = nexts_N - positions_N, label_ends_N - positions_N
    at_M = positions_N
    if (steps_N > 1).any():
        at_M = np.repeat(positions_N - np.cumsum(steps_N) + steps_N, steps_N) + np.arange(steps_N.sum())
        spans_M = np.repeat(spans_M, steps_N)
    shortest_A[at_M] = np.minimum(shortest_A[at_M], spans_M)


def effective_size(shortest_A: Floats, labels_N: npt.NDArray[np.floating], n_classes: int) -> EffectiveSize:
    """Independent samples among windows.

    Args:
        shortest_A: see `cover`.
        labels_N: numbers of classes, from 0, where there are some.
        n_classes: of the labels; 0 where they are values.
    """
    covered = np.flatnonzero(np.isfinite(shortest_A))
    breaks = np.flatnonzero(np.diff(covered) > 1) + 1
    total = sum(int((1 / shortest_A[run]).sum() + _ROUNDING) for run in np.split(covered, breaks))
    if not n_classes:
        return EffectiveSize(total, None)
    rarest = int(_counts(labels_N, n_classes).min())
    return EffectiveSize(total, total * rarest // len(labels_N) if len(labels_N) else 0)


def class_shares(labels_N: npt.NDArray[np.floating], n_classes: int) -> tuple[float, ...]:
    """The share of each class among labels; empty where there are no classes."""
    return tuple((_counts(labels_N, n_classes) / len(labels_N)).tolist()) if n_classes else ()


def _counts(labels_N: npt.NDArray[np.floating], n_classes: int) -> Ints:
    return np.array([np.count_nonzero(labels_N == number) for number in range(n_classes)])


def shortfalls(split: SplitName, size: EffectiveSize, n_windows: int, least: EffectiveSize = LEAST) -> list[str]:
    """Why a split is too small to decide on, with number and limit; empty if it is not."""
    found, where = [], _IN_WORDS.get(split, split)
    if size.total < least.total:
        found.append(f"{where} has {size.total} effective samples ({n_windows} windows), {least.total} are needed")
    elif size.rarer_class is not None and size.rarer_class < (least.rarer_class or 0):
        found.append(
            f"{where} has {size.rarer_class} effective samples of the rarest class (of {size.total}), "
            f"{least.rarer_class} are needed"
        )
    return found
