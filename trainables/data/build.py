"""Building a dataset: bars of its sources, features of its tier, proven to look back only."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data import causality, context, given, membership, ohlcv, tier_registry, tiers
from trainables.data.columns import NUMBERS
from trainables.data.dataset import CatalogEntry
from trainables.data.fingerprint import content_sha256
from trainables.data.given import Given
from trainables.data.tier_registry import TRADED, AssetBars, Kind, Tier
from trainables.data.tiers import Computed
from trainables.errors import DataError, Problem
from trainables.parts import Part
from trainables.schema import DataSpec, ResolvedTier


def _tables(
    resampled: dict[str, pd.DataFrame],
    computed: dict[str, Computed],
    added: list[Given],
    kinds: dict[str, Kind],
    members: membership.Members | None,
) -> Iterator[pd.DataFrame]:
    """Each asset's rows. What was computed of it is let go of, so that no second table of all assets is held."""
    for asset, frame in resampled.items():
        whole = computed.pop(asset)
        for one in added:
            whole = Computed(whole.values.join(one.values[asset]), whole.kinds | one.kinds)
        rows = long_rows(asset, frame, whole, kinds)
        if members:
            rows[membership.COLUMN] = members.on(asset, pd.DatetimeIndex(frame.index))
        yield rows.astype({"date": "datetime64[ns]"})


GROUP_ROWS = 1_000_000  # of a parquet file: what is held twice while it is written


def _written(pieces: Iterator[pd.DataFrame]) -> bytes:
    """A parquet file of all pieces, in groups of about `GROUP_ROWS` rows."""
    sink, held = BytesIO(), [next(pieces)]
    schema = pa.Schema.from_pandas(held[0], preserve_index=False)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for piece in pieces:
            if sum(map(len, held)) >= GROUP_ROWS:
                writer.write_table(_table(held, schema))
                held = []
            held.append(piece)
        writer.write_table(_table(held, schema))
    return sink.getvalue()


def _table(pieces: list[pd.DataFrame], schema: "pa.Schema") -> "pa.Table":
    return pa.Table.from_pandas(pd.concat(pieces, ignore_index=True), schema=schema, preserve_index=False)


def _given(spec: DataSpec, bars: ohlcv.Bars, resampled: dict[str, pd.DataFrame], taken: tuple[str, ...]) -> list[Given]:
    """Own columns, then each block of the context, on the bars of the timescale; enters what was read into `bars`."""
    found: list[Given] = []
    if spec.features is not None:
        # A bar is dated by its last day, and has the value of that day.
        columns = {
            asset: bars.own[asset].reindex(frame.index).shift(spec.features.lag) for asset, frame in resampled.items()
        }
        named = given.feature_names([str(name) for name in next(iter(columns.values()))], taken)
        closes = {asset: frame["close"] for asset, frame in resampled.items()}
        found.append(given.settle(columns, spec.features, given.found_kinds(columns, closes), "data.features", named))
    for name, block in spec.context.items():
        series = context.read(name, block, spec)
        bars.source_sha256[block.source] = series.sha256
        if series.unused:
            bars.unused_columns.setdefault(block.source, series.unused)
        found.append(context.settle(name, block, series, resampled, (*taken, *(f for one in found for f in one.kinds))))
    silent = [asset for asset, frame in resampled.items() if frame["volume"].isna().all()]
    flows = [name for one in found for name, kind in one.kinds.items() if kind in TRADED]
    if silent and flows:
        message = f"{flows[0]} is of the kind 'flow', and {silent[0]} has no volume to compare it with"
        raise DataError(Problem(place="data.features", message=message, fix="give it another kind, such as 'as is'"))
    return found


def source_of(part: Part[Tier]) -> str:
    """Hash of a tier's source; empty for one that ships: its version says enough."""
    return "" if part.source.shipped else part.source.sha256


def build(spec: DataSpec, name: str) -> tuple[CatalogEntry, bytes]:
    """Build a dataset: its entry, and the bytes of its file.

    Raises:
        DataError: sources or features are wrong, or a feature looks ahead.
    """
    bars = ohlcv.load_sources(spec)
    tier = tier_registry.resolved(spec.tier)
    part, config = tier_registry.of_dataset(tier)
    resampled = bars.resampled(spec.timescale)
    computed: dict[str, Computed] = {}
    problems: list[Problem] = []
    short: list[str] = []
    for asset, frame in resampled.items():
        try:
            computed[asset] = tiers.compute(frame, bars.frames[asset], tier, asset, bars.days.get(asset))
        except DataError as exc:
            if isinstance(exc, tiers.TooShortError) and asset in bars.universe:
                short.append(asset)
            else:
                problems += [problem for problem in exc.problems if problem not in problems]
    if not computed and short:
        problems.append(
            Problem(place=spec.source[0], message="every asset is too short", fix="use a smaller data.tier")
        )
    if problems:
        raise DataError(problems)
    if short:
        ohlcv.tell_short(", ".join(spec.source), short, "too short for the features' warm-up")
        resampled = {asset: frame for asset, frame in resampled.items() if asset in computed}
    kinds, left_out = common(computed)
    added = _given(spec, bars, resampled, (*NUMBERS, *kinds, "date", "asset"))
    if not kinds and not added:
        message, fix = "the tier 'none' has no features", "add data.features or data.context, or use another tier"
        raise DataError(Problem(place="data.tier", message=message, fix=fix))
    causality.prove(
        part,
        config,
        {asset: AssetBars(resampled[asset], bars.frames[asset], bars.days.get(asset)) for asset in resampled},
    )
    for one in added:
        kinds = kinds | one.kinds
    members = membership.read(spec.members, spec, list(resampled)) if spec.members else None
    if members:
        bars.source_sha256[str(spec.members)] = members.sha256
    data = _written(_tables(resampled, computed, added, kinds, members))
    dates = [date for frame in resampled.values() for date in frame.index[[0, -1]]]
    entry = CatalogEntry(
        name=name,
        path=f"{name}.parquet",
        sources=spec.source,
        source_sha256=bars.source_sha256,
        unused_columns=bars.unused_columns,
        columns=spec.columns,
        sort=spec.sort,
        assets=tuple(resampled),
        timescale=spec.timescale,
        tier=tier,
        features=tuple(kinds),
        features_version=part.version,
        kinds=kinds,
        left_out=left_out,
        given={name: how for one in added for name, how in one.how.items()},
        tier_sha256=source_of(part),
        rows=sum(map(len, resampled.values())),
        first_date=min(dates).date(),
        last_date=max(dates).date(),
        content_sha256=content_sha256(
            resampled,
            bars.frames,
            tuple(kinds),
            _identity(part, tier) + (f" members {members.sha256}" if members else ""),
            added,
            binary=bool(bars.universe),
        ),
        file_sha256=hashlib.sha256(data).hexdigest(),
        created_at=datetime.now(UTC),
    )
    return entry, data


def common(computed: dict[str, Computed]) -> tuple[dict[str, Kind], tuple[str, ...]]:
    """The columns of all assets with their kinds, and those that are left out because an asset has no volume.

    Raises:
        DataError: none remains.
    """
    left_out = tuple(dict.fromkeys(name for one in computed.values() for name in one.left_out))
    first = next(iter(computed.values()))
    if not left_out:
        return first.kinds, ()
    for asset, one in computed.items():
        kinds = {name: kind for name, kind in one.kinds.items() if name not in left_out}
        if not kinds:
            message = "there is no volume, and every feature of the tier needs it"
            raise DataError(Problem(place=asset, message=message, fix="use another data.tier"))
        computed[asset] = Computed(one.values[list(kinds)], kinds, left_out)
    return next(iter(computed.values())).kinds, left_out


def _identity(part: Part[Tier], tier: str | ResolvedTier) -> str:
    """What a dataset's features follow from, in addition to their names: of a tier that ships its version says it."""
    if part.source.shipped and isinstance(tier, str):
        return str(part.version)
    resolved = {"name": part.name, "version": part.version, "config": {} if isinstance(tier, str) else tier.config}
    return json.dumps(resolved, sort_keys=True)


def long_rows(asset: str, frame: pd.DataFrame, computed: Computed, kinds: dict[str, Kind]) -> pd.DataFrame:
    """One asset's rows of the table: bars, then the features that are no bars.

    Raises:
        DataError: the tier gives this asset other columns than the first one.
    """
    if computed.kinds != kinds or list(computed.kinds) != list(kinds):
        message = f"the tier gives other columns, or other kinds, than for the first asset: {', '.join(computed.kinds)}"
        raise DataError(Problem(place=asset, message=message, fix="give every asset the same columns, in one order"))
    added = computed.values[[name for name in kinds if name not in NUMBERS]]
    columns = frame.join(added).reset_index().assign(asset=asset)
    return columns[["date", "asset", *dict.fromkeys((*NUMBERS, *kinds))]]
