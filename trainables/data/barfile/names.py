"""Names that vendors give to the columns of bars."""

import re
from collections.abc import Collection, Hashable, Iterable, Sequence

# The first name of a row that a file has is taken. English, German, French, Spanish, Italian, Portuguese and Dutch
# exports; single letters are Polygon's; PX_... are Bloomberg's.
KNOWN = {
    "date": (
        "date", "datetime", "trade date", "timestamp", "time stamp", "time", "open time", "opentime", "unix", "t",
        "day", "local time", "gmt time", "datum", "fecha", "data", "datetime utc",
    ),
    "open": (
        "open", "o", "px open", "open price", "eröffnung", "eröffn", "ouverture", "ouv", "apertura", "abertura",
    ),
    "high": (
        "high", "h", "px high", "high price", "hoch", "tageshoch", "plus haut", "+ haut", "máximo", "massimo", "max",
        "máxima", "hoog",
    ),
    "low": (
        "low", "l", "px low", "low price", "tief", "tagestief", "plus bas", "+ bas", "mínimo", "minimo", "min",
        "mínima", "laag",
    ),
    "close": (
        "close", "c", "close/last", "px last", "close price", "last", "price", "latest", "schluss",
        "schlusskurs", "zuletzt", "dernier", "clôture", "cierre", "último", "ultimo", "chiusura", "fechamento", "slot",
        "laatste",
    ),
    "volume": (
        "volume", "v", "vol", "px volume", "volumen", "volumes", "volym", "total traded quantity", "shares traded",
        "tickvol", "tick volume",
    ),
}  # fmt: skip
# By names, normalised, of columns that no other vendor has together.
_VENDORS = {
    "yfinance": ("adj close", "ticker"),
    "Tiingo": ("adjclose", "divcash"),
    "Yahoo": ("adj close",),
    "NASDAQ.com": ("close/last",),
    "Investing.com": ("change %", "price"),
    "Investing.com, German": ("zuletzt", "+/- %"),
    "Investing.com, French": ("dernier", "variation %"),
    "Investing.com, Spanish": ("último", "% var"),
    "Investing.com, Italian": ("ultimo", "var %"),
    "Binance": ("quote volume", "taker buy volume"),
    "Binance, older": ("quote asset volume", "number of trades"),
    "CryptoDataDownload": ("unix", "symbol"),
    "Barchart": ("latest", "%change"),
    "Bloomberg": ("px last",),
    "Polygon": ("t", "o", "h", "l", "c"),
    "National Stock Exchange of India": ("prev close", "ltp"),
    "Stooq": ("per", "openint"),
    "Stooq, from Kaggle": ("openint",),
}
SYMBOLS = ("symbol", "ticker", "name", "security", "instrument")
TIMES = ("time", "hour")


def normalised(name: Hashable) -> str:
    """A header's name without case, brackets, dots and repeated spaces; '1. open' is Alpha Vantage's 'open'."""
    text = re.sub(r"[<>\"\ufeff.]", " ", str(name)).replace("_", " ").lower()
    return re.sub(r"^\d+ +", "", " ".join(text.split()))


def matches(columns: Iterable[Hashable], ours: str) -> list[Hashable]:
    """Columns that a vendor's name says to be ours, the likeliest first.

    A volume in a unit, such as 'Volume BTC', counts where no other is there.
    """
    by_name: dict[str, list[Hashable]] = {}
    for column in columns:
        by_name.setdefault(normalised(column), []).append(column)
    found = [column for name in KNOWN[ours] for column in by_name.get(name, ())]
    if ours == "volume" and not found:
        found = [column for name, same in by_name.items() if name.startswith("volume ") for column in same]
    return found


def vendor_of(columns: Iterable[Hashable]) -> str:
    """The vendor that a table's columns look like; empty where that is open."""
    written = [str(column) for column in columns]
    if any(name.startswith("<") and name.endswith(">") for name in written):
        return "Stooq" if "<PER>" in written else "MetaTrader 5"
    if "1. open" in written:
        return "Alpha Vantage"
    known = {normalised(name) for name in written}
    return next((vendor for vendor, theirs in _VENDORS.items() if known >= set(theirs)), "")


def first_of(columns: Iterable[Hashable], names: tuple[str, ...]) -> Hashable | None:
    """The first column with one of these names."""
    known = {normalised(column): column for column in columns}
    return next((known[name] for name in names if name in known), None)


def n_known(cells: Sequence[str], mapped: Collection[str]) -> int:
    """How many of our columns per row of cells could be the header of; `mapped` are further names, normalised."""
    return sum(bool(matches(cells, ours)) for ours in KNOWN) + sum(normalised(cell) in mapped for cell in cells)
