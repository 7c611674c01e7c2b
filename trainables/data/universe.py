"""Many assets by one name: a folder of files, a pattern, a partitioned dataset, or a file with a column of symbols.

Members are read one after the other. The asset is the file's name, the value of the partition, or the symbol.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data import sources
from trainables.data.barfile import names, plain
from trainables.data.source_registry import Member, RawTable, source, split_symbol
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec

MAX_FILES = 100_000


@source("universe")
class Universe:
    """All assets of a folder, a pattern such as prices/*.csv, or FILE#*."""

    def read(self, argument: str) -> RawTable:
        """A universe is no table."""
        raise _error(argument, "is a folder, a pattern or FILE#*, which hold several assets", "name it as data.source")

    def asset(self, argument: str) -> str:
        """For the name of the dataset."""
        path, _ = split_symbol(argument)
        return next((part for part in reversed(path.parts) if part.strip("*.")), "universe").partition(".")[0] or "all"

    def digest(self, argument: str) -> str:
        """Of the names and bytes of all files."""
        return self.digest_of(argument, {})

    def digest_of(self, argument: str, known: Mapping[str, str]) -> str:
        """The same; `known` are hashes of files by path."""
        path, symbol = split_symbol(argument)
        digest = hashlib.sha256()
        for file in [path] if symbol else _files(argument):
            sha256 = known.get(str(file)) or sources.file_sha256(file, argument)
            digest.update(f"{file.name} {sha256}\n".encode())
        return digest.hexdigest()

    def members(self, argument: str, spec: DataSpec) -> list[Member]:
        """All of them, in a fixed order."""
        path, symbol = split_symbol(argument)
        if symbol:
            return by_symbol(sources.whole_table(str(path), spec), argument)
        groups: dict[str, list[Path]] = {}
        files = _files(argument)
        for file in files:
            groups.setdefault(_partition(file), []).append(file)
        if list(groups) == [""] and any("=" in part for part in files[0].parts):  # partitioned by something else
            return by_symbol(_joined(files, spec, ignore_index=True), argument)
        found = []
        for asset, members in groups.items():
            if asset:
                read = partial(_joined, members, spec, ignore_index=len(members) > 1)
                size = sum(file.stat().st_size for file in members)
                found.append(Member(asset, f"{argument}, {asset}", read, size))
                continue
            for file in members:
                read = partial(sources.read, str(file), spec)
                found.append(Member(sources.asset_name(str(file)), str(file), read, file.stat().st_size))
        return found


def _joined(files: list[Path], spec: DataSpec, *, ignore_index: bool) -> RawTable:
    tables = [sources.whole_table(str(file), spec) for file in files]
    return replace(tables[0], frame=pd.concat([one.frame for one in tables], ignore_index=ignore_index))


def _files(argument: str) -> list[Path]:
    path = Path(argument).expanduser()
    known = sources.file_suffixes()
    if path.is_dir():
        # Hidden files and folders are those inside: what leads to the folder is the user's own choice.
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in known
            and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
            and file.is_file()
        )
    else:
        root = next(parent for parent in path.parents if not _is_pattern(str(parent)))
        found = sorted(file for file in root.glob(str(path.relative_to(root))) if file.is_file())
    if not found:
        raise _error(argument, "holds no file of bars", f"files end with {', '.join(sorted(known))}")
    if len(found) > MAX_FILES:
        raise _error(argument, f"holds {len(found):,} files, more than {MAX_FILES:,}", "use larger files")
    return found


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _partition(file: Path) -> str:
    """The asset of a file in a partitioned dataset, such as symbol=SPY/part-0.parquet; empty where there is none."""
    for part in file.parts[:-1]:
        key, mark, value = part.partition("=")
        if mark and names.normalised(key) in (*names.SYMBOLS, "asset"):
            return value
    return ""


def by_symbol(table: RawTable, argument: str) -> list[Member]:
    """The rows of each symbol of a table."""
    frame = table.frame if isinstance(table.frame.index, pd.RangeIndex) else table.frame.reset_index()
    column = names.first_of(frame.columns, (*names.SYMBOLS, "asset"))
    if column is None:
        raise _error(argument, f"has no column of symbols (its columns: {', '.join(map(str, frame.columns))})", "")
    code_N, assets = pd.factorize(plain.symbol_texts(frame[column]), sort=True)
    order_N = np.argsort(code_N, kind="stable")  # rows without a symbol come first: -1
    edges = np.searchsorted(code_N[order_N], np.arange(len(assets) + 1)).tolist()
    place = argument.rpartition("#")[0] or argument
    size = int(frame.memory_usage().sum()) // max(1, len(assets))
    return [
        Member(str(asset), f"{place}#{asset}", partial(_rows, table, frame, order_N[start:stop]), size)
        for asset, (start, stop) in zip(assets, pairwise(edges), strict=True)
    ]


def _rows(table: RawTable, frame: pd.DataFrame, row_N: npt.NDArray[np.intp]) -> RawTable:
    return replace(table, frame=frame.take(row_N).reset_index(drop=True))


def _error(place: str, message: str, fix: str) -> DataError:
    return DataError(Problem(place=place, message=message, fix=fix))
