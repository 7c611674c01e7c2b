"""Reading bars from where they are: tables as they are, not yet checked, with the hash of what was read.

Shipped sources are files inside installed packages. They are read by path, never by importing the package: importing
`backtesting` draws a plotting library in, importing `arch` its models.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from trainables import tables
from trainables.data.barfile import decode, layout, names, plain
from trainables.data.source_registry import Member, RawTable, of, source, split_symbol
from trainables.errors import DataError, Problem
from trainables.files import read_bytes
from trainables.schema import AS_FOUND, DataSpec

# Real daily bars inside packages on the index: (top-level package, file inside it). `arch` carries the S&P 500 and the
# NASDAQ composite, 1999-01-04 to 2018-12-31; `backtesting` carries GOOG, 2004-08-19 to 2013-03-01.
SHIPPED = {
    "sp500": ("arch", "data/sp500/sp500.csv.gz"),
    "nasdaq": ("arch", "data/nasdaq/nasdaq.csv.gz"),
    "goog": ("backtesting", "test/GOOG.csv"),
}
MAX_FILE_BYTES = 64 * 2**30


def asset_name(text: str) -> str:
    """The asset's name: a source's own, the file's stem, or the symbol."""
    try:
        part, argument = of(text)
    except DataError:
        return Path(text).stem
    chosen = part.target()
    if hasattr(chosen, "asset"):
        return str(chosen.asset(argument))
    return argument if argument and isinstance(argument, str) else part.name


def read(text: str, spec: DataSpec | None = None) -> RawTable:
    """Read one source.

    Args:
        text: as in `DataSpec.source`.
        spec: its format and columns say how files are written; None finds all of it out.

    Raises:
        DataError: it does not exist, cannot be read, or needs an extra that is not installed.
    """
    part, argument = of(text)
    try:
        chosen = part.target()
        found = chosen.read_as(argument, spec or DataSpec()) if isinstance(chosen, _File) else chosen.read(argument)
    except DataError:
        raise
    except Exception as exc:  # code of somebody else: its words, with the source in question
        message = f"the source {part.name!r} fails with {type(exc).__name__}: {exc}"
        raise _error(text, message, f"see {part.source.place}") from exc
    if isinstance(found, pd.DataFrame):
        found = RawTable(found, hashlib.sha256(found.to_csv(float_format="%.12g").encode()).hexdigest())
    if not isinstance(found, RawTable):
        raise _error(text, f"the source {part.name!r} gives {type(found).__name__}, not a table of bars")
    return found


def read_any(text: str, spec: DataSpec, *, whole: bool = False) -> RawTable:
    """Read one source that need not be bars: a table of dates and numbers; `whole` with the rows of all symbols.

    Raises:
        DataError: as `read`.
    """
    part, argument = of(text)
    chosen = part.target()
    if not isinstance(chosen, _File):
        return read(text, spec)
    path = chosen.path(argument)
    data = _bytes(path, text)
    try:
        frame = _parse_any(path, data, text, spec)
    except (ValueError, OSError, EOFError, pa.ArrowException) as exc:
        what = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise _error(text, f"cannot be read: {what}", "give a table with a header, dates and numbers") from exc
    if not whole:
        frame = _of_one_symbol(frame, chosen.symbol(argument), text)
    return RawTable(frame, hashlib.sha256(data).hexdigest())


def _parse_any(path: Path, data: bytes, source: str, spec: DataSpec) -> pd.DataFrame:
    with suppress(ValueError):
        return _parse(path, data, source, spec)[0]
    text, _ = decode.decoded(decode.unpacked(data)[0])
    table = pd.read_csv(StringIO(text), sep=spec.format.delimiter, engine="python", dtype=str, na_filter=False)
    return table.rename(columns=lambda name: str(name).strip())


def whole_table(text: str, spec: DataSpec) -> RawTable:
    """A file's table with the rows of all symbols.

    Raises:
        DataError: as `read`.
    """
    part, argument = of(text)
    return _read_file(part.target().path(argument), argument, spec)


def file_suffixes() -> set[str]:
    """Of files that a shipped source reads."""
    return {*Csv.suffixes, *Parquet.suffixes}


def file_sha256(path: Path, place: str) -> str:
    """Hash of a file's bytes, read in pieces.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise _error(place, f"cannot be read: {exc.strerror or exc}", "check the path and its permissions") from exc


def members(text: str, spec: DataSpec) -> Sequence[Member]:
    """The assets of a source: one, or those of a universe.

    Raises:
        DataError: there is no such source or file.
    """
    part, argument = of(text)
    chosen = part.target()
    if hasattr(chosen, "members"):
        found: Sequence[Member] = chosen.members(argument, spec)
        return found
    size = chosen.path(argument).stat().st_size if isinstance(chosen, _File) else 0
    return [Member(asset_name(text), text, partial(read, text, spec), size)]


def digest(text: str, known: Mapping[str, str] = {}) -> str | None:
    """The sha256 that `read` would give, or None where it cannot be known without a download or the file is gone.

    Args:
        text: as in `DataSpec.source`.
        known: hashes of files that were read, by path.
    """
    try:
        part, argument = of(text)
        chosen = part.target()
        if known and hasattr(chosen, "digest_of"):
            return str(chosen.digest_of(argument, known))
        return chosen.digest(argument) if hasattr(chosen, "digest") else None
    except (DataError, OSError):
        return None


class _File:
    """A table in a file."""

    def read(self, argument: str) -> RawTable:
        """The file's table."""
        return self.read_as(argument, DataSpec())

    def read_as(self, argument: str, spec: DataSpec) -> RawTable:
        """The file's table, or the rows of one symbol."""
        table = _read_file(self.path(argument), argument, spec)
        return replace(table, frame=_of_one_symbol(table.frame, self.symbol(argument), argument))

    def digest(self, argument: str) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(_bytes(self.path(argument), argument)).hexdigest()

    def asset(self, argument: str) -> str:
        """The symbol, or the file's name up to the first dot."""
        path, symbol = split_symbol(argument)
        return symbol or path.name.partition(".")[0] or path.stem

    def symbol(self, argument: str) -> str:
        """Which rows of the file are meant; empty for all."""
        return split_symbol(argument)[1]

    def path(self, argument: str) -> Path:
        """Where it is."""
        path, _ = split_symbol(argument)
        if path.is_dir():
            raise _error(argument, "is a folder, not a file", "name the file inside it")
        if not path.exists():
            raise _error(argument, "there is no such file", f"relative paths start at {Path.cwd()}; check the path")
        return path


@source("csv")
class Csv(_File):
    """Delimited text, also compressed; see `trainables.data.barfile`."""

    suffixes = (".csv", ".txt", ".tsv", ".prn", ".gz", ".zip", ".bz2", ".xz")


@source("parquet")
class Parquet(_File):
    """A parquet file."""

    suffixes = (".parquet",)


class _Shipped(_File):
    """Bars inside an installed package."""

    name = ""

    def asset(self, argument: str) -> str:
        """The source's name."""
        return self.name

    def symbol(self, argument: str) -> str:
        """There is one."""
        return ""

    def path(self, argument: str) -> Path:
        """Where the package has them."""
        if argument:
            raise _error(f"{self.name}:{argument}", "takes nothing after its name", f"write {self.name}")
        package, inside = SHIPPED[self.name]
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            message = f"the package {package}, which carries these bars, is not installed"
            raise _error(self.name, message, "make setup")
        return Path(found.submodule_search_locations[0]) / inside


@source("sp500")
class Sp500(_Shipped):
    """S&P 500, daily, 1999 to 2018."""

    name = "sp500"


@source("nasdaq")
class Nasdaq(_Shipped):
    """NASDAQ composite, daily, 1999 to 2018."""

    name = "nasdaq"


@source("goog")
class Goog(_Shipped):
    """GOOG, daily, 2004 to 2013."""

    name = "goog"


@source("yfinance")
class Yfinance:
    """Daily bars of a symbol, downloaded: yfinance:SYMBOL."""

    def read(self, argument: str) -> pd.DataFrame:
        """All bars up to yesterday."""
        return _download(argument)


def _error(place: str, message: str, fix: str = "") -> DataError:
    return DataError(Problem(place=place, message=message, fix=fix))


def _read_file(path: Path, place: str, spec: DataSpec) -> RawTable:
    data = _bytes(path, place)
    try:
        frame, found = _parse(path, data, place, spec)
    except (ValueError, OSError, EOFError, pa.ArrowException) as exc:
        what = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        fix = "say which column is which in data.columns; separator, header, dates and decimal sign in data.format"
        raise _error(place, f"cannot be read as {path.suffix.lstrip('.').lower() or 'a table'}: {what}", fix) from exc
    return RawTable(frame, hashlib.sha256(data).hexdigest(), found)


def _bytes(path: Path, source: str) -> bytes:
    try:
        return read_bytes(path, MAX_FILE_BYTES)
    except ValueError as exc:
        raise _error(source, f"cannot be read: {exc}", "give a regular file, or split it") from exc
    except OSError as exc:
        raise _error(source, f"cannot be read: {exc.strerror or exc}", "check the path and its permissions") from exc


def _parse(path: Path, data: bytes, source: str, spec: DataSpec) -> tuple[pd.DataFrame, dict[str, str]]:
    if path.suffix.lower() == ".parquet":
        frame = tables.read(data, source, max_bytes=tables.DATA_BYTES, fix="give a parquet file of plain columns")
        return _one_level(frame), {}
    data, packed = decode.unpacked(data)
    # Most files are plain, and large ones cost several times as much as text.
    if spec.format == AS_FOUND and (table := plain.table_of(data, spec.columns)) is not None:
        return table.dropna(how="all").reset_index(drop=True), packed
    text, encoded = decode.decoded(data)
    frame, found = layout.table_of(text, spec.format, spec.columns.values())
    return frame, packed | encoded | found


def _one_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of yfinance's two levels, (price, ticker), as one; the tickers below each other."""
    if not isinstance(frame.columns, pd.MultiIndex):
        return frame
    tickers = frame.columns.get_level_values(-1)
    pieces = []
    for ticker in tickers.unique():
        piece = frame.loc[:, tickers == ticker]
        pieces.append(piece.set_axis(piece.columns.get_level_values(0), axis=1).assign(Ticker=ticker))
    joined: pd.DataFrame = pd.concat(pieces)
    return joined


def _of_one_symbol(frame: pd.DataFrame, symbol: str, source: str) -> pd.DataFrame:
    """The rows of one symbol of a file that holds several."""
    table = frame.reset_index() if isinstance(frame.index, pd.MultiIndex) else frame
    column = names.first_of(table.columns, names.SYMBOLS)
    if column is None and symbol:
        raise _error(source, "the file has no column of symbols", f"write it without #{symbol}")
    if column is None or (not symbol and pd.api.types.is_numeric_dtype(table[column])):
        return frame
    of_rows = plain.symbol_texts(table[column])
    held = list(of_rows.dropna().unique())
    if symbol in held:
        return table[of_rows == symbol].reset_index(drop=True)
    if symbol or len(held) > 1:
        listed = ", ".join(map(str, held[:8])) + (" ..." if len(held) > 8 else "")
        message = f"holds {len(held)} symbols in its column {str(column)!r} ({listed})"
        path = source.removesuffix(f"#{symbol}") if symbol else source
        raise _error(source, message, f"name one, or a list of them, data.source: {path}#{held[0]}; or all, {path}#*")
    return table


def _download(symbol: str) -> pd.DataFrame:
    source = f"yfinance:{symbol}"
    if not symbol:
        raise _error(source, "names no symbol", "write, for instance, yfinance:SPY")
    try:
        import yfinance
    except ImportError as exc:
        raise _error(
            source,
            "needs the package yfinance, which is not installed",
            "pip install 'isotherm[yfinance]', or name a file instead",
        ) from exc
    try:
        # Not adjusted: open, high, low and close must be of one kind; dividends are not part of an intraday range.
        frame: Any = yfinance.Ticker(symbol).history(period="max", interval="1d", actions=False, auto_adjust=False)
    except Exception as exc:  # yfinance lets errors of several HTTP libraries through; all mean: no bars
        raise _error(source, f"the download failed: {exc}", "check the network, or name a file instead") from exc
    if len(frame):
        today = pd.Timestamp.now(tz=frame.index.tz).normalize()
        frame = frame[frame.index < today]  # today's bar may still be moving
    if frame.empty:
        raise _error(source, "the download brought no bars", "check the symbol and the network")
    bars: pd.DataFrame = frame
    return bars
