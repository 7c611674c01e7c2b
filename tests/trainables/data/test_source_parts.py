"""Data sources as parts: the conformance kit on what ships and on the example, and what is refused."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from isotherm.testing import check_source
from runner.config import sweep_file
from trainables.data import catalog, sources
from trainables.data.source_registry import SOURCES, RawTable, source
from trainables.errors import ConfigError, DataError
from trainables.parts import PartConfig, plugins
from trainables.schema import DataSpec

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "my_source.py"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    known, loaded = {part.name: part for part in SOURCES}, dict(plugins._loaded)
    yield
    SOURCES._parts.clear()
    SOURCES._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.fixture
def bars(make_bars: Any) -> pd.DataFrame:
    return make_bars(n=150).reset_index()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["sp500", "nasdaq", "goog"])
def test_what_ships_in_packages_keeps_the_contract(name: str) -> None:
    check_source(name)


def test_files_keep_the_contract(bars: pd.DataFrame, tmp_path: Path) -> None:
    bars.to_csv(tmp_path / "a.csv", index=False)
    bars.to_parquet(tmp_path / "a.parquet")
    check_source("csv", str(tmp_path / "a.csv"))
    check_source("parquet", str(tmp_path / "a.parquet"))


def test_the_example_reads_a_database(bars: pd.DataFrame, tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    plugins.load([plugins.read(EXAMPLE)])
    with sqlite3.connect(tmp_path / "ticks.db") as database:
        database.execute("create table trades (symbol text, time text, price real, size real)")
        for bar in bars.itertuples():
            for hour, price in enumerate((bar.open, bar.high, bar.low, bar.close)):
                row = ("SPY", f"{bar.date:%Y-%m-%d} 1{hour}:00:00", price, bar.volume / 4)
                database.execute("insert into trades values (?, ?, ?, ?)", row)
    database.close()
    keys = {"database": f"{tmp_path}/ticks.db", "symbol": "SPY"}
    check_source("trades", **keys)
    spec = DataSpec.model_validate({"source": {"name": "trades", **keys}, "tier": "ohlcv"})
    assert DataSpec.model_validate(spec.model_dump(mode="json")) == spec
    entry = catalog.prepare(spec, tmp_path / "data")
    assert (entry.assets, entry.rows) == (("SPY",), 150)
    loaded = catalog.load(entry, tmp_path / "data").frame
    pd.testing.assert_series_equal(loaded["close"], bars["close"], check_names=False)
    with pytest.raises(DataError, match="the source 'trades' fails with OperationalError: unable to open"):
        sources.read('trades:{"database": "none.db", "symbol": "SPY"}')
    few = DataSpec.model_validate({"source": {"name": "trades", **keys, "min_size": 1e12}})
    assert catalog.name_of(few) != catalog.name_of(spec.model_copy(update={"tier": few.tier}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{name: trades, database: a.db, symbl: SPY}", r"data.source.0.symbl.*no such key(.|\n)*symbol"),
        ("{name: trades, database: a.db, symbol: SPY, min_size: -1}", r"data.source.0.min_size.*at least 0|equal to 0"),
        ("{name: trades}", r"data.source.0.database.*required"),
        ("trades:a.db", r"data.source.0.*has keys and no argument(.|\n)*database, symbol, min_size"),
        ("{name: sp500, symbol: SPY}", r"data.source.0.*the source 'sp500' has no keys"),
    ],
)
def test_keys_of_a_source_are_checked_before_anything_is_read(tmp_path: Path, source: str, message: str) -> None:
    plugins.load([plugins.read(EXAMPLE)])
    (tmp_path / "sweep.yaml").write_text(f"name: tiny\ndata:\n  source: {source}\ngrid: {{budget: [20k], seed: [0]}}\n")
    with pytest.raises(ConfigError, match=message):
        sweep_file.load(tmp_path / "sweep.yaml", tracking=False)


def test_a_file_of_ones_own_format_goes_by_its_suffix(bars: pd.DataFrame, tmp_path: Path) -> None:
    @source("semicolons")
    class Semicolons:
        suffixes = (".ssv",)

        def read(self, argument: str) -> pd.DataFrame:
            return pd.read_csv(argument, sep=";")

    bars.to_csv(tmp_path / "x.ssv", sep=";", index=False)
    assert len(sources.read(str(tmp_path / "x.ssv")).frame) == 150


def test_unknown_ones_are_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"is not a source\n.*yfinance.*--plugin FILE"):
        sources.read("yfinanc:SPY")
    with pytest.raises(DataError, match="takes nothing after its name"):
        sources.read("sp500:SPY")

    class Keyed:
        suffixes = (".ssv",)

        class Config(PartConfig):
            pass

        def read(self, argument: str) -> None:
            pass

    with pytest.raises(ConfigError, match="leaves no place for keys"):
        source("keyed")(Keyed)
    with pytest.raises(ConfigError, match="not a class with a method read"):
        source("nothing")(type("Nothing", (), {}))


class Counting:
    """Other bars whenever it is read."""

    times = 0

    def read(self, argument: str) -> pd.DataFrame:
        Counting.times += 1
        frame = sources.read("goog").frame
        return frame.iloc[: len(frame) - Counting.times]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "must give the same bars"),
        ({"read": lambda self, argument: 3}, "gives int, not a table of bars"),
        ({"read": lambda self, argument: pd.DataFrame({"price": [1.0]})}, "no column|close"),
        (
            {
                "read": lambda self, argument: RawTable(sources.read("goog").frame, "a" * 64),
                "digest": lambda self, argument: "b" * 64,
            },
            "digest must be",
        ),
        ({"read": lambda self, argument: sources.read("goog"), "asset": lambda self, argument: " "}, "needs a name"),
    ],
)
def test_the_kit_finds_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    source("tried")(type("Tried", (Counting,), changes))
    with pytest.raises(AssertionError, match=message):
        check_source("tried")
