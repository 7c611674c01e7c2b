"""Files of bars in the shapes that vendors give, bar by bar; and what can be read in two ways, or not at all."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data import ohlcv
from trainables.data.inspection import inspect
from trainables.errors import DataError
from trainables.schema import DataSpec

DAYS = pd.bdate_range("2018-01-29", periods=120)
STEPS = np.random.default_rng(7).normal(0, 0.01, 120).cumsum()
CLOSE = (1137.0 * np.exp(STEPS)).round(2)
OPEN = np.concatenate([[1130.0], CLOSE[:-1]])
BARS = pd.DataFrame(
    {
        "open": OPEN,
        "high": (np.maximum(OPEN, CLOSE) + 3.25).round(2),
        "low": (np.minimum(OPEN, CLOSE) - 2.75).round(2),
        "close": CLOSE,
        "volume": np.arange(3_400_000.0, 3_400_000 + 120 * 1000, 1000),
    },
    index=pd.DatetimeIndex(DAYS, name="date").as_unit("ns"),
)


def rows(day: str, number: Callable[[float], str], volume: Callable[[float], str], separator: str = ",") -> list[str]:
    return [
        separator.join(
            [
                date.strftime(day),
                *(number(bar[name]) for name in ("open", "high", "low", "close")),
                volume(bar["volume"]),
            ]
        )
        for date, bar in BARS.iterrows()
    ]


def text(header: str, *lines: str, newest_first: bool = False) -> bytes:
    body = list(lines)[::-1] if newest_first else list(lines)
    return "\n".join([*([header] if header else []), *body, ""]).encode()


def plain(value: float) -> str:
    return f"{value:.2f}"


def grouped(value: float) -> str:
    return f'"{value:,.2f}"'


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def quoted_german(value: float) -> str:
    return f'"{german(value)}"'


def millions(value: float) -> str:
    return f'"{value / 1e6:.3f}M"'.replace(".", ",")


def whole(value: float) -> str:
    return f"{value:.0f}"


ENGLISH = "Date,Open,High,Low,Close,Volume"
STAMPS = [int(date.timestamp()) for date in BARS.index]


def stamped(times: int) -> list[str]:
    bodies = [row.partition(",")[2] for row in rows("%Y", plain, whole)]
    return [f"{stamp * times},{body}" for stamp, body in zip(STAMPS, bodies, strict=True)]


def two_levels() -> bytes:
    head = ["Price,Close,High,Low,Open,Volume", "Ticker,SPY,SPY,SPY,SPY,SPY", "Date,,,,,"]
    body = [f"{d:%Y-%m-%d},{b.close},{b.high},{b.low},{b.open},{b.volume:.0f}" for d, b in BARS.iterrows()]
    return text("", *head, *body)


def dated(day: Callable[[pd.Timestamp], object]) -> list[str]:
    return [f"{day(d)},{row.partition(',')[2]}" for d, row in zip(BARS.index, rows("%Y", plain, whole), strict=True)]


def zipped(data: bytes) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("prices.csv", data)
    return kept.getvalue()


SEMICOLONS = rows("%d.%m.%Y", german, whole, ";")
SHAPES: dict[str, tuple[str, bytes]] = {
    "day before month": ("a.csv", text(ENGLISH, *rows("%d-%m-%Y", plain, whole))),
    "month by name": ("a.csv", text(ENGLISH, *rows("%d-%b-%Y", plain, whole))),
    "yahoo on the web": (
        "a.csv",
        text(
            "Date,Open,High,Low,Close,Adj Close,Volume",
            *rows('"%b %d, %Y"', plain, lambda v: f'1.0,"{v:,.0f}"'),
            newest_first=True,
        ),
    ),
    "dollars": (
        "a.csv",
        text(
            "Date,Open,High,Low,Close/Last,Volume", *rows("%m/%d/%Y", lambda v: f"${v:.2f}", whole), newest_first=True
        ),
    ),
    "thousands": ("a.csv", text(ENGLISH, *rows("%Y-%m-%d", grouped, lambda v: f'"{v:,.0f}"'))),
    "german": ("a.csv", text("Datum;Eröffn.;Hoch;Tief;Zuletzt;Vol.", *SEMICOLONS).decode().encode("utf-8-sig")),
    "latin-1": ("a.csv", text("Datum;Eröffnung;Hoch;Tief;Schluss;Volumen", *SEMICOLONS).decode().encode("latin-1")),
    "units": ("a.csv", text("Date,Open,High,Low,Price,Vol.", *rows("%m/%d/%Y", grouped, lambda v: f"{v / 1e6:.3f}M"))),
    "seconds": ("a.csv", text("timestamp,open,high,low,close,volume", *stamped(1))),
    "milliseconds without a header": ("a.csv", text("", *(f"{row},1,2.5,0" for row in stamped(1000)))),
    "microseconds": (
        "a.csv",
        text("open_time,open,high,low,close,volume,count", *(f"{row},1" for row in stamped(10**6))),
    ),
    "metatrader 4": ("a.csv", text("", *rows("%Y.%m.%d,00:00", plain, whole))),
    "metatrader 5": (
        "a.csv",
        text(
            "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>",
            *(f"{row}\t0" for row in rows("%Y.%m.%d", plain, whole, "\t")),
        )
        .decode()
        .encode("utf-16"),
    ),
    "lines before and after": (
        "a.csv",
        text(
            "Security,SPX Index",
            "Start,2018",
            "",
            "Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME",
            *rows("%d/%m/%Y", plain, whole),
        )
        + b'"Downloaded from somewhere"\n',
    ),
    "trailing comma": ("a.csv", text(ENGLISH, *(f"{row}," for row in rows("%Y-%m-%d", plain, whole)))),
    "empty rows": ("a.csv", text(ENGLISH, *rows("%Y-%m-%d", plain, whole), ",,,,,", ",,,,,")),
    "one letter": ("a.csv", text("t,o,h,l,c,v", *stamped(1000))),
    "database": ("a.csv", text(ENGLISH, *rows("%Y-%m-%d 00:00:00+00", plain, whole))),
    "UTC": ("a.csv", text(ENGLISH, *rows("%Y-%m-%d 00:00:00 UTC", plain, whole))),
    "number of a day": ("a.csv", text(ENGLISH, *rows("%Y%m%d.0", plain, whole))),
    "spreadsheet": (
        "a.csv",
        text(ENGLISH, *dated(lambda d: (d - pd.Timestamp("1899-12-30")).days)),
    ),
    "two levels": ("a.csv", two_levels()),
    "text": (
        "a.txt",
        text("Date,Open,High,Low,Close,Volume,OpenInt", *(f"{row},0" for row in rows("%Y-%m-%d", plain, whole))),
    ),
    "gzip": ("a.csv.gz", gzip.compress(text(ENGLISH, *rows("%Y-%m-%d", plain, whole)))),
    "bzip2": ("a.csv.bz2", bz2.compress(text(ENGLISH, *rows("%Y-%m-%d", plain, whole)))),
    "zip": ("a.zip", zipped(text(ENGLISH, *rows("%Y-%m-%d", plain, whole)))),
    "one of several symbols": (
        "all.csv#AAL",
        text(
            "date,open,high,low,close,volume,Name",
            *(f"{row},AAL" for row in rows("%Y-%m-%d", plain, whole)),
            *(f"{row},AAPL" for row in rows("%Y-%m-%d", lambda v: plain(v / 2), whole)),
        ),
    ),
    "stamped in the evening before": (
        "a.csv",
        text(ENGLISH, *dated(lambda d: f"{d - pd.Timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}")),
    ),
    "cryptodatadownload": (
        "a.csv",
        text(
            "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
            *(
                f"{stamp * 1000},{row.replace(',', ',BTC/USD,', 1)},1"
                for stamp, row in zip(STAMPS, rows("%Y-%m-%d 00:00:00", plain, whole), strict=True)
            ),
            newest_first=True,
        ),
    ),
    "nse": (
        "a.csv",
        text(
            '"Date ","OPEN ","HIGH ","LOW ","close ","VOLUME ","PREV. CLOSE ","ltp ","No of trades "',
            *(f"{row},1.5,2.5,7" for row in rows("%d-%b-%Y", grouped, lambda v: f'"{v:,.0f}"')),
            newest_first=True,
        )
        .decode()
        .encode("utf-8-sig"),
    ),
    "month, day, time": ("a.csv", text(ENGLISH, *rows("%m/%d/%Y 16:00:00", plain, whole))),
    "a day with Z": ("a.csv", text(ENGLISH, *rows("%Y-%m-%dZ", plain, whole))),
    "barchart": (
        "a.csv",
        text(
            "Time,Open,High,Low,Latest,Volume,Change,%Change",
            *(f"{r},0.1,0.1%" for r in rows("%Y-%m-%d", plain, whole)),
        )
        + b'"Downloaded from Barchart.com as of 11-26-2026 09:16am CST"\n',
    ),
    "binance with a header": (
        "a.csv",
        text(
            "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
            "taker_buy_quote_volume,ignore",
            *(f"{row},1,1.0,10,1.0,1.0,0" for row in stamped(1000)),
        ),
    ),
    "binance without one": ("a.csv", text("", *(f"{row},1,1.0,10,1.0,1.0,0" for row in stamped(1000)))),
    "tiingo": (
        "a.csv",
        text(
            "date,open,high,low,close,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor",
            *(f"{row},1,1,1,1,1,0.0,1.0" for row in rows("%Y-%m-%dT00:00:00.000Z", plain, whole)),
        ),
    ),
    "alpha vantage": (
        "a.csv",
        text("timestamp,1. open,2. high,3. low,4. close,5. volume", *rows("%Y-%m-%d", plain, whole), newest_first=True),
    ),
    "french": (
        "a.csv",
        text('"Date","Ouv."," Plus Haut","Plus Bas","Dernier","Vol."', *rows("%d/%m/%Y", quoted_german, millions)),
    ),
    "spanish": (
        "a.csv",
        text('"Fecha","Apertura","Máximo","Mínimo","Último","Vol."', *rows("%d.%m.%Y", quoted_german, millions)),
    ),
    "italian": (
        "a.csv",
        text('"Data","Apertura","Massimo","Minimo","Ultimo","Vol."', *rows("%d.%m.%Y", quoted_german, millions)),
    ),
    "tabs": ("a.tsv", text("Date\tOpen\tHigh\tLow\tClose\tVolume", *rows("%Y-%m-%d", plain, whole, "\t"))),
    "xz": ("a.csv.xz", lzma.compress(text(ENGLISH, *rows("%Y-%m-%d", plain, whole)))),
}


def read(source: str, **changes: object) -> pd.DataFrame:
    [frame] = ohlcv.load_sources(DataSpec(source=(source,), **changes)).frames.values()
    return frame


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, bytes], str]:
    def write(name: str, data: bytes) -> str:
        (tmp_path / name.partition("#")[0]).write_bytes(data)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_bars(shape: str, file: Callable[[str, bytes], str]) -> None:
    frame = read(file(*SHAPES[shape]))
    pd.testing.assert_frame_equal(frame, BARS, check_freq=False, rtol=1e-15)


@pytest.mark.parametrize(
    ("shape", "vendor"),
    [
        ("yahoo on the web", "Yahoo"),
        ("dollars", "NASDAQ.com"),
        ("metatrader 5", "MetaTrader 5"),
        ("one letter", "Polygon"),
        ("text", "Stooq, from Kaggle"),
        ("lines before and after", "Bloomberg"),
        ("cryptodatadownload", "CryptoDataDownload"),
        ("nse", "National Stock Exchange of India"),
        ("barchart", "Barchart"),
        ("binance with a header", "Binance"),
        ("binance without one", "Binance"),
        ("tiingo", "Tiingo"),
        ("alpha vantage", "Alpha Vantage"),
    ],
)
def test_the_vendor_is_named(shape: str, vendor: str, file: Callable[[str, bytes], str]) -> None:
    found = inspect(file(*SHAPES[shape]), DataSpec())
    assert found.found["looks like"] == vendor
    assert not found.problems


def test_the_least_repair_is_found(file: Callable[[str, bytes], str]) -> None:
    def repair_of(table: pd.DataFrame) -> dict[str, object] | None:
        found = inspect(file("a.csv", table.to_csv().encode()), DataSpec())
        assert found.problems
        if found.repair is None:
            return None
        read(file("a.csv", table.to_csv().encode()), repair=found.repair)
        return found.repair.model_dump(exclude_defaults=True)

    zero_opens, rounded, nothing, upside_down, short = (BARS.copy() for _ in range(5))
    zero_opens.iloc[3:9, 0] = 0
    rounded.iloc[40, 1] = max(rounded.iloc[40, 0], rounded.iloc[40, 3]) - 3e-6
    nothing.iloc[30] = np.nan
    upside_down.iloc[50, [1, 2]] = upside_down.iloc[50, [2, 1]].to_numpy()
    assert repair_of(zero_opens) == {"fill_open": True}
    assert repair_of(rounded) == {"tolerance": 1e-5}
    assert repair_of(nothing) == {"drop_rows": ("finite",)}
    assert repair_of(upside_down) == {"drop_rows": ("high", "low")}
    assert repair_of(short.iloc[:50]) is None
    [problem] = inspect(file("a.csv", nothing.to_csv().encode()), DataSpec()).problems
    assert "open, high, low, close, volume are not finite numbers: nothing" in str(problem)


@pytest.mark.parametrize("index", ["text", "ticker and date", "of two levels"])
def test_parquet_with_an_index(index: str, tmp_path: Path) -> None:
    if index == "of two levels":
        table = pd.concat({"SPY": BARS.rename(columns=str.title)}, axis=1).swaplevel(axis=1)
        table.to_parquet(tmp_path / "a.parquet")
        pd.testing.assert_frame_equal(read(str(tmp_path / "a.parquet")), BARS, check_freq=False)
        return
    table = BARS.set_axis(BARS.index.strftime("%Y-%m-%d").rename("date"))
    if index != "text":
        table = pd.concat({"SPY": table}, names=["ticker"])
    table.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read(str(tmp_path / "a.parquet")), BARS, check_freq=False)


@pytest.mark.parametrize(
    ("header", "lines", "says"),
    [
        (
            ENGLISH,
            [f'{d:%Y-%m-%d},"1,138","1,141","1,135","1,139",5' for d in BARS.index],
            "decimal comma or with one that groups",
        ),
        (
            ENGLISH,
            [f"{1 + n % 12}/{1 + n // 12}/2001,5,6,4,5,{n}" for n in range(120)],
            "month/day/year and as day/month/year",
        ),
        (
            "",
            [f"{row}" for row in rows("%Y-%m-%d", plain, whole)][:1] * 3 + ["2018-01-01,5,1,9,5,3"] * 9,
            "not in the order date, open, high",
        ),
        ("a,b,c,d,e,f", rows("%Y-%m-%d", plain, whole), "not known by name: a, b, c"),
        ("x", ["y"], "no separator gives its lines 5 columns"),
    ],
)
def test_what_cannot_be_decided_is_refused(
    header: str, lines: list[str], says: str, file: Callable[[str, bytes], str]
) -> None:
    with pytest.raises(DataError, match=says):
        read(file("a.csv", text(header, *lines)))


def test_one_line_of_yaml_decides_it(file: Callable[[str, bytes], str]) -> None:
    quoted = [
        f'{d:%Y-%m-%d},"1,{138 + n % 9}","1,{150 + n % 7}","1,{120 + n % 5}","1,{138 + (n + 1) % 9}",{n}'
        for n, d in enumerate(BARS.index)
    ]
    ambiguous = file("a.csv", text(ENGLISH, *quoted))
    assert read(ambiguous, format={"decimal": ","})["open"].iloc[0] == 1.138
    assert read(ambiguous, format={"decimal": "."})["open"].iloc[0] == 1138
    named = file("b.csv", text("", *rows("%Y-%m-%d", plain, whole)))
    assert read(named, format={"header": ["date", "open", "high", "low", "close", "volume"]}).equals(BARS)
    new_york = file("c.csv", text(ENGLISH, *rows("%Y-%m-%d 01:30:00Z", plain, whole)))
    shifted = read(new_york, format={"timezone": "America/New_York"})
    assert shifted.index[0] == BARS.index[0] - pd.Timedelta(days=1)


def test_a_vendor_decides_it(file: Callable[[str, bytes], str]) -> None:
    days = [
        f'{1 + n % 12}/{1 + n // 12}/2001,"{5 + n % 2},138","6,{139 + n % 3}","4,{138 - n % 3}","5,{138 + n % 3}",{n}'
        for n in range(120)
    ]
    source = file("a.csv", text(ENGLISH, *days))
    with pytest.raises(DataError, match=r"two ways|decimal comma or with one") as caught:
        read(source)
    assert len(caught.value.problems) >= 2
    frame = read(source, format="nasdaq", sort=True)
    assert frame["open"].iloc[0] == 5138
    assert frame.index[1] == pd.Timestamp("2001-01-02")
    with pytest.raises(ValueError, match="'nasdaqq' is no vendor"):
        DataSpec(format="nasdaqq")


@pytest.mark.parametrize("separator", [",", ";"])
def test_names_of_no_vendor_are_mapped(separator: str, file: Callable[[str, bytes], str]) -> None:
    mapping = {"date": "d1", "open": "A", "high": "B", "low": "C", "close": "E", "volume": "F"}
    header = separator.join(["D1", *list(mapping.values())[1:], "extra"])
    body = [f"{row}{separator}7" for row in rows("%Y-%m-%d", plain, whole, separator)]
    frame = read(file("a.csv", text(header, *body)), columns=mapping)
    pd.testing.assert_frame_equal(frame, BARS, check_freq=False, rtol=1e-15)


def test_what_was_found_out_is_said_when_bars_are_read(
    file: Callable[[str, bytes], str], caplog: pytest.LogCaptureFixture
) -> None:
    read(file(*SHAPES["text"]))
    assert not caplog.messages
    read(file(*SHAPES["german"]))
    assert "separator semicolon; date from the column 'Datum'" in caplog.text
    assert "decimal sign comma" in caplog.text


def test_a_file_of_several_symbols_names_them(file: Callable[[str, bytes], str]) -> None:
    source = file("all.csv", SHAPES["one of several symbols"][1])
    with pytest.raises(DataError, match=r"holds 2 symbols in its column 'Name' \(AAL, AAPL\)"):
        read(source)


def test_rows_are_repaired_only_when_asked_and_said(
    file: Callable[[str, bytes], str], caplog: pytest.LogCaptureFixture
) -> None:
    table = BARS.copy()
    table.iloc[30, :4] = np.nan
    table.iloc[40, 1] = max(table.iloc[40, 0], table.iloc[40, 3]) - 3e-6
    source = file("a.csv", table.to_csv().encode())
    with pytest.raises(DataError, match="finite"):
        read(source)
    frame = read(source, repair={"drop_rows": ["finite"], "tolerance": 1e-5})
    assert len(frame) == len(BARS) - 1
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()
    assert "left out by data.repair (finite open), rows in all 1: 31" in caplog.text
    assert "high corrected by data.repair.tolerance, rows in all 1" in caplog.text


def test_what_was_found_is_listed(file: Callable[[str, bytes], str]) -> None:
    found = inspect(file(*SHAPES["latin-1"]), DataSpec())
    assert not found.problems
    assert found.found["separator"] == "semicolon"
    assert found.found["decimal sign"] == "comma"
    assert found.found["open"] == "from the column 'Eröffnung'"
    assert found.found["encoding"].startswith("Windows-1252")
    missing = inspect("nothing.csv", DataSpec())
    assert "there is no such file" in str(missing.problems[0])
