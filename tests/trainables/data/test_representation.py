import numpy as np
import pandas as pd
import pytest

from trainables.data import representation as module
from trainables.data.features import A20, OHLCV
from trainables.errors import DataError

TIERS = {"a20": A20, "ohlcv": OHLCV}
TIER_NAMES = list(TIERS)


def represent(frame, tier, representation):
    return module.represent(frame, TIERS[tier], representation)


def column(represented, tier, name):
    return represented.values_TF[:, list(TIERS[tier]).index(name)]


def test_relative_formulas(make_bars, make_dataset):
    frame = make_dataset({"x": make_bars(n=320)}, "a20").frame
    shown = represent(frame, "a20", "relative")
    t = 300
    row, before = frame.iloc[t], frame.iloc[t - 1]
    volume = frame["volume"].iloc[t - 19 : t + 1].mean()
    expected = {
        "dema_9": row["dema_9"] / row["close"] - 1,
        "vwap_20": row["vwap_20"] / row["close"] - 1,
        "atr_14": row["atr_14"] / row["close"],
        "macd_line": row["macd_line"] / row["close"],
        "obv": (row["obv"] - before["obv"]) / volume,
        "adosc": row["adosc"] / volume,
        "rsi_daily": row["rsi_daily"] / 100 - 0.5,
        "stochrsi_weekly": row["stochrsi_weekly"] / 100 - 0.5,
        "adx_14": row["adx_14"] / 100 - 0.5,
        "bb_percent_b": row["bb_percent_b"] - 0.5,
    }
    for name, value in expected.items():
        assert column(shown, "a20", name)[t] == pytest.approx(value, rel=1e-12), name


def test_relative_formulas_of_bars(make_bars, make_dataset):
    frame = make_dataset({"x": make_bars(n=120)}).frame
    shown = represent(frame, "ohlcv", "relative")
    t = 100
    row, before = frame.iloc[t], frame.iloc[t - 1]
    volume = frame["volume"].iloc[t - 19 : t + 1].mean()
    assert column(shown, "ohlcv", "close")[t] == pytest.approx(np.log(row["close"] / before["close"]))
    assert column(shown, "ohlcv", "high")[t] == pytest.approx(row["high"] / row["close"] - 1)
    assert column(shown, "ohlcv", "volume")[t] == pytest.approx(np.log((1 + row["volume"] / volume) / 2))


def test_raw_is_what_the_file_holds(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=320)}, "a20")
    shown = represent(dataset.frame, "a20", "raw")
    np.testing.assert_array_equal(shown.values_TF, dataset.frame[list(dataset.features)].to_numpy())


@pytest.mark.parametrize("tier", TIER_NAMES)
@pytest.mark.parametrize("representation", ["relative", "raw"])
class TestCausality:
    def test_changing_all_rows_after_t_changes_nothing_up_to_t(self, make_bars, make_dataset, tier, representation):
        bars, other = make_bars(n=500), make_bars(n=500, seed=9) * [4, 4, 4, 4, 9]
        expected = represent(make_dataset({"x": bars}, tier).frame, tier, representation)
        for t in (230, 333, 497):
            changed = pd.concat([bars.iloc[: t + 1], other.iloc[t + 1 :]])
            actual = represent(make_dataset({"x": changed}, tier).frame, tier, representation)
            for name in ("values_TF", "unit_TF", "origin_TF"):
                np.testing.assert_array_equal(getattr(actual, name)[: t + 1], getattr(expected, name)[: t + 1])
            assert (actual.values_TF[t + 1] != expected.values_TF[t + 1]).mean() > 0.8  # weekly features wait a week

    def test_truncation_changes_nothing(self, make_bars, make_dataset, tier, representation):
        bars = make_bars(n=500)
        expected = represent(make_dataset({"x": bars}, tier).frame, tier, representation)
        for n in (499, 498, 440, 260):
            actual = represent(make_dataset({"x": bars.iloc[:n]}, tier).frame, tier, representation)
            np.testing.assert_array_equal(actual.values_TF, expected.values_TF[:n])

    def test_an_asset_sees_nothing_of_the_one_before_it(self, make_bars, make_dataset, tier, representation):
        one, two = make_bars(n=300, seed=1), make_bars(n=400, seed=2)
        alone = represent(make_dataset({"two": two}, tier).frame, tier, representation)
        both = represent(make_dataset({"one": one, "two": two}, tier).frame, tier, representation)
        np.testing.assert_array_equal(both.values_TF[300:], alone.values_TF)
        np.testing.assert_array_equal(both.complete_T[300:], alone.complete_T)


@pytest.mark.parametrize("tier", TIER_NAMES)
def test_relative_values_are_free_of_the_unit_of_price_and_volume(make_bars, make_dataset, tier):
    bars = make_bars(n=400)
    here = represent(make_dataset({"x": bars}, tier).frame, tier, "relative")
    there = represent(make_dataset({"x": bars * [64, 64, 64, 64, 1 / 8]}, tier).frame, tier, "relative")
    np.testing.assert_allclose(there.values_TF, here.values_TF, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("tier", "first"), [("a20", 199), ("ohlcv", 19)])
def test_complete_rows_begin_after_the_warm_up(make_bars, make_dataset, tier, first):
    shown = represent(make_dataset({"x": make_bars(n=400)}, tier).frame, tier, "relative")
    assert np.flatnonzero(shown.complete_T)[0] == first
    assert np.isfinite(shown.values_TF[shown.complete_T]).all()
    assert shown.complete_T[first:].all()


@pytest.mark.parametrize("tier", TIER_NAMES)
def test_single_bars_without_volume_stay_finite_and_near_the_others(make_bars, make_dataset, tier):
    bars = make_bars(n=400)
    bars.iloc[[300, 310, 311], bars.columns.get_loc("volume")] = 0
    shown = represent(make_dataset({"x": bars}, tier).frame, tier, "relative")
    assert np.isfinite(shown.values_TF[shown.complete_T]).all()
    if tier == "ohlcv":
        assert column(shown, tier, "volume")[310] == pytest.approx(-np.log(2))


@pytest.mark.parametrize("representation", ["relative", "raw"])
def test_twenty_bars_without_volume_are_refused_with_their_date(make_bars, make_dataset, representation):
    bars = make_bars(n=400)
    bars.iloc[300:320, bars.columns.get_loc("volume")] = 0
    frame = make_dataset({"x": bars}).frame
    with pytest.raises(DataError, match=r"x, bar 320 \(1991-03-22\): volume is not finite"):
        represent(frame, "ohlcv", representation)
