"""Bars within a day: moments, trading days, daylight saving, two exchanges, and nothing of the day that goes on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data import catalog, causality, ohlcv, session, tier_registry
from trainables.data.conformance import random_bars
from trainables.data.dataset import MEMBER
from trainables.data.tier_registry import AssetBars
from trainables.data.window_index import index_windows
from trainables.errors import DataError
from trainables.schema import DataSpec, ResolvedTask, SessionSpec

NEW_YORK = SessionSpec(timezone="America/New_York", open="09:30", close="16:00")
TOKYO = SessionSpec(timezone="Asia/Tokyo", open="09:00", close="15:00")
CRYPTO = SessionSpec(timezone="UTC")


def stamps(spec: SessionSpec, first: str, last: str, minutes: int, *, weekends: bool = False) -> pd.DatetimeIndex:
    """Moments in UTC of a session's bars, by the exchange's own clock."""
    length = (spec.close_minute - spec.open_minute) % 1440 or 1440
    days = pd.date_range(first, last, freq="D" if weekends else "B")
    opens = (days + pd.Timedelta(minutes=spec.open_minute)).tz_localize(spec.timezone).tz_convert("UTC")
    found = [one + pd.Timedelta(minutes=step) for one in opens for step in range(0, length, minutes)]
    return pd.DatetimeIndex(found).tz_localize(None).as_unit("ns")


def bars_at(moments: pd.DatetimeIndex, seed: int = 0) -> pd.DataFrame:
    return random_bars(len(moments), seed).set_axis(moments.rename("date"))


def joined(frame: pd.DataFrame, spec: session.Exchange, timescale: str) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    return session.joined(frame, session.Sessions.of(pd.DatetimeIndex(frame.index), spec), timescale)


def written(path: Path, frame: pd.DataFrame, zone: str = "") -> str:
    index = pd.DatetimeIndex(frame.index)
    shown = index.tz_localize("UTC").tz_convert(zone).tz_localize(None) if zone else index
    frame.set_axis(shown.strftime("%Y-%m-%d %H:%M").rename("datetime")).to_csv(path)
    return str(path)


def test_the_hours_of_a_session_move_with_daylight_saving():
    minutes = bars_at(stamps(NEW_YORK, "2021-03-08", "2021-03-19", 30))  # clocks go forward on 2021-03-14
    hours, days = joined(minutes, NEW_YORK, "1h")
    assert [f"{moment:%H:%M}" for moment in hours.index[[0, 35]]] == ["14:30", "13:30"]
    assert days[34] == pd.Timestamp("2021-03-12")
    assert (hours.groupby(days).size().iloc[:-1] == 7).all()
    first = minutes.iloc[:2]
    expected = [first["open"].iloc[0], first["high"].max(), first["low"].min(), first["close"].iloc[1]]
    assert hours.iloc[0].tolist() == [*expected, first["volume"].sum()]
    assert hours["close"].iloc[6] == minutes["close"].iloc[12]  # the last half hour of a day joins no other day


def test_daily_bars_of_sessions_leave_the_last_one_out_and_what_is_outside():
    minutes = bars_at(stamps(NEW_YORK, "2021-11-01", "2021-11-12", 30))
    early = bars_at(minutes.index[:1] - pd.Timedelta(hours=2), seed=1)
    daily, _ = joined(pd.concat([early, minutes]), NEW_YORK, "daily")
    assert daily.index.equals(pd.bdate_range("2021-11-01", "2021-11-11", name="date").as_unit("ns"))
    assert daily["open"].iloc[0] == minutes["open"].iloc[0]
    np.testing.assert_allclose(daily["volume"].iloc[0], minutes["volume"].iloc[:13].sum())


@pytest.mark.parametrize(("day", "hours"), [("2021-03-28", 23), ("2021-10-31", 25)])
def test_a_day_of_24_hours_has_23_or_25_when_clocks_change(day, hours):
    berlin = SessionSpec(timezone="Europe/Berlin")
    start = pd.Timestamp(day) - pd.Timedelta(days=2)
    minutes = bars_at(pd.date_range(start, periods=24 * 6 * 4, freq="10min"))
    found, days = joined(minutes, berlin, "1h")
    assert (days == pd.Timestamp(day)).sum() == hours
    assert (np.diff(found.index) == np.timedelta64(1, "h")).all()


def test_a_session_over_midnight_belongs_to_the_day_on_which_it_ends():
    futures = SessionSpec(timezone="America/Chicago", open="17:00", close="16:00")
    moments = pd.DatetimeIndex(["2021-06-06 22:00", "2021-06-07 20:59", "2021-06-07 21:30", "2021-06-07 22:00"])
    sessions = session.Sessions.of(moments, futures)
    assert [f"{day:%a}" for day in sessions.days] == ["Mon", "Mon", "Mon", "Tue"]
    assert sessions.inside.tolist() == [True, True, False, True]


def test_stamps_of_the_exchange_utc_and_offsets_are_one_moment(tmp_path):
    frame = bars_at(stamps(NEW_YORK, "2021-03-08", "2021-04-16", 60))
    local = written(tmp_path / "local.csv", frame, "America/New_York")
    utc = written(tmp_path / "utc.csv", frame)
    frame.set_axis(pd.DatetimeIndex(frame.index).tz_localize("UTC").tz_convert("America/New_York")).to_parquet(
        tmp_path / "zoned.parquet"
    )
    seconds = frame.set_axis((pd.DatetimeIndex(frame.index).astype("int64") // 10**9).rename("timestamp"))
    seconds.to_csv(tmp_path / "seconds.csv")
    found = [
        ohlcv.load_sources(DataSpec(source=source, session=spec, timescale="1h")).intraday.popitem()[1]
        for source, spec in (
            (local, NEW_YORK),
            (utc, NEW_YORK.model_copy(update={"stamps": "utc"})),
            (str(tmp_path / "zoned.parquet"), NEW_YORK),
            (str(tmp_path / "seconds.csv"), NEW_YORK),
        )
    ]
    for one in found:
        np.testing.assert_array_equal(one.index, frame.index[:-1])
        np.testing.assert_allclose(one, frame.iloc[:-1], rtol=1e-12)


def test_a_wall_clock_time_that_never_was_is_refused(tmp_path):
    frame = bars_at(pd.date_range("2021-03-13", periods=200, freq="h"))
    source = written(tmp_path / "all.csv", frame)  # 2021-03-14 02:00 was skipped in New York
    with pytest.raises(DataError, match="happened twice or never"):
        ohlcv.load_sources(DataSpec(source=source, session=SessionSpec(timezone="America/New_York")))


def test_bars_that_are_coarser_than_the_timescale_are_refused(tmp_path):
    hours = bars_at(stamps(NEW_YORK, "2021-03-08", "2021-04-16", 60))
    source = written(tmp_path / "hours.csv", hours.drop(hours.index[5:40:3]))  # gaps are no distance
    spec = DataSpec(source=source, session=NEW_YORK.model_copy(update={"stamps": "utc"}), timescale="5min")
    with pytest.raises(DataError, match=r"bars are 60 min apart, coarser than 5min, which data\.timescale asks for"):
        ohlcv.load_sources(spec)
    for timescale in ("1h", "4h"):
        ohlcv.load_sources(spec.model_copy(update={"timescale": timescale}))
    daily = written(tmp_path / "daily.csv", bars_at(pd.date_range("2021-01-01", periods=200)))
    with pytest.raises(DataError, match="bars are 1 d apart, coarser than 1h"):
        ohlcv.load_sources(DataSpec(source=daily, calendar={"*": "24/7"}, timescale="1h"))


def test_one_bar_a_session_is_fine_where_a_session_is_no_longer(tmp_path):
    short = SessionSpec(timezone="UTC", open="09:00", close="13:00")
    source = written(tmp_path / "a.csv", bars_at(stamps(short, "2021-01-01", "2021-12-31", 240)))
    ohlcv.load_sources(DataSpec(source=source, session=short, timescale="4h"))
    with pytest.raises(DataError, match="coarser than 2h"):
        ohlcv.load_sources(DataSpec(source=source, session=short, timescale="2h"))


def test_membership_of_bars_within_a_day_goes_by_the_trading_day(tmp_path):
    sydney = SessionSpec(timezone="Australia/Sydney", open="10:00", close="16:00")  # opens at 23:00 UTC in summer
    moments = stamps(sydney, "2019-12-02", "2020-03-20", 60)
    source = written(tmp_path / "syd.csv", bars_at(moments), sydney.timezone or "")
    (tmp_path / "members.csv").write_text("asset,from,to\nsyd,2020-01-06,2020-01-10\n")
    members = str(tmp_path / "members.csv")
    spec = DataSpec(source=source, session=sydney, timescale="1h", tier="ohlcv", members=members)
    frame = catalog.load(catalog.prepare(spec, tmp_path / "data"), tmp_path / "data").frame
    inside = pd.DatetimeIndex(frame.loc[frame[MEMBER], "date"]).tz_localize("UTC").tz_convert(sydney.timezone)
    assert len(inside) == 5 * 6
    assert [f"{one:%m-%d %H}" for one in inside[[0, -1]]] == ["01-06 10", "01-10 15"]


def test_a_timescale_within_a_day_needs_a_session():
    with pytest.raises(ValueError, match=r"needs data\.calendar, .* or data\.session"):
        DataSpec(timescale="1h")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Hourly bars of Tokyo and of a market that never closes, as UTC."""
    root = tmp_path_factory.mktemp("two")
    spec = DataSpec(
        source=(
            written(root / "jp.csv", bars_at(stamps(TOKYO, "2019-01-07", "2021-12-31", 60))),
            written(root / "btc.csv", bars_at(stamps(CRYPTO, "2019-01-07", "2020-06-30", 60, weekends=True), 1)),
        ),
        session=CRYPTO,
        timescale="4h",
    )
    return root, spec, catalog.prepare(spec, root / "data")


def test_assets_of_different_hours_share_one_axis_of_moments(two):
    root, spec, entry = two
    dataset = catalog.load(entry, root / "data")
    index = index_windows(dataset, spec, ResolvedTask(context=20))
    dates = dataset.frame["date"].to_numpy()
    ends = [(dates[part.ends_N - 19].min(), dates[part.ends_N + 1].max()) for part in index.splits.values()]
    assert ends[0][1] < ends[1][0] < ends[1][1] < ends[2][0]  # purged: no context or label reaches over a limit
    assert set(index.splits["train"].assets_N) == {"btc", "jp"}


def test_weekly_features_know_no_day_that_goes_on(two):
    """The tier is proven causal on intraday bars of both assets, and their week is that of finished trading days."""
    root, spec, entry = two
    loaded = ohlcv.load_sources(spec)
    part, config = tier_registry.of_dataset("a20")
    bars = {name: AssetBars(loaded.intraday[name], loaded.frames[name], loaded.days[name]) for name in loaded.frames}
    causality.prove(part, config, bars)

    def peeks(bars: AssetBars, config: object) -> dict[str, tier_registry.Feature]:
        today = bars.daily["close"].reindex(bars.days if bars.days is not None else bars.frame.index)
        return {"today": tier_registry.Feature(today.ffill().to_numpy(), "level")}

    own = tier_registry.TIERS.find(tier_registry.feature_tier("peeks_at_the_day")(peeks))
    try:
        with pytest.raises(DataError, match="looks ahead"):
            causality.prove(own, config, bars)
    finally:
        tier_registry.TIERS._parts.pop("peeks_at_the_day", None)
    frame = catalog.load(entry, root / "data").frame
    btc = frame[frame["asset"] == "btc"].set_index("date")["rsi_weekly"].dropna()
    assert (btc.groupby(pd.DatetimeIndex(btc.index).to_period("W")).nunique() == 1).all()
