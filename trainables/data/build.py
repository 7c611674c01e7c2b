"""Building a dataset: bars of its sources, features of its tier, proven to look back only."""

import hashlib
import json
from datetime import UTC, datetime
from io import BytesIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data import causality, context, given, ohlcv, tier_registry, tiers
from trainables.data.columns import NUMBERS
from trainables.data.dataset import CatalogEntry
from trainables.data.fingerprint import content_sha256
from trainables.data.given import Given
from trainables.data.tier_registry import TRADED, AssetBars, Kind, Tier
from trainables.data.tiers import Computed
from trainables.errors import DataError, Problem
from trainables.parts import Part
from trainables.schema import DataSpec, ResolvedTier


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
    resampled = {asset: ohlcv.resample(daily, spec.timescale) for asset, daily in sorted(bars.frames.items())}
    computed: dict[str, Computed] = {}
    problems: list[Problem] = []
    for asset, frame in resampled.items():
        try:
            computed[asset] = tiers.compute(frame, bars.frames[asset], tier, asset)
        except DataError as exc:
            problems += [problem for problem in exc.problems if problem not in problems]
    if problems:
        raise DataError(problems)
    kinds, left_out = common(computed)
    added = _given(spec, bars, resampled, (*NUMBERS, *kinds, "date", "asset"))
    if not kinds and not added:
        message, fix = "the tier 'none' has no features", "add data.features or data.context, or use another tier"
        raise DataError(Problem(place="data.tier", message=message, fix=fix))
    causality.prove(part, config, {asset: AssetBars(resampled[asset], bars.frames[asset]) for asset in resampled})
    for one in added:
        computed = {
            asset: Computed(columns.values.join(one.values[asset]), columns.kinds | one.kinds)
            for asset, columns in computed.items()
        }
        kinds = kinds | one.kinds
    long = pd.concat(
        [long_rows(asset, resampled[asset], computed[asset], kinds) for asset in resampled], ignore_index=True
    )
    table = pa.Table.from_pandas(long.astype({"date": "datetime64[ns]"}), preserve_index=False)
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue()
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
        rows=len(long),
        first_date=long["date"].min().date(),
        last_date=long["date"].max().date(),
        content_sha256=content_sha256(resampled, bars.frames, tuple(kinds), _identity(part, tier), added),
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
