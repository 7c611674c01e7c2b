"""Bars without volume, opens of zero, and adjusted closes."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data import catalog, ohlcv
from trainables.data.representation import represent
from trainables.errors import DataError
from trainables.schema import DataSpec, RepairSpec

NEED_VOLUME = ("obv", "adosc", "vwap_20")


def written(path: Path, bars: pd.DataFrame) -> str:
    bars.to_csv(path)
    return str(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory, make_bars):
    folder, bars = tmp_path_factory.mktemp("bars"), make_bars(400)
    return {
        "whole": written(folder / "whole.csv", bars),
        "without": written(folder / "without.csv", bars.drop(columns="volume")),
        "zero": written(folder / "zero.csv", bars.assign(volume=0)),
    }


def test_features_that_need_volume_are_left_out_and_the_others_keep_their_values(sources, tmp_path, caplog):
    whole = catalog.load(catalog.prepare(DataSpec(source=sources["whole"]), tmp_path), tmp_path)
    with caplog.at_level(logging.WARNING):
        entry = catalog.prepare(DataSpec(source=sources["without"]), tmp_path)
    assert "volume none; features that need it are left out" in caplog.text
    assert entry.left_out == NEED_VOLUME
    assert set(entry.features) == set(whole.features) - set(NEED_VOLUME)
    loaded = catalog.load(entry, tmp_path)
    pd.testing.assert_frame_equal(loaded.frame[list(entry.features)], whole.frame[list(entry.features)])
    presented = represent(loaded.frame, entry.kinds_of_features, "relative")
    assert presented.complete_T[199:].all()  # as with volume: sma_200


def test_an_asset_without_volume_takes_those_features_from_all(sources, tmp_path):
    entry = catalog.prepare(DataSpec(source=(sources["whole"], sources["zero"]), tier="ohlcv"), tmp_path)
    assert entry.features == ("open", "high", "low", "close")
    assert entry.left_out == ("volume",)


def test_coarser_bars_without_volume_have_none(sources):
    [daily] = ohlcv.load_sources(DataSpec(source=sources["without"])).frames.values()
    assert ohlcv.resample(daily, "weekly")["volume"].isna().all()


def test_opens_of_zero_become_the_close_before_within_the_bar(make_bars, tmp_path):
    bars = make_bars(120)
    broken = bars.copy()
    broken.iloc[[0, 50, 70], 0] = 0.0, np.nan, 0.0
    source = written(tmp_path / "broken.csv", broken)
    with pytest.raises(DataError, match="fill_open"):
        ohlcv.load_sources(DataSpec(source=source))
    [filled] = ohlcv.load_sources(DataSpec(source=source, repair=RepairSpec(fill_open=True))).frames.values()
    expected = bars["open"].copy()
    expected.iloc[0] = bars["close"].iloc[0]
    for row in (50, 70):
        expected.iloc[row] = np.clip(bars["close"].iloc[row - 1], bars["low"].iloc[row], bars["high"].iloc[row])
    np.testing.assert_allclose(filled["open"], expected, rtol=1e-12)


def test_adjusted_closes_scale_all_prices(make_bars, tmp_path):
    bars = make_bars(120)
    ratio = np.where(np.arange(120) < 60, 0.5, 1.0)
    source = written(tmp_path / "split.csv", bars.assign(**{"Adj Close": bars["close"] * ratio}))
    spec = DataSpec(source=source, adjust="ratio")
    loaded = ohlcv.load_sources(spec)
    [adjusted] = loaded.frames.values()
    prices = ["open", "high", "low", "close"]
    np.testing.assert_allclose(adjusted[prices], bars[prices].mul(ratio, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(adjusted["volume"], bars["volume"])
    assert loaded.unused_columns == {}
    assert catalog.name_of(spec) != catalog.name_of(DataSpec(source=source))
    with pytest.raises(DataError, match="needs a column of adjusted closes"):
        ohlcv.load_sources(DataSpec(source=written(tmp_path / "plain.csv", bars), adjust="ratio"))
