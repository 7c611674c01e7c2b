"""Tables by name: in memory, or in files that are mapped when they are asked for."""

import mmap
import os
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from trainables.data.columns import index_of


@dataclass(frozen=True)
class Stored:
    """A table in a file: its dates, then one column after the other, 8 bytes a value."""

    file: Path
    offset: int
    columns: tuple[str, ...]
    rows: int
    index_name: str | None

    def read(self) -> pd.DataFrame:
        """The table, which is read by page."""
        return _mapped(self)


@lru_cache(maxsize=2)  # bars are asked for as those of the source, and as those of the timescale
def _mapped(table: Stored) -> pd.DataFrame:
    size = 8 * table.rows * (1 + len(table.columns))
    with table.file.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY, offset=table.offset) if size else b""
    dates = np.frombuffer(mapped, "datetime64[ns]", table.rows)
    values_CT = np.frombuffer(mapped, np.float64, offset=8 * table.rows).reshape(len(table.columns), table.rows)
    index = pd.DatetimeIndex(dates, name=table.index_name, copy=False)
    return pd.DataFrame(values_CT.T, index=index, columns=index_of(table.columns), copy=False)


class Spilled(MutableMapping[str, pd.DataFrame]):
    """Tables of numbers, indexed by dates.

    Args:
        folder: of the files, which are its owner's to remove; None keeps all tables in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._tables: dict[str, pd.DataFrame | Stored] = {}

    def like(self) -> "Spilled":
        """Another one, empty."""
        return Spilled(self._folder)

    def pick(self, names: Iterable[str]) -> "Spilled":
        """Some of the tables, in this order."""
        chosen = self.like()
        chosen._tables = {name: self._tables[name] for name in names}
        return chosen

    def stored(self, table: pd.DataFrame) -> pd.DataFrame | Stored:
        """A table as it is kept here, which is small, and can be handed to another process, where it is in a file."""
        if self._folder is None:
            return table
        with (self._folder / str(os.getpid())).open("ab") as file:  # each process has its own
            offset = file.tell()
            dates = table.index.to_numpy().astype("datetime64[ns]", copy=False)
            file.write(np.ascontiguousarray(dates.view(np.int64)).data)
            file.write(np.ascontiguousarray(table.to_numpy(dtype=np.float64).T).data)
            file.write(bytes(-file.tell() % mmap.ALLOCATIONGRANULARITY))
        name = None if table.index.name is None else str(table.index.name)
        return Stored(self._folder / str(os.getpid()), offset, tuple(table.columns), len(table), name)

    def rows(self) -> dict[str, int]:
        """How many each table has; no file is read."""
        return {name: len(one) if isinstance(one, pd.DataFrame) else one.rows for name, one in self._tables.items()}

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Names of each table's columns; no file is read."""
        return {name: tuple(map(str, one.columns)) for name, one in self._tables.items()}

    def keep(self, name: str, table: pd.DataFrame | Stored) -> None:
        """Enter what `stored` gave."""
        self._tables[name] = table

    def __setitem__(self, name: str, table: pd.DataFrame) -> None:
        self.keep(name, self.stored(table))

    def __getitem__(self, name: str) -> pd.DataFrame:
        found = self._tables[name]
        return found if isinstance(found, pd.DataFrame) else found.read()

    def __delitem__(self, name: str) -> None:
        del self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)
