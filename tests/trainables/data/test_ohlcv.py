import logging

import numpy as np
import pandas as pd
import pytest

from trainables.data.ohlcv import load_sources, resample, week_number
from trainables.errors import DataError
from trainables.schema import DataSpec

TIMESCALES = ["2d", "3d", "5d", "weekly", "2wk", "monthly"]


def slow_groups(dates, timescale):
    """Group key of each date by the calendar module, independent of the code under test."""
    if timescale.endswith("d"):
        size = int(timescale[0])
        return [i // size for i in range(len(dates))]
    if timescale == "monthly":
        return [(day.year, day.month) for day in dates]
    mondays = [day - pd.Timedelta(days=day.weekday()) for day in dates]
    if timescale == "weekly":
        return mondays
    return [(monday - pd.Timestamp("1970-01-05")).days // 14 for monday in mondays]


@pytest.mark.parametrize("timescale", TIMESCALES)
@pytest.mark.parametrize("freq", ["B", "D"])
def test_resampled_bars_equal_a_slow_computation(make_bars, timescale, freq):
    bars = make_bars(n=400, freq=freq, start="1969-10-15")  # across the epoch, where the day number changes its sign
    keys = slow_groups(list(bars.index), timescale)
    expected = []
    for key in list(dict.fromkeys(keys)):
        group = bars[[k == key for k in keys]]
        expected.append((group.index[-1], group, key))
    incomplete = len(bars) % int(timescale[0]) != 0 if timescale.endswith("d") else True
    expected = expected[:-1] if incomplete else expected
    result = resample(bars, timescale)
    assert list(result.index) == [date for date, _, _ in expected]
    for (_, row), (_, group, _) in zip(result.iterrows(), expected, strict=True):
        assert row["open"] == group["open"].iloc[0]
        assert row["close"] == group["close"].iloc[-1]
        assert row["high"] == group["high"].max()
        assert row["low"] == group["low"].min()
        assert row["volume"] == group["volume"].sum()


@pytest.mark.parametrize("timescale", TIMESCALES)
def test_later_bars_never_change_an_earlier_resampled_bar(make_bars, timescale):
    bars = make_bars(n=260)
    whole = resample(bars, timescale)
    for n in range(60, 260, 7):
        part = resample(bars.iloc[:n], timescale)
        pd.testing.assert_frame_equal(part, whole.iloc[: len(part)])
        assert (part.index <= bars.index[n - 1]).all()


@pytest.mark.parametrize("timescale", ["weekly", "2wk", "monthly"])
def test_a_calendar_group_is_complete_only_once_a_later_bar_exists(make_bars, timescale):
    bars = make_bars(n=60, start="2021-03-01")  # a Monday and the first of a month
    end = {"weekly": "2021-03-07", "2wk": "2021-03-07", "monthly": "2021-03-31"}[timescale]
    upto = bars[bars.index <= end]
    assert resample(upto, timescale).empty or resample(upto, timescale).index[-1] < upto.index[-1]
    one_more = bars.iloc[: len(upto) + 1]
    assert resample(one_more, timescale).index[-1] == upto.index[-1]


def test_daily_bars_stay_as_they_are(make_bars):
    bars = make_bars(n=50)
    pd.testing.assert_frame_equal(resample(bars, "daily"), bars)


def test_weeks_run_monday_to_sunday():
    days = pd.date_range("2020-12-28", periods=14)  # a Monday, across a year's end
    assert np.unique(week_number(days), return_counts=True)[1].tolist() == [7, 7]


def test_all_shipped_sources_are_sound_and_complete():
    bars = load_sources(DataSpec(source=("sp500", "nasdaq", "goog")))
    assert {name: len(frame) for name, frame in bars.frames.items()} == {"sp500": 5031, "nasdaq": 5031, "goog": 2148}
    assert str(bars.frames["sp500"].index[0].date()) == "1999-01-04"
    assert str(bars.frames["goog"].index[-1].date()) == "2013-03-01"
    assert (bars.frames["nasdaq"]["volume"] == 0).sum() == 2  # single bars without volume are no error
    assert set(bars.source_sha256) == {"sp500", "nasdaq", "goog"}


def test_a_second_source_for_one_asset_is_refused(make_bars, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make_bars().to_csv(tmp_path / folder / "spy.csv")
    with pytest.raises(DataError, match="second source for the asset 'spy'"):
        load_sources(DataSpec(source=(str(tmp_path / "a/spy.csv"), str(tmp_path / "b/spy.csv"))))


def test_problems_of_all_sources_are_reported_together(make_bars, tmp_path):
    bars = make_bars()
    bars.iloc[4, bars.columns.get_loc("volume")] = -1
    bars.to_csv(tmp_path / "one.csv")
    with pytest.raises(DataError) as caught:
        load_sources(DataSpec(source=(str(tmp_path / "one.csv"), str(tmp_path / "two.parquet"), "sp50")))
    places = [problem.place for problem in caught.value.problems]
    assert places == [f"{tmp_path / 'one.csv'}, row 5 (1990-01-05)", str(tmp_path / "two.parquet"), "sp50"]


def test_sorting_is_done_only_when_asked_and_said(make_bars, tmp_path, caplog):
    bars = make_bars(n=200)
    path = tmp_path / "shuffled.csv"
    bars.sample(frac=1, random_state=0).to_csv(path)
    with pytest.raises(DataError, match="earlier than the one before it"):
        load_sources(DataSpec(source=str(path)))
    with caplog.at_level(logging.WARNING):
        loaded = load_sources(DataSpec(source=str(path), sort=True))
    pd.testing.assert_frame_equal(loaded.frames["shuffled"], bars, check_freq=False)
    assert "sorted by date (data.sort)" in caplog.text


def test_sorted_bars_need_no_warning(make_bars, tmp_path, caplog):
    make_bars().to_csv(tmp_path / "in_order.csv")
    load_sources(DataSpec(source=str(tmp_path / "in_order.csv"), sort=True))
    assert not caplog.records
