"""From a file's text to a table of text: separator, lines before the header, the header, lines after the data."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from io import StringIO

import pandas as pd

from trainables.data.barfile import names
from trainables.schema import FileFormat

_SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}  # a decimal comma occurs with all others
_LOOKED_AT = 200  # lines
_MIN_KNOWN = 4  # columns of ours that make a line a header
_MIN_FIELDS = 5  # a date and four prices
_FOOTER_ROWS = 5
_BARE = ("date", "open", "high", "low", "close", "volume")  # order of a file without a header, after a check of it
_BINANCE = (*_BARE, "close_time", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore")
_NUMBER = re.compile(r"[-+$€£]?[\d.,]*\d(?:[eE][-+]?\d+)?")


def table_of(text: str, form: FileFormat, mapped: Iterable[str] = ()) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read delimited text.

    Args:
        text: of the file.
        form: what the user says about it; the rest is found out.
        mapped: names of columns that the user gives, `DataSpec.columns`: they make a line a header as known ones do.

    Returns:
        All cells as text, empty where nothing is given, columns by the header's names; and what was found out.

    Raises:
        ValueError: it is no table of bars, with the reason.
    """
    lines = text.splitlines()
    looked_at = [line for line in lines[:_LOOKED_AT] if line.strip()]
    separator = form.delimiter or _separator(looked_at)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines[:_LOOKED_AT], delimiter=separator)]
    header, start, found = _header(rows, form, frozenset(names.normalised(name) for name in mapped))
    if separator != ",":
        found["separator"] = _SEPARATORS.get(separator, separator)
    width = max([len(header), *(len(row) for row in rows[start:])])
    header = _distinct([*header, *[""] * (width - len(header))])
    try:
        table = pd.read_csv(
            StringIO("\n".join(lines[start:])),
            sep=separator,
            header=None,
            names=header,
            index_col=False,
            dtype=str,
            na_filter=False,
            skipinitialspace=True,
            low_memory=False,
        )
    except pd.errors.EmptyDataError:
        raise ValueError("there are no rows after the header") from None
    table = table.apply(lambda column: column.fillna("").str.strip())
    table = _without_empty(table, found)
    table = _without_footer(table, found)
    if "header" in found and found["header"].startswith("none"):
        table = _named(table, found)
    return _long(table, rows[:start], found), found


def _separator(lines: list[str]) -> str:
    """The first separator that gives most lines the same number of fields, enough for bars."""
    for separator in _SEPARATORS:
        counts = Counter(len(row) for row in csv.reader(lines, delimiter=separator))
        wide = {width: count for width, count in counts.items() if width >= _MIN_FIELDS}
        if sum(wide.values()) > len(lines) / 2:
            return separator
    raise ValueError(
        f"no separator gives its lines {_MIN_FIELDS} columns: {lines[0][:60]!r}" if lines else "it is empty"
    )


def _header(rows: list[list[str]], form: FileFormat, mapped: frozenset[str]) -> tuple[list[str], int, dict[str, str]]:
    """Names, number of the first line of data (from 0), and what was found out."""
    if form.header is not None:
        given = [cell.lower() for cell in form.header]
        start = 1 if rows and [cell.lower() for cell in rows[0]] == given else 0
        return list(form.header), start, {"header": "as given"}
    for number, row in enumerate(rows):
        if names.n_known(row, mapped) >= _MIN_KNOWN:
            found = {"before the header": f"{number} line{'s' * (number > 1)}"} if number else {}
            return row, number + 1 + _levels(rows, number), found
    for number, row in enumerate(rows):
        if len(row) >= _MIN_FIELDS and sum(bool(_NUMBER.fullmatch(cell)) for cell in row) >= _MIN_KNOWN:
            if number and any(rows[:number]):
                text = ", ".join(cell for cell in rows[number - 1] if cell)[:120]
                raise ValueError(f"the columns are not known by name: {text}")
            return [""] * len(row), number, {"header": "none"}
    raise ValueError("no line is a header of bars: date, open, high, low, close, volume")


def _levels(rows: list[list[str]], number: int) -> int:
    """Further lines of a header of several levels, as yfinance writes it: 'Ticker', 'Date'."""
    further = [row[0].lower() if row else "" for row in rows[number + 1 : number + 3]]
    if rows[number][0].lower() != "price" or further[:1] != ["ticker"]:
        return 0
    rows[number][0] = "Date"
    return 2 if further[1:] == ["date"] else 1


def _long(table: pd.DataFrame, head: list[list[str]], found: dict[str, str]) -> pd.DataFrame:
    """A table with the columns of several tickers next to each other, as one with a column `Ticker`."""
    tickers = next((row for row in head if row and row[0].lower() == "ticker"), None)
    if tickers is None or not any(row and row[0] == "Date" for row in head):
        return table
    found["header"] = "of several levels: price, ticker"
    pieces = []
    for ticker in dict.fromkeys(tickers[1:]):
        chosen = [0, *(place for place, name in enumerate(tickers) if place and name == ticker)]
        piece = table.iloc[:, chosen]
        piece.columns = [re.sub(r"\.\d+$", "", str(name)) for name in piece.columns]
        pieces.append(piece.assign(Ticker=ticker))
    return pd.concat(pieces, ignore_index=True)


def _distinct(header: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    result = []
    for place, name in enumerate(header):
        name = name or f"column {place + 1}"
        result.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return result


def _without_empty(table: pd.DataFrame, found: dict[str, str]) -> pd.DataFrame:
    filled = (table != "").any(axis=1)
    if not filled.all():
        found["empty rows"] = f"{int((~filled).sum())} left out"
    kept = table[filled].reset_index(drop=True)
    unnamed = [name for name in kept.columns if name.startswith("column ") and (kept[name] == "").all()]
    return kept.drop(columns=unnamed)


def _without_footer(table: pd.DataFrame, found: dict[str, str]) -> pd.DataFrame:
    """Leave out lines after the data: text in the first column alone."""
    last = table.tail(_FOOTER_ROWS)
    words = last.iloc[:, 0].str.contains(r"[A-Za-z]{4}") & (last.iloc[:, 1:] == "").all(axis=1)
    if number := int(words.sum()):
        found["after the data"] = f"{number} line{'s' * (number > 1)}: {str(last[words].iloc[0, 0])[:60]!r}"
        return table.drop(index=list(last.index[words]))
    return table


def _named(table: pd.DataFrame, found: dict[str, str]) -> pd.DataFrame:
    """Names for a file without a header: date, perhaps time, open, high, low, close, volume, if the numbers agree."""
    second = table.iloc[:, 1]
    order = [_BARE[0], "time", *_BARE[1:]] if second.str.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?").all() else list(_BARE)
    order = list(_BINANCE) if table.shape[1] == len(_BINANCE) else order[: table.shape[1]]
    named = table.rename(columns=dict(zip(table.columns, order, strict=False)))
    prices = {name: pd.to_numeric(named[name], errors="coerce") for name in ("open", "high", "low", "close")}
    ends = pd.concat([prices["open"], prices["close"]], axis=1)
    sound = (prices["high"] >= ends.max(axis=1)) & (prices["low"] <= ends.min(axis=1))
    if sound.mean() < 0.99:
        raise ValueError(
            "there is no header, and the columns are not in the order date, open, high, low, close, volume"
        )
    found["header"] = f"none; read as {', '.join(order)}"
    return named
