"""Many assets by one name: a folder of files, a pattern, a partitioned dataset, or a file with a column of symbols.

Members are read one after the other. The asset is the file's name, the value of the partition, or the symbol.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from trainables.data import sources
from trainables.data.barfile import names
from trainables.data.source_registry import RawTable, source, split_symbol
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
        path, symbol = split_symbol(argument)
        digest = hashlib.sha256()
        for file in [path] if symbol else _files(argument):
            digest.update(f"{file.name} {sources.file_sha256(file, argument)}\n".encode())
        return digest.hexdigest()

    def members(self, argument: str, spec: DataSpec) -> Iterator[tuple[str, str, RawTable]]:
        """Asset, place for messages, and table of each member, in a fixed order."""
        path, symbol = split_symbol(argument)
        if symbol:
            yield from _by_symbol(sources.whole_table(str(path), spec), argument)
            return
        groups: dict[str, list[Path]] = {}
        files = _files(argument)
        for file in files:
            groups.setdefault(_partition(file), []).append(file)
        if list(groups) == [""] and any("=" in part for part in files[0].parts):  # partitioned by something else
            tables = [sources.whole_table(str(file), spec) for file in files]
            whole = replace(tables[0], frame=pd.concat([one.frame for one in tables], ignore_index=True))
            yield from _by_symbol(whole, argument)
            return
        for asset, members in groups.items():
            if asset:
                tables = [sources.whole_table(str(file), spec) for file in members]
                joined = pd.concat([one.frame for one in tables], ignore_index=len(tables) > 1)
                yield asset, f"{argument}, {asset}", replace(tables[0], frame=joined)
            else:
                for file in members:
                    yield sources.asset_name(str(file)), str(file), sources.read(str(file), spec)


def _files(argument: str) -> list[Path]:
    path = Path(argument).expanduser()
    known = sources.file_suffixes()
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
    else:
        root = next(parent for parent in path.parents if not _is_pattern(str(parent)))
        found = sorted(file for file in root.glob(str(path.relative_to(root))) if file.is_file())
    found = (
        [
            file
            for file in found
            if not any(part.startswith((".", "_")) for part in file.relative_to(path.anchor or ".").parts)
        ]
        if path.is_dir()
        else found
    )
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


def _by_symbol(table: RawTable, argument: str) -> Iterator[tuple[str, str, RawTable]]:
    frame = table.frame if isinstance(table.frame.index, pd.RangeIndex) else table.frame.reset_index()
    column = names.first_of(frame.columns, (*names.SYMBOLS, "asset"))
    if column is None:
        raise _error(argument, f"has no column of symbols (its columns: {', '.join(map(str, frame.columns))})", "")
    for asset, rows in frame.groupby(frame[column].astype("string").str.strip(), sort=True):
        yield (
            str(asset),
            f"{argument.rpartition('#')[0] or argument}#{asset}",
            replace(table, frame=rows.reset_index(drop=True)),
        )


def _error(place: str, message: str, fix: str) -> DataError:
    return DataError(Problem(place=place, message=message, fix=fix))
