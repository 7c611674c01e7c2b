"""Bars: read from their sources, checked, resampled to coarser timescales."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd

from trainables.data import given, session, sources, understanding, workers
from trainables.data.columns import NUMBERS, index_of, unused
from trainables.data.source_registry import Member, RawTable
from trainables.data.spilled import Spilled, Stored
from trainables.data.validation import MIN_ROWS
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec, Timescale
from trainables.schema.common import INTRADAY

logger = logging.getLogger(__name__)

_BARS_PER_GROUP: dict[Timescale, int] = {"2d": 2, "3d": 3, "5d": 5}
_DAYS_PER_WEEK = 7
NAMED = 8  # assets in a message
_READ = 20  # bytes that are in memory while one byte of a file is read: as text, cells and numbers
# Calendar weeks and fortnights are counted from Monday 1970-01-05, day 4 of the Unix calendar, so that a fortnight's
# limits do not depend on where a series starts.
_FIRST_MONDAY = 4


@dataclass(frozen=True, eq=False)
class Bars:
    """Checked bars of every asset.

    Attributes:
        frames: by asset, float64 columns open, high, low, close (raw, not adjusted) and volume, indexed by `date`
            (datetime64[ns], midnight, ascending, distinct). Bars without volume have NaN there, all of them.
        source_sha256: by source, the hash of what was read.
        unused_columns: by source, names of columns that nothing is read from; sources without any are left out.
        intraday: by asset, bars of a timescale within a day, indexed by their first moments in UTC.
        days: by asset, the trading day of each of those bars.
        universe: assets of sources that hold several; those that are too short for the features may be left out.
        own: by asset, the source's own columns that `data.features` asks for, float64, indexed like the bars.
    """

    frames: Spilled
    source_sha256: dict[str, str]
    unused_columns: dict[str, tuple[str, ...]]
    own: Spilled = field(default_factory=Spilled)
    universe: set[str] = field(default_factory=set)
    intraday: Spilled = field(default_factory=Spilled)
    days: dict[str, pd.DatetimeIndex] = field(default_factory=dict)

    def resampled(self, timescale: Timescale) -> Spilled:
        """Bars of a timescale by asset, sorted by name."""
        names = sorted(self.frames)
        if timescale == "daily" or timescale in INTRADAY:
            return (self.intraday or self.frames).pick(names)
        coarse = self.frames.like()
        coarse.update((name, resample(self.frames[name], timescale)) for name in names)
        return coarse


def load_sources(spec: DataSpec, held: Spilled | None = None, limit: int = 0) -> Bars:
    """Read and check all sources of a specification.

    Prices are what the source calls open, high, low and close; an 'Adj Close' next to them is not used unless mapped,
    because it is not of one kind with high and low.

    Args:
        spec: which ones.
        held: where tables are kept; it is empty.
        limit: bytes that several processes may take together for it.

    Raises:
        DataError: with every problem of every source.
    """
    held = Spilled() if held is None else held
    bars = Bars(held, {}, {}, own=held.like(), intraday=held.like())
    problems: list[Problem] = []
    seen: set[str] = set()
    members = [(source, member) for source in spec.source for member in _members(source, spec)]
    sizes = [member.size for _, member in members]
    several = limit if all(sizes) else 0
    loaded = workers.mapped(
        lambda one: _loaded(one[1], one[0], spec, held), members, _READ * max(sizes, default=0), several
    )
    short: dict[str, list[str]] = {}
    read: dict[str, dict[str, str]] = {}
    for (source, member), one in zip(members, loaded, strict=True):
        if member.asset in seen:
            fix = "rename one of the files: an asset's name is its file's stem, symbol or shipped name"
            message = f"a second source for the asset {member.asset!r}"
            problems.append(Problem(place=member.place, message=message, fix=fix))
        if one is None:
            short.setdefault(source, []).append(member.asset)
            continue
        seen.add(member.asset)
        problems.extend(one.problems)
        bars.source_sha256[source] = one.sha256
        if member.place != source:
            bars.universe.add(member.asset)
            read.setdefault(source, {})[member.place] = one.sha256
        if one.unused:
            bars.unused_columns[source] = one.unused
        for tables, table in ((bars.frames, one.frame), (bars.own, one.own), (bars.intraday, one.intraday)):
            if table is not None:
                tables.keep(member.asset, table)
        if one.days is not None:
            bars.days[member.asset] = one.days
    for source, assets in short.items():
        tell_short(source, assets, f"fewer than {MIN_ROWS} rows")
    if not seen:
        problems.append(Problem(place=spec.source[0], message="no asset has enough rows", fix="use longer series"))
    if problems:
        raise DataError(problems)
    for source, known in read.items():
        bars.source_sha256[source] = sources.digest(source, known) or bars.source_sha256[source]
    if spec.sample.assets is not None:
        return replace(bars, frames=_sampled(bars.frames, spec.sample.assets))
    return bars


def _members(source: str, spec: DataSpec) -> Sequence[Member]:
    """Assets of a source; where it has none, one that cannot be read."""
    try:
        return sources.members(source, spec)
    except DataError as error:
        return [Member(sources.asset_name(source), source, partial(_refuse, error), size=1)]


def _refuse(error: DataError) -> RawTable:
    raise error


@dataclass(frozen=True, eq=False)
class _Asset:
    """What was read of one asset; tables as they are kept."""

    sha256: str = ""
    unused: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    frame: pd.DataFrame | Stored | None = None
    own: pd.DataFrame | Stored | None = None
    intraday: pd.DataFrame | Stored | None = None
    days: pd.DatetimeIndex | None = None


def _loaded(member: Member, source: str, spec: DataSpec, held: Spilled) -> _Asset | None:
    """One asset, read, checked and kept; None for one of a universe that is too short."""
    try:
        raw = member.read()
        if member.place != source and len(raw.frame) < MIN_ROWS:
            return None
        loaded = _load_one(raw, member.asset, member.place, spec)
        if loaded.exchange is None:
            own = None if spec.features is None else held.stored(loaded.own)
            return _Asset(raw.sha256, loaded.unused, frame=held.stored(loaded.bars), own=own)
        dates = pd.DatetimeIndex(loaded.bars.index)
        moments = session.Sessions.of(dates, loaded.exchange)
        _tell_outside(moments, member.place)
        if spec.timescale in INTRADAY and (
            wrong := session.too_coarse(dates, moments, loaded.exchange, spec.timescale)
        ):
            message = f"{wrong}, which data.timescale asks for"
            raise DataError(Problem(place=member.place, message=message, fix="use finer bars, or a coarser timescale"))
        whole = loaded.bars.join(loaded.own)
        daily, _ = session.joined(whole, moments, "daily")
        others, intraday, days = daily, None, None
        if spec.timescale in INTRADAY:
            others, days = session.joined(whole, moments, spec.timescale)
            intraday = held.stored(others[list(NUMBERS)])
        own = None if spec.features is None else held.stored(others[list(loaded.own)])
        return _Asset(raw.sha256, loaded.unused, (), held.stored(daily[list(NUMBERS)]), own, intraday, days)
    except DataError as exc:
        return _Asset(problems=tuple(exc.problems))


def _sampled(frames: Spilled, count: int) -> Spilled:
    """So many of the assets, evenly spread over their sorted names."""
    names = sorted(frames)
    if count > len(names):
        message = f"{count} assets are asked for, and there are {len(names)}"
        raise DataError(Problem(place="data.sample.assets", message=message, fix="ask for fewer"))
    chosen = [names[int(place)] for place in np.linspace(0, len(names) - 1, count).round()]
    logger.warning("data.sample: %d of %d assets: %s", count, len(names), listed(chosen))
    return frames.pick(chosen)


def listed(assets: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(assets[:NAMED]) + (f" and {len(assets) - NAMED} more" if len(assets) > NAMED else "")


def tell_short(place: str, assets: Sequence[str], why: str) -> None:
    """Say which assets of a universe are left out."""
    logger.warning("%s: left out, %s: %s", place, why, listed(assets))


@dataclass(frozen=True, eq=False)
class _Loaded:
    bars: pd.DataFrame
    own: pd.DataFrame
    unused: tuple[str, ...]
    exchange: session.Exchange | None


def _load_one(raw: RawTable, asset: str, source: str, spec: DataSpec) -> _Loaded:
    if (numbers := understanding.plain(raw, spec)) is not None:
        return _Loaded(numbers, pd.DataFrame(index=numbers.index), unused(raw.frame, {}), None)
    one = understanding.understood(raw, asset, source, spec)
    bars, problems = one.bars, one.problems
    if one.found and source not in sources.SHIPPED:  # what ships has a known form
        logger.warning("%s: %s", source, "; ".join(f"{what} {value}" for what, value in one.found.items()))
    for what in one.done:
        logger.warning("%s: %s", source, what)
    own: pd.DataFrame | None = None
    if spec.features is not None:
        others = unused(raw.frame, spec.columns, one.adjusted_by)
        sign = spec.format.decimal or ("," if one.found.get("decimal sign") == "comma" else None)
        if sign is None and (bars[list(NUMBERS)] % 1 > 0).to_numpy().any():
            sign = "."  # the bars have one
        used = [name for name in raw.frame.columns if str(name) not in others]
        own, wrong = given.own_columns(
            raw.frame, spec.features, [*used, *given.symbols(raw.frame)], spec.format.decimal, source, of_bars=sign
        )
        problems += wrong
    if problems:
        raise DataError(problems)
    dates = pd.DatetimeIndex(bars["date"])
    numbers_5T = np.stack([bars[name].to_numpy() for name in NUMBERS])
    numbers = pd.DataFrame(numbers_5T.T, index=dates, columns=index_of(NUMBERS), copy=False)
    own = pd.DataFrame(index=dates) if own is None else own.loc[bars.index].set_axis(dates)
    others = unused(raw.frame, spec.columns, (*one.adjusted_by, *own.columns))
    return _Loaded(numbers, own, others, one.exchange)


def _tell_outside(moments: session.Sessions, place: str) -> None:
    """Say how many bars lie outside the sessions.

    Raises:
        DataError: all of them.
    """
    outside = int((~moments.inside).sum())
    if outside == len(moments.inside):
        fix = "correct data.calendar, or data.session, which is by the clock of its timezone"
        raise DataError(Problem(place=place, message="has no bar inside the session", fix=fix))
    if outside:
        logger.warning("%s: %d of %d bars are outside the sessions and left out", place, outside, len(moments.inside))


def week_number(dates: pd.DatetimeIndex) -> np.ndarray:
    """Number of the calendar week (Monday to Sunday) of each date, int64, counted from 1970-01-05."""
    days = dates.to_numpy().astype("datetime64[D]").astype(np.int64)
    return np.asarray((days - _FIRST_MONDAY) // _DAYS_PER_WEEK)


def resample(frame: pd.DataFrame, timescale: Timescale) -> pd.DataFrame:
    """Join bars to coarser ones.

    `2d`, `3d`, `5d` join that many consecutive bars, counted from the first; `weekly` joins Monday to Sunday, `2wk` two
    such weeks at a fixed phase, `monthly` a calendar month. A bar is dated by its last day. The last group is dropped
    unless it is known to be complete, which for a calendar group needs a later bar: data that is appended later never
    changes a bar.

    Args:
        frame: one asset's bars, indexed by date.
        timescale: of the result; `daily` returns the bars as they are.
    """
    if timescale == "daily":
        return frame
    dates = pd.DatetimeIndex(frame.index)
    if timescale in _BARS_PER_GROUP:
        size = _BARS_PER_GROUP[timescale]
        group = np.arange(len(frame)) // size
        complete = len(frame) // size * size
    else:
        if timescale == "monthly":
            group = dates.to_numpy().astype("datetime64[M]").astype(np.int64)
        else:
            group = week_number(dates) // (2 if timescale == "2wk" else 1)
        complete = int(np.searchsorted(group, group[-1])) if len(group) else 0
    grouped = frame.assign(date=dates).iloc[:complete].groupby(group[:complete], sort=False)
    joined = grouped.agg(
        date=("date", "last"),
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    if frame["volume"].isna().all():
        joined["volume"] = np.nan
    return joined.set_index("date")
