"""What a built dataset is: its entry in the catalog, and its rows in memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from pydantic import Field, StringConstraints, model_validator

from trainables import tables
from trainables.data import features
from trainables.data.columns import NUMBERS, index_of
from trainables.data.maps import RELEASED_ROWS, Group, Maps, New, release
from trainables.data.tier_registry import Kind
from trainables.schema import ResolvedTier, Spec, Timescale

_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_KINDS = features.A20 | features.OHLCV
MEMBER = "member"  # the column of a dataset's table that says whether the asset belongs to the universe
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
        calendars: by asset, the exchange's calendar, where one is given.
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
    calendars: dict[str, str] = Field({})

    @model_validator(mode="after")
    def _kinds(self) -> Self:
        if unknown := [name for name in self.features if name not in self.kinds and name not in _KINDS]:
            raise ValueError(f"the feature {unknown[0]} has no kind")
        return self

    @property
    def kinds_of_features(self) -> dict[str, Kind]:
        """The kind of each feature, in order."""
        return {name: self.kinds.get(name) or _KINDS[name] for name in self.features}


@dataclass(frozen=True)
class AssetRows:
    """The consecutive rows ``start`` to ``stop - 1`` of one asset."""

    asset: str
    start: int
    stop: int

    @property
    def part(self) -> slice:
        """Of the dataset's rows."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, eq=False)
class Rows:
    """What rows are of: a date each (datetime64[ns]), sorted by asset, then date, and each asset's span."""

    dates_T: npt.NDArray[np.datetime64]
    spans: tuple[AssetRows, ...]


class Dataset:
    """A dataset: rows sorted by asset and date. What is asked for is mapped into memory, and read by page.

    Args:
        source: the dataset's file, or its table in memory: date (datetime64[ns]), asset, open, high, low, close,
            volume, the tier's raw features, NaN where they warm up, and perhaps `MEMBER`.
        features: names of the columns that models see, in order.
        entry: its lineage.
        folder: where maps are kept; None = in memory.
    """

    def __init__(
        self, source: Path | pd.DataFrame, features: tuple[str, ...], entry: CatalogEntry, folder: Path | None = None
    ) -> None:
        self._source, self.features, self.entry = source, features, entry
        self.maps = Maps(folder, entry.file_sha256)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The whole table, in memory."""
        if isinstance(self._source, pd.DataFrame):
            return self._source
        return tables.read(self._source, str(self._source), max_bytes=tables.DATA_BYTES)

    def pieces(self, columns: Collection[str]) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
        """One asset after the other, and some columns of its rows."""
        if isinstance(self._source, Path):
            yield from tables.pieces(self._source, "asset", columns, max_bytes=tables.DATA_BYTES)
            return
        arrays = {name: self._source[name].to_numpy() for name in columns}
        for rows in asset_rows(self._source):
            yield rows.asset, {name: array[rows.part] for name, array in arrays.items()}

    @cached_property
    def _bars(self) -> Group:
        def make(new: New) -> dict[str, Any]:
            columns: list[str] = ["date", *NUMBERS]
            if isinstance(self._source, Path):
                count, known = self.entry.rows, pq.read_schema(self._source).names
            else:
                count, known = len(self._source), list(self._source.columns)
            arrays = [new("dates", "<i8", (count,)), new("numbers", "<f8", (len(NUMBERS), count))]
            if MEMBER in known:
                columns.append(MEMBER)
                arrays.append(new("member", "?", (count,)))
            spans, start = [], 0
            for asset, piece in self.pieces(columns):
                stop = start + len(piece["date"])
                arrays[0][start:stop] = piece["date"].astype("datetime64[ns]").astype(np.int64)
                for row, name in enumerate(NUMBERS):
                    arrays[1][row, start:stop] = piece[name]
                for member_T in arrays[2:]:
                    member_T[start:stop] = piece[MEMBER]
                spans.append([asset, start, stop])
                if stop // RELEASED_ROWS > start // RELEASED_ROWS:
                    release(*arrays)
                start = stop
            return {"spans": spans}

        return self.maps.kept("bars", make)

    @cached_property
    def rows(self) -> tuple[AssetRows, ...]:
        """Each asset's span."""
        return tuple(AssetRows(*span) for span in self._bars.info["spans"])

    @property
    def dates_T(self) -> npt.NDArray[np.datetime64]:  # noqa: N802
        """datetime64[ns] of each row."""
        return self._bars["dates"].view("datetime64[ns]")

    @property
    def place(self) -> Rows:
        """Dates and assets."""
        return Rows(self.dates_T, self.rows)

    def number(self, name: str) -> npt.NDArray[np.float64]:
        """One of open, high, low, close and volume, of each row."""
        numbers_T: npt.NDArray[np.float64] = self._bars["numbers"][NUMBERS.index(name)]
        return numbers_T

    @property
    def member_T(self) -> npt.NDArray[np.bool_] | None:  # noqa: N802
        """Rows on whose date the asset belongs to the universe; None where no membership is given."""
        return self._bars.arrays.get("member")

    def bars(self, rows: AssetRows) -> pd.DataFrame:
        """Date, open, high, low, close and volume of one asset."""
        bars = self.by_date(rows)
        bars.insert(0, "date", bars.index)
        return bars.reset_index(drop=True)

    def by_date(self, rows: AssetRows) -> pd.DataFrame:
        """Open, high, low, close and volume of one asset, indexed by date."""
        index = pd.DatetimeIndex(np.array(self.dates_T[rows.part]), name="date", copy=False)
        numbers_5T = np.array(self._bars["numbers"][:, rows.part])
        return pd.DataFrame(numbers_5T.T, index=index, columns=index_of(NUMBERS), copy=False)


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
