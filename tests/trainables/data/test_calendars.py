"""Calendars of exchanges: holidays, half days, breaks, changes of clocks, and which missing days are gaps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.trainables.data.test_session import bars_at, joined, written
from trainables.data import catalog, ohlcv
from trainables.data.calendars import Calendar
from trainables.errors import DataError
from trainables.schema import DataSpec

NEW_YORK, TOKYO, ALWAYS = Calendar("XNYS"), Calendar("XTKS"), Calendar("24/7")


def every_minute(first: str, last: str, minutes: int = 30) -> pd.DataFrame:
    return bars_at(pd.date_range(first, last, freq=f"{minutes}min"))


def test_daily_bars_of_minutes_are_those_of_the_exchanges_sessions() -> None:
    """Thanksgiving 2021 was closed, the day after ended at 13:00; clocks had gone back on 2021-11-07."""
    whole = every_minute("2021-11-04", "2021-11-30")
    daily, _ = joined(whole, NEW_YORK, "daily")
    days = daily.index
    assert pd.Timestamp("2021-11-25") not in days
    assert len(days) == len(pd.bdate_range("2021-11-04", "2021-11-28")) - 1  # the last session may still go on
    for day, opened, closed in [
        ("2021-11-05", "13:30", "20:00"),
        ("2021-11-08", "14:30", "21:00"),
        ("2021-11-26", "14:30", "18:00"),
    ]:
        of_day = whole[f"{day} {opened}" : f"{day} {closed}"].iloc[:-1]
        expected = [of_day["open"].iloc[0], of_day["high"].max(), of_day["low"].min(), of_day["close"].iloc[-1]]
        assert daily.loc[day].tolist()[:4] == expected
        np.testing.assert_allclose(daily.loc[day, "volume"], of_day["volume"].sum())


def test_a_market_that_never_closes_has_every_day_and_a_break_no_bar() -> None:
    whole = every_minute("2021-03-12", "2021-03-16")
    assert len(joined(whole, ALWAYS, "daily")[0]) == 4
    hours, days = joined(whole, TOKYO, "1h")
    of_day = hours[days == "2021-03-15"]
    assert [f"{moment:%H:%M}" for moment in of_day.index] == ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00"]
    first_half_hour = whole.loc["2021-03-15 02:00"]  # the break begins at 02:30 UTC and ends at 03:30
    assert of_day.iloc[2].tolist() == pytest.approx(first_half_hour.tolist())


def test_a_missing_session_is_a_gap_and_a_holiday_is_none() -> None:
    schedule = NEW_YORK.schedule(pd.Timestamp("2001-08-01"), pd.Timestamp("2001-12-31"))
    days = pd.DatetimeIndex(schedule["2001-08-01":"2001-12-31"].index)
    assert len(NEW_YORK.missing(days)) == 0  # closed from 2001-09-11 to 09-14
    assert NEW_YORK.missing(days.delete([10, 11])).tolist() == days[[10, 11]].tolist()
    assert NEW_YORK.closed(days.append(pd.DatetimeIndex(["2001-12-25"]))).tolist() == [pd.Timestamp("2001-12-25")]
    far = pd.DatetimeIndex(["2090-01-02", "2090-01-04"])  # Shanghai's holidays are not known so far ahead
    assert len(Calendar("XSHG").missing(far)) == len(Calendar("XSHG").closed(far)) == 0
    assert TOKYO.missing(days)[0] == pd.Timestamp("2001-09-03")  # Labor Day in New York


def test_two_assets_of_different_calendars_from_one_sweep(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = every_minute("2021-03-01", "2021-04-30")
    sources = tuple(written(tmp_path / name, whole) for name in ("spy.csv", "btc.csv"))
    spec = DataSpec(source=sources, calendar={"btc": "24/7", "*": "XNYS"}, session={"stamps": "utc"})
    loaded = ohlcv.load_sources(spec)
    assert len(loaded.frames["btc"]) == 60
    assert loaded.frames["spy"].equals(joined(whole, NEW_YORK, "daily")[0][loaded.frames["spy"].columns])
    assert "bars are outside the sessions and left out" in caplog.text
    hourly = ohlcv.load_sources(spec.model_copy(update={"timescale": "1h"}))
    assert (hourly.intraday["spy"].groupby(hourly.days["spy"]).size().iloc[:-1] == 7).all()
    assert f"{hourly.intraday['spy'].index[0]:%H:%M}" == "14:30"


def test_calendars_of_daily_bars_change_no_bar(tmp_path: Path) -> None:
    plain, known = (ohlcv.load_sources(DataSpec(calendar=one)) for one in ({}, "XNYS"))
    assert known.frames["sp500"].equals(plain.frames["sp500"])


@pytest.mark.parametrize(
    ("calendar", "says"), [("NYES", "'NYES' is no calendar"), ("XSHG", "the calendar XSHG knows no session")]
)
def test_a_calendar_that_is_not_known_or_not_of_these_years(calendar: str, says: str, tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", every_minute("2040-03-01", "2040-04-30"))
    with pytest.raises(DataError, match=says):
        ohlcv.load_sources(DataSpec(source=source, calendar=calendar, timescale="1h"))


def test_which_zone_stamps_have_is_said_once() -> None:
    with pytest.raises(ValueError, match=r"data\.session\.timezone is needed"):
        DataSpec(session={"stamps": "utc"})
    with pytest.raises(DataError, match="when it is traded is not said"):
        ohlcv.load_sources(DataSpec(calendar={"nasdaq": "XNYS"}, timescale="1h"))
    with pytest.raises(ValueError, match=r"data\.format\.timezone is for daily bars"):
        DataSpec(calendar="XNYS", timescale="1h", format={"timezone": "UTC"})


@pytest.fixture(scope="module")
def whole_year() -> dict[str, pd.DataFrame]:
    """Half-hourly bars of every hour, with a column of its own, of two assets; and a daily series."""
    moments = pd.date_range("2020-01-01", "2020-12-31", freq="30min")
    found = {
        name: bars_at(moments, seed).assign(mood=np.sin(np.arange(len(moments)))) for seed, name in enumerate("ab")
    }
    days = pd.date_range("2019-12-01", "2020-12-31")
    found["vix"] = pd.DataFrame({"close": 20 + np.cos(np.arange(len(days)))}, index=days.rename("date"))
    return found


def prepared(tables: dict[str, pd.DataFrame], root: Path) -> pd.DataFrame:
    root.mkdir()
    for name in ("a", "b"):
        written(root / f"{name}.csv", tables[name])
    tables["vix"].to_csv(root / "vix.csv")
    spec = DataSpec(
        source=(str(root / "a.csv"), str(root / "b.csv")),
        calendar={"a": "XNYS", "b": "XTKS"},
        session={"stamps": "utc"},
        timescale="1h",
        features={"columns": "mood"},
        context={"vix": {"source": str(root / "vix.csv")}},
    )
    return catalog.load(catalog.prepare(spec, root / "data"), root / "data").frame


@pytest.mark.parametrize("moment", ["2020-10-13 03:00", "2020-11-06 19:30"])
def test_nothing_before_a_moment_follows_from_what_came_after(
    moment: str, whole_year: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    """Tier, own column and context of two assets with different sessions, one of them with its day over."""
    cut = pd.Timestamp(moment)
    later = {}
    for name, table in whole_year.items():
        changed = table.copy()
        changed.loc[changed.index >= cut] *= 1.5
        if name == "vix":  # a day's value is known when it is over
            changed = table.copy()
            changed.loc[changed.index >= cut.normalize()] *= 1.5
        later[name] = changed
    before, after = prepared(whole_year, tmp_path / "before"), prepared(later, tmp_path / "after")
    assert before[["date", "asset"]].equals(after[["date", "asset"]])
    done = before["date"] + pd.Timedelta(hours=1) <= cut
    assert set(before.loc[done, "asset"]) == {"a", "b"}
    values = [column for column in before.columns if column not in ("date", "asset")]
    assert {"mood", "vix", "rsi_weekly"} <= set(values)
    pd.testing.assert_frame_equal(before.loc[done, values], after.loc[done, values], rtol=1e-12)
    assert (before.loc[~done, values] != after.loc[~done, values]).any().all()
