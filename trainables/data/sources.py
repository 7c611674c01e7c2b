"""Reading bars from where they are: tables as they are, not yet checked, with the hash of what was read.

Shipped sources are files inside installed packages. They are read by path, never by importing the package: importing
`backtesting` draws a plotting library in, importing `arch` its models.
"""

import hashlib
import importlib.util
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trainables import tables
from trainables.data.barfile import decode, layout, names
from trainables.data.columns import NUMBERS
from trainables.errors import DataError, Problem
from trainables.files import read_bytes
from trainables.schema import AS_FOUND, FileFormat

YFINANCE = "yfinance:"
# Real daily bars inside packages on the index: (top-level package, file inside it). `arch` carries the S&P 500 and the
# NASDAQ composite, 1999-01-04 to 2018-12-31; `backtesting` carries GOOG, 2004-08-19 to 2013-03-01.
SHIPPED = {
    "sp500": ("arch", "data/sp500/sp500.csv.gz"),
    "nasdaq": ("arch", "data/nasdaq/nasdaq.csv.gz"),
    "goog": ("backtesting", "test/GOOG.csv"),
}
MAX_FILE_BYTES = 64 * 2**30
_SUFFIXES = {".parquet", ".csv", ".txt", ".tsv", ".prn", ".gz", ".zip", ".bz2", ".xz"}
_KNOWN = "sp500, nasdaq, goog, a file (.parquet, .csv, .txt, .tsv; .gz, .zip), FILE#SYMBOL, or yfinance:SYMBOL"


@dataclass(frozen=True, eq=False)
class RawTable:
    """A source as read.

    Attributes:
        frame: the table with the source's own columns, in the source's order.
        sha256: of the file's bytes; of the downloaded table for yfinance.
        found: what was found out about the file's form, where it is not the plainest one.
    """

    frame: pd.DataFrame
    sha256: str
    found: dict[str, str] = field(default_factory=dict)


def asset_name(source: str) -> str:
    """The asset's name: the shipped source's name, the file's stem, or the symbol."""
    if source.startswith(YFINANCE):
        return source.removeprefix(YFINANCE).strip()
    if source in SHIPPED:
        return source
    path, symbol = _split(source)
    name = symbol or path.name.partition(".")[0]
    return name or path.stem


def _split(source: str) -> tuple[Path, str]:
    """Path and symbol of 'FILE#SYMBOL'; a file may have '#' in its own name."""
    whole = Path(source).expanduser()
    path, mark, symbol = source.rpartition("#")
    return (whole, "") if not mark or whole.exists() else (Path(path).expanduser(), symbol.strip())


def read(source: str, form: FileFormat = AS_FOUND) -> RawTable:
    """Read one source.

    Args:
        source: as in `DataSpec.source`.
        form: what the user says about how files are written.

    Raises:
        DataError: it does not exist, cannot be read, or needs an extra that is not installed.
    """
    if source.startswith(YFINANCE):
        return _download(source)
    path = _locate(source)
    data = _bytes(path, source)
    try:
        frame, found = _parse(path, data, source, form)
    except (ValueError, OSError, EOFError, pa.ArrowException) as exc:
        what = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        fix = "see what was understood with `isotherm data inspect`; say the rest in data.format"
        raise _error(source, f"cannot be read as {path.suffix.lstrip('.') or 'a table'}: {what}", fix) from exc
    symbol = "" if source in SHIPPED else _split(source)[1]
    return RawTable(_of_one_symbol(frame, symbol, source), hashlib.sha256(data).hexdigest(), found)


def digest(source: str) -> str | None:
    """The sha256 that `read` would give, or None where it cannot be known without a download or the file is gone."""
    if source.startswith(YFINANCE):
        return None
    try:
        return hashlib.sha256(_bytes(_locate(source), source)).hexdigest()
    except DataError:
        return None


def _error(source: str, message: str, fix: str = "") -> DataError:
    return DataError(Problem(place=source, message=message, fix=fix))


def _locate(source: str) -> Path:
    if source in SHIPPED:
        package, inside = SHIPPED[source]
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise _error(source, f"the package {package}, which carries these bars, is not installed", "make setup")
        return Path(found.submodule_search_locations[0]) / inside
    path, _ = _split(source)
    if not {suffix.lower() for suffix in path.suffixes} & _SUFFIXES:
        raise _error(source, "is not a source", f"use {_KNOWN}")
    if path.is_dir():
        raise _error(source, "is a folder, not a file", "name the file inside it")
    if not path.exists():
        raise _error(source, "there is no such file", f"relative paths start at {Path.cwd()}; check the path")
    return path


def _bytes(path: Path, source: str) -> bytes:
    try:
        return read_bytes(path, MAX_FILE_BYTES)
    except ValueError as exc:
        raise _error(source, f"cannot be read: {exc}", "give a regular file, or split it") from exc
    except OSError as exc:
        raise _error(source, f"cannot be read: {exc.strerror or exc}", "check the path and its permissions") from exc


def _parse(path: Path, data: bytes, source: str, form: FileFormat) -> tuple[pd.DataFrame, dict[str, str]]:
    if path.suffix.lower() == ".parquet":
        frame = tables.read(data, source, max_bytes=tables.DATA_BYTES, fix="give a parquet file of plain columns")
        return _one_level(frame), {}
    text, found = decode.decoded(data)
    if form == AS_FOUND:
        with suppress(pd.errors.ParserError, pd.errors.EmptyDataError):
            plain = pd.read_csv(StringIO(text), low_memory=False)
            if _is_plain(plain):
                return plain.dropna(how="all").reset_index(drop=True), found
    frame, more = layout.table_of(text, form)
    return frame, found | more


def _is_plain(frame: pd.DataFrame) -> bool:
    """Whether pandas understood a file by itself: the columns by our names or mapped ones, prices as numbers."""
    ours = {str(name).strip().lower(): name for name in frame.columns}
    numeric = [ours[name] for name in NUMBERS if name in ours]
    return (
        isinstance(frame.index, pd.RangeIndex)
        and len(frame.columns) > len(NUMBERS)
        and len(numeric) == len(NUMBERS)
        and all(pd.api.types.is_numeric_dtype(frame[name]) for name in numeric)
    )


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
    if column is None or pd.api.types.is_numeric_dtype(table[column]):
        if symbol:
            raise _error(source, "the file has no column of symbols", f"write it without #{symbol}")
        return frame
    of_rows = table[column].astype("string").str.strip()
    held = list(of_rows.dropna().unique())
    if symbol in held:
        return table[of_rows == symbol].reset_index(drop=True)
    if symbol or len(held) > 1:
        listed = ", ".join(map(str, held[:8])) + (" ..." if len(held) > 8 else "")
        message = f"holds {len(held)} symbols in its column {str(column)!r} ({listed})"
        path = source.removesuffix(f"#{symbol}") if symbol else source
        raise _error(source, message, f"name one, or a list of them: data.source: {path}#{held[0]}")
    return table


def _download(source: str) -> RawTable:
    symbol = asset_name(source)
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
        frame = yfinance.Ticker(symbol).history(period="max", interval="1d", actions=False, auto_adjust=False)
    except Exception as exc:  # yfinance lets errors of several HTTP libraries through; all mean: no bars
        raise _error(source, f"the download failed: {exc}", "check the network, or name a file instead") from exc
    if len(frame):
        today = pd.Timestamp.now(tz=frame.index.tz).normalize()
        frame = frame[frame.index < today]  # today's bar may still be moving
    if frame.empty:
        raise _error(source, "the download brought no bars", "check the symbol and the network")
    text = frame.to_csv(float_format="%.12g").encode()
    return RawTable(frame, hashlib.sha256(text).hexdigest())
