import subprocess
import sys
import types

import pandas as pd
import pytest

from trainables.data import sources
from trainables.data.ohlcv import load_sources
from trainables.errors import DataError
from trainables.schema import DataSpec


def test_shipped_bars_are_read_without_importing_their_packages():
    code = (
        "import sys; from trainables.data import sources\n"
        "for name in sources.SHIPPED: assert len(sources.read(name).frame) > 2000\n"
        "assert not {'arch', 'backtesting', 'bokeh', 'statsmodels'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("name", ["spy.csv", "SPY.CSV", "spy.parquet", "Spy.Parquet"])
def test_csv_and_parquet_hold_the_same_bars(make_bars, tmp_path, name):
    bars = make_bars(n=150)
    path = tmp_path / name
    bars.to_csv(path) if path.suffix.lower() == ".csv" else bars.to_parquet(path)
    loaded = load_sources(DataSpec(source=str(path))).frames[path.stem]
    pd.testing.assert_frame_equal(loaded, bars, check_freq=False)  # exactly: no float is off by a bit


def test_a_parquet_with_a_date_column_is_read(make_bars, tmp_path):
    bars = make_bars(n=150)
    bars.reset_index().assign(date=lambda frame: frame["date"].dt.date).to_parquet(tmp_path / "x.parquet")
    loaded = load_sources(DataSpec(source=str(tmp_path / "x.parquet"))).frames["x"]
    pd.testing.assert_frame_equal(loaded, bars, check_freq=False)


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("sp50", None, "is not a source"),
        ("missing.csv", None, "there is no such file"),
        ("folder.csv", "folder", "is a folder"),
        ("prices.xlsx", b"", "is not a source"),
        ("empty.csv", b"", "cannot be read as csv"),
        ("torn.parquet", b"PAR1 torn", "cannot be read as parquet"),
        ("binary.csv", b"\xff\xfe\x00,\x80\n\x81,1\n", "cannot be read as csv"),
        ("yfinance:", None, "names no symbol"),
    ],
)
def test_what_cannot_be_read_gives_one_plain_error(tmp_path, monkeypatch, source, content, message):
    monkeypatch.chdir(tmp_path)
    if content == "folder":
        (tmp_path / source).mkdir()
    elif content is not None:
        (tmp_path / source).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        sources.read(source)
    assert [problem.place for problem in caught.value.problems] == [source]


def test_the_hash_follows_the_bytes(make_bars, tmp_path):
    path = tmp_path / "x.csv"
    make_bars(n=120).to_csv(path)
    before = sources.read(str(path)).sha256
    assert sources.digest(str(path)) == before
    path.write_bytes(path.read_bytes() + b"\n")
    assert sources.digest(str(path)) == sources.read(str(path)).sha256 != before
    assert sources.digest(str(tmp_path / "gone.csv")) is None


def test_yfinance_absent_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(DataError, match=r"pip install 'isotherm\[yfinance\]'"):
        sources.read("yfinance:SPY")


class TestYfinance:
    """The package needs the internet; a stand-in with its documented signature and table takes its place."""

    @pytest.fixture
    def history(self, monkeypatch, make_bars):
        today = pd.Timestamp.now(tz="America/New_York").normalize()
        frame = make_bars(n=150).rename(columns=str.title).assign(**{"Adj Close": 1.0})
        frame.index = pd.date_range(end=today, periods=150, freq="D", name="Date")
        asked = {}

        class Ticker:
            def __init__(self, symbol):
                asked["symbol"] = symbol

            def history(self, period="1mo", interval="1d", actions=True, auto_adjust=True):
                asked.update(period=period, interval=interval, actions=actions, auto_adjust=auto_adjust)
                if asked["symbol"] == "DOWN":
                    raise ConnectionError("no route to host")
                return frame if asked["symbol"] == "SPY" else frame.iloc[:0]

        module = types.ModuleType("yfinance")
        module.Ticker = Ticker
        monkeypatch.setitem(sys.modules, "yfinance", module)
        return frame, asked

    def test_all_daily_bars_but_todays_unfinished_one(self, history):
        frame, asked = history
        bars = load_sources(DataSpec(source="yfinance:SPY")).frames["SPY"]
        assert asked == {"symbol": "SPY", "period": "max", "interval": "1d", "actions": False, "auto_adjust": False}
        assert bars.index.tolist() == frame.index[:-1].tz_localize(None).tolist()
        assert bars["close"].tolist() == frame["Close"].iloc[:-1].tolist()

    def test_no_bars_and_no_network_are_plain_errors(self, history):
        with pytest.raises(DataError, match="brought no bars"):
            sources.read("yfinance:NOPE")
        with pytest.raises(DataError, match="no route to host"):
            sources.read("yfinance:DOWN")

    def test_it_cannot_be_compared_without_a_download(self):
        assert sources.digest("yfinance:SPY") is None
