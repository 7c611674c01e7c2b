"""A query as a source: SQLite, and DuckDB where it is installed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.trainables.data.test_barfile import BARS
from trainables.data import catalog, ohlcv, sources
from trainables.data.source_conformance import check_source
from trainables.errors import DataError
from trainables.schema import DataSpec

BOTH = pd.concat({"SPY": BARS, "QQQ": BARS * 2}, names=["symbol"]).reset_index()
BOTH["date"] = BOTH["date"].dt.strftime("%Y-%m-%d")


@pytest.fixture(params=["sqlite", "duckdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / f"prices.{request.param}"
    if request.param == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            BOTH.to_sql("bars", connection, index=False)
    else:
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect(str(path)) as connection:
            connection.register("given", BOTH)
            connection.execute("create table bars as select * from given")
    return f"{request.param}:///{path}"


COLUMNS = "date, open, high, low, close, volume"


def test_rows_of_a_query_are_bars(url: str) -> None:
    source = f"sql:{url} select {COLUMNS} from bars where symbol = 'SPY' order by date"
    frames = ohlcv.load_sources(DataSpec(source=source)).frames
    pd.testing.assert_frame_equal(frames["sql"], BARS, check_freq=False)
    check_source("sql", source.removeprefix("sql:"))


def test_a_column_of_symbols_makes_a_universe(url: str, tmp_path: Path) -> None:
    spec = DataSpec(source=f"sql:{url} select * from bars order by symbol, date", tier="ohlcv")
    loaded = ohlcv.load_sources(spec)
    assert set(loaded.frames) == {"QQQ", "SPY"}
    np.testing.assert_array_equal(loaded.frames["QQQ"]["close"], 2 * BARS["close"])
    entry = catalog.prepare(spec, tmp_path / "data")
    assert entry.assets == ("QQQ", "SPY")
    assert catalog.prepare(spec, tmp_path / "data") == entry


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("select nothing from bars", "the query fails"),
        ("drop table bars", "the query"),
        ("", "is no address and query"),
    ],
)
def test_a_query_that_gives_no_rows_is_refused_and_changes_nothing(query: str, says: str, url: str) -> None:
    with pytest.raises(DataError, match=says):
        sources.read(f"sql:{url} {query}")
    assert len(sources.read(f"sql:{url} select * from bars").frame) == 240


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for kind in ("sqlite", "duckdb"):
        with pytest.raises(DataError, match=r"the query fails|not installed"):
            sources.read(f"sql:{kind}:///{tmp_path}/none.db select 1")
    assert not list(tmp_path.iterdir())


def test_a_password_is_refused_and_not_repeated() -> None:
    for url in ("postgresql://me:secret@host/db", "postgresql://host/db?password=secret", "mysql://me@host/db"):
        with pytest.raises(DataError, match="user or password") as caught:
            sources.read(f"sql:{url} select 1")
        assert "secret" not in str(caught.value)
        assert "me@" not in str(caught.value)
