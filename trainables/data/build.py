"""Building a dataset: bars of its sources, features of its tier, proven to look back only."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data import calendars, causality, context, given, membership, ohlcv, tier_registry, tiers, workers
from trainables.data.columns import NUMBERS
from trainables.data.dataset import MEMBER, CatalogEntry
from trainables.data.fingerprint import content_sha256
from trainables.data.given import Given
from trainables.data.spilled import Spilled, Stored
from trainables.data.tier_registry import TRADED, AssetBars, Kind, Tier
from trainables.errors import DataError, Problem
from trainables.files import sha256_of
from trainables.parts import Part
from trainables.schema import DataSpec, ResolvedTier


@dataclass(frozen=True)
class _Found:
    """What was computed of one asset; its values are in a file."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    values: pd.DataFrame | Stored | None = None
    left_out: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    short: bool = False


GROUP_ROWS = 1_000_000  # of a parquet file: what is held twice while it is written
_COPIES = 6  # of an asset's features and bars that are in memory while they are computed and written
_FREE_SHARE = 0.5  # of the memory that is there, where no limit is set


def _write(pieces: Iterator["pa.Table"], target: Path) -> None:
    """A parquet file of all pieces, in groups of about `GROUP_ROWS` rows."""
    held = [next(pieces)]
    # Computed columns are hardly smaller when they are compressed, and take most of the time then.
    with pq.ParquetWriter(target, held[0].schema, compression="none", use_dictionary=["asset"]) as writer:
        for piece in pieces:
            if sum(map(len, held)) + len(piece) > GROUP_ROWS:
                writer.write_table(pa.concat_tables(held))
                held = []
            held.append(piece)
        writer.write_table(pa.concat_tables(held))


def _given(spec: DataSpec, bars: ohlcv.Bars, resampled: Spilled, taken: tuple[str, ...]) -> list[Given]:
    """Own columns, then each block of the context, on the bars of the timescale; enters what was read into `bars`."""
    found: list[Given] = []
    if spec.features is not None:
        # A bar is dated by its last day, and has the value of that day.
        given.refuse_missing(bars.own.pick(resampled).columns())
        columns = resampled.like()
        for asset, frame in resampled.items():
            columns[asset] = bars.own[asset].reindex(frame.index).shift(spec.features.lag)
        named = given.feature_names([str(name) for name in next(iter(columns.values()))], taken)
        closes = {asset: frame["close"] for asset, frame in resampled.items()}
        kinds = given.found_kinds(columns, closes)
        found.append(given.settle(columns, spec.features, kinds, "data.features", named, resampled.like()))
    for name, block in spec.context.items():
        series = context.read(name, block, spec)
        bars.source_sha256[block.source] = series.sha256
        if series.unused:
            bars.unused_columns.setdefault(block.source, series.unused)
        found.append(context.settle(name, block, series, resampled, (*taken, *(f for one in found for f in one.kinds))))
    flows = [name for one in found for name, kind in one.kinds.items() if kind in TRADED]
    for asset in resampled if flows else ():
        if resampled[asset]["volume"].isna().all():
            message = f"{flows[0]} is of the kind 'flow', and {asset} has no volume to compare it with"
            fix = "give it another kind, such as 'as is'"
            raise DataError(Problem(place="data.features", message=message, fix=fix))
    return found


def source_of(part: Part[Tier]) -> str:
    """Hash of a tier's source; empty for one that ships: its version says enough."""
    return "" if part.source.shipped else part.source.sha256


def build(spec: DataSpec, name: str, target: Path) -> CatalogEntry:
    """Build a dataset: its file, and its entry. Values do not depend on the number of processes.

    Raises:
        DataError: sources or features are wrong, or a feature looks ahead.
    """
    with TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as spill:
        built = _Building(spec, Path(spill))
        _write(map(built.table, built.resampled), target)
        return built.entry(name, target)


class _Building:
    """A dataset while it is built: bars, features, and what was added; all of it checked.

    Args:
        folder: of files that its owner removes afterwards.
    """

    def __init__(self, spec: DataSpec, folder: Path) -> None:
        self.spec, self._tables = spec, Spilled(folder)
        self.tier = tier_registry.resolved(spec.tier)
        self.part, config = tier_registry.of_dataset(self.tier)
        self.bars = ohlcv.load_sources(spec, self._tables.like(), _limit(spec))
        self.resampled = self.bars.resampled(spec.timescale)
        self.found = self._computed()
        self.resampled = self.resampled.pick(self.found)
        own, self.left_out = common(self.found)
        self.added = _given(spec, self.bars, self.resampled, (*NUMBERS, *own, "date", "asset"))
        if not own and not self.added:
            message, fix = "the tier 'none' has no features", "add data.features or data.context, or use another tier"
            raise DataError(Problem(place="data.tier", message=message, fix=fix))
        sampled = causality.sample(self.resampled)
        causality.prove(self.part, config, {name: self._bars_of(name) for name in sampled})
        self.members = membership.read(spec.members, spec, list(self.resampled)) if spec.members else None
        if self.members:
            self.bars.source_sha256[str(spec.members)] = self.members.sha256
        self.kinds = own | {name: kind for one in self.added for name, kind in one.kinds.items()}
        self._no_bars = own.keys() - NUMBERS

    def _computed(self) -> dict[str, _Found]:
        """The tier's features of each asset that is long enough, which of a universe not all have to be.

        Raises:
            DataError: a feature could not be computed, or every asset is too short.
        """
        spec, (first, *others) = self.spec, self.resampled
        found = {first: self._features(first)}
        columns = len(NUMBERS) + len(found[first].kinds)
        asset_bytes = 8 * _COPIES * max(self.resampled.rows().values()) * columns
        found |= zip(others, workers.mapped(self._features, others, asset_bytes, _limit(spec)), strict=True)
        short = [asset for asset, one in found.items() if one.short]
        problems = list(dict.fromkeys(problem for one in found.values() for problem in one.problems))
        if len(short) == len(found):
            fix = "use a smaller data.tier"
            problems.append(Problem(place=spec.source[0], message="every asset is too short", fix=fix))
        if problems:
            raise DataError(problems)
        if short:
            ohlcv.tell_short(", ".join(spec.source), short, "too short for the features' warm-up")
        return {asset: one for asset, one in found.items() if not one.short}

    def _bars_of(self, asset: str) -> AssetBars:
        return AssetBars(self.resampled[asset], self.bars.frames[asset], self.bars.days.get(asset))

    def _features(self, asset: str) -> _Found:
        try:
            bars = self._bars_of(asset)
            found = tiers.compute(bars.frame, bars.daily, self.tier, asset, bars.days)
        except DataError as error:
            if isinstance(error, tiers.TooShortError) and asset in self.bars.universe:
                return _Found(short=True)
            return _Found(problems=tuple(error.problems))
        return _Found(found.kinds, self._tables.stored(found.values), found.left_out)

    def table(self, asset: str) -> "pa.Table":
        """The rows of one asset: date, asset, bars, features, what was added, and membership where it is given."""
        frame, found = self.resampled[asset], self.found[asset]
        assert isinstance(found.values, Stored)
        bars_CT, features_FT = frame.to_numpy().T, found.values.read().to_numpy().T
        index = pd.DatetimeIndex(frame.index)
        columns: dict[str, Any] = {
            "date": index.to_numpy(),
            "asset": pa.repeat(asset, len(frame)),
            **dict(zip(NUMBERS, bars_CT, strict=True)),
            **{name: x_T for name, x_T in zip(found.kinds, features_FT, strict=True) if name in self._no_bars},
            **{name: one.values[asset][name].to_numpy() for one in self.added for name in one.kinds},
        }
        if self.members:
            columns[MEMBER] = self.members.on(asset, self.bars.days.get(asset, index))
        return pa.table(columns)

    def entry(self, name: str, target: Path) -> CatalogEntry:
        """The lineage of what was written to `target`."""
        spec, bars, resampled = self.spec, self.bars, self.resampled
        dates = [date for frame in resampled.values() for date in frame.index[[0, -1]]]
        members = f" members {self.members.sha256}" if self.members else ""
        return CatalogEntry(
            name=name,
            path=f"{name}.parquet",
            sources=spec.source,
            source_sha256=bars.source_sha256,
            unused_columns=bars.unused_columns,
            columns=spec.columns,
            sort=spec.sort,
            assets=tuple(resampled),
            timescale=spec.timescale,
            tier=self.tier,
            features=tuple(self.kinds),
            features_version=self.part.version,
            kinds=self.kinds,
            left_out=self.left_out,
            given={name: how for one in self.added for name, how in one.how.items()},
            tier_sha256=source_of(self.part),
            calendars={asset: known.name for asset in resampled if (known := calendars.of(asset, spec))},
            rows=sum(resampled.rows().values()),
            first_date=min(dates).date(),
            last_date=max(dates).date(),
            content_sha256=content_sha256(
                resampled,
                bars.frames,
                tuple(self.kinds),
                _identity(self.part, self.tier) + members,
                self.added,
                binary=bool(bars.universe),
            ),
            file_sha256=sha256_of(target),
            created_at=datetime.now(UTC),
        )


def _limit(spec: DataSpec) -> int:
    """Bytes that preparation may take."""
    return int(spec.memory_limit or _FREE_SHARE * psutil.virtual_memory().available)


def common(found: Mapping[str, _Found]) -> tuple[dict[str, Kind], tuple[str, ...]]:
    """The columns of all assets with their kinds, and those that are left out because an asset has no volume.

    Raises:
        DataError: none remains, or an asset has other columns than the first one.
    """
    left_out = tuple(dict.fromkeys(name for one in found.values() for name in one.left_out))
    first: dict[str, Kind] | None = None
    for asset, one in found.items():
        kinds = {name: kind for name, kind in one.kinds.items() if name not in left_out}
        if not kinds and left_out:
            message = "there is no volume, and every feature of the tier needs it"
            raise DataError(Problem(place=asset, message=message, fix="use another data.tier"))
        first = kinds if first is None else first
        if list(first.items()) != list(kinds.items()):
            message = f"the tier gives other columns, or other kinds, than for the first asset: {', '.join(kinds)}"
            fix = "give every asset the same columns, in one order"
            raise DataError(Problem(place=asset, message=message, fix=fix))
    return first or {}, left_out


def _identity(part: Part[Tier], tier: str | ResolvedTier) -> str:
    """What a dataset's features follow from, in addition to their names: of a tier that ships its version says it."""
    if part.source.shipped and isinstance(tier, str):
        return str(part.version)
    resolved = {"name": part.name, "version": part.version, "config": {} if isinstance(tier, str) else tier.config}
    return json.dumps(resolved, sort_keys=True)
