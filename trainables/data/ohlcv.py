"""Bars: read from their sources, checked, resampled to coarser timescales."""

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trainables.data import columns, given, session, sources
from trainables.data.columns import NUMBERS, PRICES, to_ours, unused
from trainables.data.source_registry import RawTable
from trainables.data.validation import MIN_ROWS, find_problems, repaired
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec, Timescale
from trainables.schema.common import INTRADAY

logger = logging.getLogger(__name__)

_BARS_PER_GROUP: dict[Timescale, int] = {"2d": 2, "3d": 3, "5d": 5}
_DAYS_PER_WEEK = 7
NAMED = 8  # assets in a message
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

    frames: dict[str, pd.DataFrame]
    source_sha256: dict[str, str]
    unused_columns: dict[str, tuple[str, ...]]
    own: dict[str, pd.DataFrame] = field(default_factory=dict)
    universe: frozenset[str] = frozenset()
    intraday: dict[str, pd.DataFrame] = field(default_factory=dict)
    days: dict[str, pd.DatetimeIndex] = field(default_factory=dict)

    def resampled(self, timescale: Timescale) -> dict[str, pd.DataFrame]:
        """Bars of a timescale by asset."""
        return {
            asset: self.intraday[asset] if asset in self.intraday else resample(frame, timescale)
            for asset, frame in sorted(self.frames.items())
        }


def load_sources(spec: DataSpec) -> Bars:
    """Read and check all sources of a specification.

    Prices are what the source calls open, high, low and close; an 'Adj Close' next to them is not used unless mapped,
    because it is not of one kind with high and low.

    Raises:
        DataError: with every problem of every source.
    """
    frames: dict[str, pd.DataFrame] = {}
    own: dict[str, pd.DataFrame] = {}
    hashes: dict[str, str] = {}
    others_of: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    universe: set[str] = set()
    intraday: dict[str, pd.DataFrame] = {}
    days: dict[str, pd.DatetimeIndex] = {}
    for source in spec.source:
        short: list[str] = []
        try:
            for asset, place, raw in _members(source, spec):
                if asset in frames:
                    fix = "rename one of the files: an asset's name is its file's stem, symbol or shipped name"
                    problems.append(Problem(place=place, message=f"a second source for the asset {asset!r}", fix=fix))
                if place != source:
                    if len(raw.frame) < MIN_ROWS:
                        short.append(asset)
                        continue
                    universe.add(asset)
                try:
                    loaded = _load_one(raw, place, spec)
                except DataError as exc:
                    frames.setdefault(asset, pd.DataFrame())
                    problems.extend(exc.problems)
                    continue
                frames[asset], own[asset], hashes[source] = loaded.bars, loaded.own, raw.sha256
                if spec.session is not None:
                    whole = loaded.bars.join(loaded.own)
                    daily, _ = session.joined(whole, spec.session, "daily")
                    if daily.empty:
                        fix = "correct data.session, which is by the clock of its timezone"
                        problems.append(Problem(place=place, message="has no bar inside the session", fix=fix))
                    frames[asset], own[asset] = daily[list(NUMBERS)], daily[list(loaded.own)]
                    if spec.timescale in INTRADAY:
                        finer, days[asset] = session.joined(whole, spec.session, spec.timescale)
                        intraday[asset], own[asset] = finer[list(NUMBERS)], finer[list(loaded.own)]
                if loaded.unused:
                    others_of[source] = loaded.unused
            if short:
                tell_short(source, short, f"fewer than {MIN_ROWS} rows")
            if universe:
                hashes[source] = sources.digest(source) or hashes.get(source, "")
        except DataError as exc:
            frames.setdefault(sources.asset_name(source), pd.DataFrame())
            problems.extend(exc.problems)
    if not frames:
        problems.append(Problem(place=spec.source[0], message="no asset has enough rows", fix="use longer series"))
    if problems:
        raise DataError(problems)
    return Bars(frames, hashes, others_of, own if spec.features else {}, frozenset(universe), intraday, days)


def _members(source: str, spec: DataSpec) -> Iterator[tuple[str, str, RawTable]]:
    """Asset, place and table of each asset of a source; of a source that is one asset, the place is the source."""
    found = sources.members(source, spec)
    if found is None:
        yield sources.asset_name(source), source, sources.read(source, spec)
    else:
        yield from found


def tell_short(place: str, assets: Sequence[str], why: str) -> None:
    """Say which assets of a universe are left out."""
    listed = ", ".join(assets[:NAMED]) + (f" and {len(assets) - NAMED} more" if len(assets) > NAMED else "")
    logger.warning("%s: left out, %s: %s", place, why, listed)


@dataclass(frozen=True, eq=False)
class _Loaded:
    bars: pd.DataFrame
    own: pd.DataFrame
    unused: tuple[str, ...]


def _load_one(raw: RawTable, source: str, spec: DataSpec) -> _Loaded:
    bars, problems, found = to_ours(raw.frame, spec.columns, source, spec.format, spec.session)
    bars, more, adjusted_by = adjusted(bars, raw.frame, spec, source)
    bars, without = volume_or_none(bars)
    problems, found = problems + more, found | without
    if (raw.found | found) and source not in sources.SHIPPED:  # what ships has a known form
        logger.warning("%s: %s", source, "; ".join(f"{what} {value}" for what, value in (raw.found | found).items()))
    bars = repaired(in_order(bars, source, sort=spec.sort), spec.repair, source)
    problems += find_problems(bars, raw.frame, spec.columns, source)
    own = pd.DataFrame(index=bars.index)
    if spec.features is not None:
        others = unused(raw.frame, spec.columns, adjusted_by)
        used = [name for name in raw.frame.columns if str(name) not in others]
        own, wrong = given.own_columns(
            raw.frame, spec.features, [*used, *given.symbols(raw.frame)], spec.format.decimal, source
        )
        problems += wrong
    if problems:
        raise DataError(problems)
    in_use = (*adjusted_by, *own.columns)
    own = own.loc[bars.index].set_axis(pd.DatetimeIndex(bars["date"]))
    return _Loaded(bars.set_index("date")[list(NUMBERS)], own, unused(raw.frame, spec.columns, in_use))


def volume_or_none(bars: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Bars with a volume of NaN where the source has no volume, or one that never changes; and what was found out."""
    volume = bars.get("volume")
    if volume is not None and volume.nunique() > 1:
        return bars, {}
    why = "none" if volume is None else f"none: always {volume.iloc[0]:g}" if volume.notna().any() else "none: empty"
    return bars.assign(volume=np.nan), {"volume": f"{why}; features that need it are left out"}


def adjusted(
    bars: pd.DataFrame, raw: pd.DataFrame, spec: DataSpec, source: str
) -> tuple[pd.DataFrame, list[Problem], tuple[Hashable, ...]]:
    """Bars with prices times adjusted close over close, where `data.adjust` asks for it.

    Returns:
        The bars, what is wrong, and the names of the source's columns that were used.
    """
    if spec.adjust == "none" or "close" not in bars:
        return bars, [], ()
    found = columns.adjusted(raw, spec.format.decimal)
    if found is None:
        message = f"data.adjust: ratio needs a column of adjusted closes (its columns: {', '.join(map(str, raw))})"
        return bars, [Problem(place=source, message=message, fix="name it 'Adj Close', or set data.adjust: none")], ()
    name, closes = found
    ratio = closes / bars["close"]
    changed = {price: bars[price] * ratio for price in PRICES if price in bars and price != "close"}
    return bars.assign(**changed, close=closes), [], (name,)


def in_order(bars: pd.DataFrame, source: str, *, sort: bool) -> pd.DataFrame:
    """Bars from old to new, where that is clear (a file from new to old), or where sorting is asked for."""
    if "date" not in bars.columns or bars["date"].is_monotonic_increasing:
        return bars
    known = bars["date"].dropna()
    if len(known) > 1 and known.is_monotonic_decreasing and known.is_unique:
        return bars.iloc[::-1]
    if sort:
        out_of_order = int((bars["date"].diff() < pd.Timedelta(0)).sum())
        logger.warning("%s: sorted by date (data.sort); %d rows came before an earlier one", source, out_of_order)
        return bars.sort_values("date", kind="stable")
    return bars


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
