"""Reading bars from where they are: tables as they are, not yet checked, with the hash of what was read.

Shipped sources are files inside installed packages. They are read by path, never by importing the package: importing
`backtesting` draws a plotting library in, importing `arch` its models.
"""

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trainables import tables
from trainables.errors import DataError, Problem
from trainables.files import read_bytes

YFINANCE = "yfinance:"
# Real daily bars inside packages on the index: (top-level package, file inside it). `arch` carries the S&P 500 and the
# NASDAQ composite, 1999-01-04 to 2018-12-31; `backtesting` carries GOOG, 2004-08-19 to 2013-03-01.
SHIPPED = {
    "sp500": ("arch", "data/sp500/sp500.csv.gz"),
    "nasdaq": ("arch", "data/nasdaq/nasdaq.csv.gz"),
    "goog": ("backtesting", "test/GOOG.csv"),
}
MAX_FILE_BYTES = 64 * 2**30
_KNOWN = "sp500, nasdaq, goog, a path to a .parquet or .csv file, or yfinance:SYMBOL"


@dataclass(frozen=True, eq=False)
class RawTable:
    """A source as read.

    Attributes:
        frame: the table with the source's own columns, in the source's order.
        sha256: of the file's bytes; of the downloaded table for yfinance.
    """

    frame: pd.DataFrame
    sha256: str


def asset_name(source: str) -> str:
    """The asset's name: the shipped source's name, the file's stem, or the symbol."""
    if source.startswith(YFINANCE):
        return source.removeprefix(YFINANCE).strip()
    return source if source in SHIPPED else Path(source).stem


def read(source: str) -> RawTable:
    """Read one source.

    Raises:
        DataError: it does not exist, cannot be read, or needs an extra that is not installed.
    """
    if source.startswith(YFINANCE):
        return _download(source)
    path = _locate(source)
    data = _bytes(path, source)
    try:
        frame = _parse(path, data, source)
    except (ValueError, OSError, EOFError, pa.ArrowException) as exc:
        what = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise _error(source, f"cannot be read as {path.suffix.lstrip('.') or 'a table'}: {what}") from exc
    return RawTable(frame, hashlib.sha256(data).hexdigest())


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
    path = Path(source).expanduser()
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise _error(source, "is not a source", f"use {_KNOWN}")
    if path.is_dir():
        raise _error(source, "is a folder, not a file", "name the .parquet or .csv file inside it")
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


def _parse(path: Path, data: bytes, source: str) -> pd.DataFrame:
    if path.suffix.lower() == ".parquet":
        return tables.read(data, source, max_bytes=tables.DATA_BYTES, fix="give a parquet file of plain columns")
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return pd.read_csv(BytesIO(data), low_memory=False)


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
