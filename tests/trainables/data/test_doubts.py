"""Bars to be looked at: steps of the level, prices far off, bars that repeat each other, days without a session."""

from pathlib import Path

import pandas as pd
import pytest

from tests.trainables.data.test_barfile import BARS
from trainables.data import ohlcv
from trainables.data.calendars import Calendar
from trainables.data.doubts import doubts
from trainables.data.inspection import inspect
from trainables.schema import DataSpec


def changed(rows: slice, columns: slice, factor: float) -> pd.DataFrame:
    table = BARS.copy()
    table.iloc[rows, columns] *= factor
    return table


PRICES, HIGH, LOW, CLOSE = slice(0, 4), slice(1, 2), slice(2, 3), slice(3, 4)
CASES = {
    "split": (changed(slice(70, None), PRICES, 1 / 20), [("jump", 70, "to 1/20")]),
    "reverse split": (changed(slice(70, None), PRICES, 10), [("jump", 70, "to 10 times")]),
    "pence": (changed(slice(50, 60), PRICES, 100), [("jump", 50, "to 100 times"), ("jump", 60, "to 1/100")]),
    "a day of pence": (changed(slice(50, 51), PRICES, 100), [("outlier", 50, "a close of")]),
    "two days at half the price": (changed(slice(70, 72), PRICES, 0.5), []),
    "a high": (changed(slice(30, 31), HIGH, 4), [("outlier", 30, "a high of")]),
    "a low": (changed(slice(30, 31), LOW, 0.1), [("outlier", 30, "a low of")]),
    "a crash": (changed(slice(70, None), PRICES, 0.78), []),
    "repeated": (BARS.iloc[[*range(40), *[40] * 5, *range(45, 120)]].set_axis(BARS.index),
                 [("stale_run", 40, "5 equal bars, to ")]),
    "repeated by chance": (BARS.iloc[[*range(40), *[40] * 4, *range(44, 120)]].set_axis(BARS.index), []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_findings_have_their_dates(case: str) -> None:
    table, expected = CASES[case]
    found = list(doubts(table, "spy"))
    assert [(one.kind, pd.Timestamp(one.day)) for one in found] == [(kind, BARS.index[at]) for kind, at, _ in expected]
    for one, (_, _, words) in zip(found, expected, strict=True):
        assert words in str(one)
        assert str(one).startswith(f"{one.day} spy: ")


@pytest.mark.parametrize("source", ["sp500", "nasdaq", "goog"])
def test_real_bars_raise_no_doubt(source: str) -> None:
    [(asset, frame)] = ohlcv.load_sources(DataSpec(source=source)).frames.items()
    assert [str(one) for one in doubts(frame, asset, Calendar("XNYS"))] == []


def test_inspect_names_them_by_kind(tmp_path: Path) -> None:
    changed(slice(70, None), PRICES, 0.5).to_csv(tmp_path / "a.csv")
    [step] = inspect(str(tmp_path / "a.csv"), DataSpec()).doubts
    assert step.startswith("the price level steps")
    assert f"{BARS.index[70]:%Y-%m-%d} a: to 1/2" in step
    spec = DataSpec(calendar="XNYS")
    days = inspect(str(tmp_path / "a.csv"), spec).doubts[1]
    assert "2018-02-19 a: a bar, and XNYS was closed" in days
    BARS.drop(pd.to_datetime(["2018-02-19", "2018-03-30", "2018-05-28", "2018-07-04", "2018-03-07"])).to_csv(
        tmp_path / "b.csv"
    )
    [days] = inspect(str(tmp_path / "b.csv"), spec).doubts
    assert days.endswith(": 2018-03-07 b: no bar, and XNYS was open")
