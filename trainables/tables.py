"""Parquet tables that may come from somebody else: what they unpack to is known before anything is unpacked.

Compression, dictionaries and run lengths let a file of a megabyte hold a table of many gigabytes. Its metadata says how
many rows and bytes there are; a text that many rows share is read once, and counted before it is repeated.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainables.errors import DataError, Problem

RUN_BYTES = 2 * 2**30  # of one table of a run directory; the predictions of ten million windows take a tenth
DATA_BYTES = 64 * 2**30  # of bars: a minute bar of 500 assets over ten years has as much
MAX_COLUMNS = 10_000
_BATCH_ROWS = 65_536
_READ_BYTES = 2**20  # at once, of a column
# Real tables take up to some hundred times their file's size; a table that is small anyway may take more.
MAX_RATIO, SMALL_BYTES = 500, 256 * 2**20

Kind = Literal["time", "text", "number"]
_IS = {
    "time": pa.types.is_temporal,
    "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "number": lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind),
}


class TooLargeError(DataError):
    """A table that would not fit into memory."""


def read(
    source: Path | bytes,
    place: str,
    *,
    max_bytes: int,
    columns: Mapping[str, Kind] | None = None,
    optional: Collection[str] = (),
    fix: str = "",
) -> pd.DataFrame:
    """Read a parquet table.

    Args:
        source: the file, or its content.
        place: its name, for messages.
        max_bytes: what the table may take in memory, about.
        columns: which ones, and of what kind each is; None reads all, of whatever kind.
        optional: those of `columns` that may be missing.
        fix: what to do where it cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
        TooLargeError: it would take more.
        DataError: it is no parquet file, is damaged, or lacks a column.
    """
    with _readable(source, place, fix):
        opened = pa.py_buffer(source) if isinstance(source, bytes) else source
        with pq.ParquetFile(opened) as file:
            schema = file.schema_arrow
            names = _columns(schema, columns, optional, place, fix)
            _check_size(file, names, source, place, max_bytes)
            texts = [name for name in names if _IS["text"](schema.field(name).type)]
            table = None if texts else file.read(columns=names, use_threads=False)
        if table is None:
            with pq.ParquetFile(opened, read_dictionary=texts) as file:
                table = _plain_texts(file.read(columns=names, use_threads=False), texts, place, max_bytes)
        frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame


def pieces(
    source: Path, by: str, columns: Collection[str], *, max_bytes: int, fix: str = ""
) -> Iterator[tuple[str, dict[str, "np.ndarray"]]]:
    """Read a parquet table that is sorted by a column of texts: each text, and the columns of its rows.

    At most the rows of one text, and some thousands more, are in memory. Raises as `read`.
    """
    place = str(source)
    # `pre_buffer`, on by default, keeps all that was read of the file until its end.
    streamed = {"pre_buffer": False, "buffer_size": _READ_BYTES}
    with _readable(source, place, fix), pq.ParquetFile(source, read_dictionary=[by], **streamed) as file:
        _check_size(file, [by, *columns], source, place, max_bytes)
        held: list[dict[str, np.ndarray]] = []
        name = ""
        # A whole group at a time takes several times as long: all of its memory is new.
        for batch in file.iter_batches(_BATCH_ROWS, columns=[by, *columns], use_threads=False):
            texts = batch[by] if pa.types.is_dictionary(batch[by].type) else batch[by].dictionary_encode()
            arrays = {column: batch[column].to_numpy(zero_copy_only=False) for column in columns}
            codes, known = texts.indices.to_numpy(), texts.dictionary.to_pylist()
            edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
            for start, stop in pairwise(edges):
                if held and known[codes[start]] != name:
                    yield name, _joined(held)
                    held = []
                name = known[codes[start]]
                held.append({column: array[start:stop] for column, array in arrays.items()})
        if held:
            yield name, _joined(held)


def _joined(parts: list[dict[str, "np.ndarray"]]) -> dict[str, "np.ndarray"]:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def _readable(source: Path | bytes, place: str, fix: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, pa.ArrowException) as error:
        if isinstance(source, Path) and isinstance(error, OSError) and error.errno is not None:
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"cannot be read as parquet: {first[:300]}"
        raise DataError(Problem(place=place, message=message, fix=fix)) from error


def _columns(
    schema: Any, wanted: Mapping[str, Kind] | None, optional: Collection[str], place: str, fix: str
) -> list[str]:
    if len(schema.names) > MAX_COLUMNS:
        message = f"has {len(schema.names):,} columns, more than {MAX_COLUMNS:,}"
        raise TooLargeError(Problem(place=place, message=message, fix=fix))
    if wanted is None:
        return list(schema.names)
    names = [name for name in wanted if name not in optional or name in schema.names]
    if missing := [name for name in names if schema.names.count(name) != 1]:
        message = f"has no column {', '.join(map(repr, missing))}, or several"
        raise DataError(Problem(place=place, message=message, fix=fix))
    for name in names:
        kind = schema.field(name).type
        if not (_IS[wanted[name]](kind) or pa.types.is_null(kind)):
            message = f"column {name!r} is of type {kind}, and is to be a {wanted[name]}"
            raise DataError(Problem(place=place, message=message, fix=fix))
    return names


def _check_size(file: Any, names: Sequence[str], source: Path | bytes, place: str, max_bytes: int) -> None:
    """Refuse by what the metadata says: rows by the width of each column, and bytes before compression."""
    metadata, chosen = file.metadata, set(names)
    packed = len(source) if isinstance(source, bytes) else source.stat().st_size
    unpacked = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema.split(".")[0] in chosen:
                width = _WIDTHS.get(column.physical_type, 8)
                unpacked += max(column.total_uncompressed_size, width * max(column.num_values, row_group.num_rows))
    if unpacked > max_bytes or unpacked > max(SMALL_BYTES, MAX_RATIO * packed):
        raise _too_large(place, unpacked, packed)


_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}


def _too_large(place: str, unpacked: int, packed: int) -> TooLargeError:
    message = f"would take {unpacked / 1e9:,.1f} GB in memory, and has {packed / 1e6:,.1f} MB on disk; it is not read"
    return TooLargeError(Problem(place=place, message=message, fix="check where it comes from, or split it"))


def _plain_texts(table: Any, texts: Sequence[str], place: str, max_bytes: int) -> Any:
    """Texts written out, once it is known what they take."""
    for name in texts:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            lengths = (pc.sum(pc.take(pc.binary_length(one.dictionary), one.indices)).as_py() for one in column.chunks)
            if (unpacked := sum(length or 0 for length in lengths)) > max_bytes:
                raise _too_large(place, unpacked, table.nbytes)
            table = table.set_column(table.column_names.index(name), name, column.cast(column.type.value_type))
    return table
