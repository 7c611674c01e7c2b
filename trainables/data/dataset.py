"""What a built dataset is: its entry in the catalog, and its rows in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
import pandas as pd
from pydantic import Field, StringConstraints, model_validator

from trainables.data import features
from trainables.data.tier_registry import Kind
from trainables.schema import ResolvedTier, Spec, Timescale

_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_KINDS = features.A20 | features.OHLCV
NAMED = 12  # columns of one source in a message


def unused_words(unused_columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What of each source is not used, in words: the first names and how many more there are."""
    for source, names in unused_columns.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        columns = "1 column" if len(names) == 1 else f"{len(names)} columns"
        yield f"{columns} of {source}: {', '.join(map(str, names[:NAMED]))}{more}"


def further_words(left_out: Sequence[str], given: Mapping[str, str]) -> Iterator[str]:
    """What else a reader should know of the columns, in words: features without volume, columns as given."""
    if left_out:
        more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
        yield f"left out, they need a volume: {', '.join(left_out[:NAMED])}{more}"
    for name, how in given.items():
        yield f"as given: {name}, {how}"


class CatalogEntry(Spec):
    """The lineage of one dataset file. It may come from somebody else: its path is a plain file name.

    Attributes:
        name: a function of sources, columns, sort, tier and timescale.
        path: of the parquet file, relative to the data folder.
        source_sha256: by source, the hash of what was read.
        features: the columns that models see, in order.
        features_version: of the tier that computed them.
        kinds: of the features; entries of earlier versions have none, their tiers were a20 and ohlcv.
        tier_sha256: hash of the tier's source; empty for one that ships.
        unused_columns: by source, names of columns that nothing is read from; empty in entries of earlier versions.
        left_out: features of the tier that need a volume, where an asset has none.
        given: columns that are used as given (`data.features`, `data.context`), and how: not proven to look back only.
        content_sha256: over canonical values, alike on every CPU (`fingerprint.content_sha256`); enters a trial's key.
        file_sha256: over the file's bytes.
    """

    name: str
    path: Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,200}\.parquet$")]
    sources: tuple[str, ...]
    source_sha256: dict[str, str]
    columns: dict[str, str]
    sort: bool
    assets: tuple[str, ...]
    timescale: Timescale
    tier: str | ResolvedTier
    features: tuple[str, ...]
    features_version: int
    rows: int = Field(ge=0, lt=2**53)
    first_date: date
    last_date: date
    content_sha256: _Sha256
    file_sha256: _Sha256
    created_at: datetime
    unused_columns: dict[str, tuple[str, ...]] = Field({})
    kinds: dict[str, Kind] = Field({})
    tier_sha256: str = ""
    left_out: tuple[str, ...] = ()
    given: dict[str, str] = Field({})

    @model_validator(mode="after")
    def _kinds(self) -> Self:
        if unknown := [name for name in self.features if name not in self.kinds and name not in _KINDS]:
            raise ValueError(f"the feature {unknown[0]} has no kind")
        return self

    @property
    def kinds_of_features(self) -> dict[str, Kind]:
        """The kind of each feature, in order."""
        return {name: self.kinds.get(name) or _KINDS[name] for name in self.features}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A loaded dataset.

    Attributes:
        frame: long table sorted by asset and date: date (datetime64[ns]), asset, open, high, low, close, volume and
            the tier's raw features; NaN in features that warm up.
        features: names of the columns that models see, in order.
        entry: its lineage.
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    entry: CatalogEntry


@dataclass(frozen=True)
class AssetRows:
    """The consecutive rows ``start`` to ``stop - 1`` of one asset."""

    asset: str
    start: int
    stop: int


def asset_rows(frame: pd.DataFrame) -> Iterator[AssetRows]:
    """Each asset's span of rows in a long table sorted by asset; one span named '' where there is no asset column."""
    if not len(frame):
        return
    if "asset" not in frame.columns:
        yield AssetRows("", 0, len(frame))
        return
    codes, names = pd.factorize(frame["asset"])
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(frame)]
    for start, stop in pairwise(edges):
        yield AssetRows(str(names[codes[start]]), start, stop)
