import numpy as np
import pytest

from trainables.data import representation as module
from trainables.data import scaling
from trainables.data.features import A20, OHLCV
from trainables.errors import DataError


def represent(frame, tier, representation):
    return module.represent(frame, {"a20": A20, "ohlcv": OHLCV}[tier], representation)


def test_z_scores():
    values = np.random.default_rng(0).normal(5, 3, (400, 4)) * [1, 10, 1e6, 1e-6]
    standard = scaling.fit([values[:150], values[150:]], list("abcd"))
    scaled = standard.apply(values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)


def test_every_feature_that_never_changes_is_named():
    values = np.random.default_rng(0).normal(size=(50, 4))
    values[:, 1], values[:, 3] = 0.1, 0.0  # the mean of fifty 0.1 is not exactly 0.1
    with pytest.raises(DataError) as caught:
        scaling.fit([values], ["dema_9", "obv", "adosc", "atr_14"])
    assert [problem.place for problem in caught.value.problems] == ["feature obv", "feature atr_14"]


@pytest.mark.parametrize("representation", ["relative", "raw"])
def test_window_moments_by_hand(make_bars, make_dataset, representation, monkeypatch):
    monkeypatch.setattr(scaling, "_CHUNK_VALUES", 600)  # several chunks, the last one shorter
    frame = make_dataset({"x": make_bars(n=200)}).frame
    data = represent(frame, "ohlcv", representation)
    ends, context = np.array([60, 61, 150, 199, 77, 120, 88]), 30
    moments = scaling.window_moments(data, ends, context)
    for n, end in enumerate(ends):
        x = data.values_TF[end - context + 1 : end + 1]
        np.testing.assert_allclose(moments.mean_NF[n], x.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(moments.std_NF[n], x.std(axis=0), rtol=1e-5)
    end, x = 150, data.values_TF[121:151]
    close, volume = frame["close"][end], frame["volume"][end - 19 : end + 1].mean()
    unit = [close] * 4 + [volume] if representation == "raw" else [1] * 5
    origin = unit if representation == "raw" else [0] * 5
    np.testing.assert_allclose(moments.stats_NS[2, :5], np.log(x.std(axis=0) / unit), rtol=1e-4)
    np.testing.assert_allclose(moments.stats_NS[2, 5:], (x.mean(axis=0) - origin) / unit, rtol=1e-8)


def test_the_running_total_of_volume_has_no_origin(make_bars, make_dataset):
    """OBV counts from the first bar: the same bars after a longer past give the same statistics."""
    frame = make_dataset({"x": make_bars(n=320)}, "a20").frame
    shifted = frame.assign(obv=frame["obv"] + 12345678)
    ends = np.array([280, 300])
    here, there = (scaling.window_moments(represent(part, "a20", "raw"), ends, 20) for part in (frame, shifted))
    np.testing.assert_allclose(there.stats_NS, here.stats_NS, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tier", ["a20", "ohlcv"])
@pytest.mark.parametrize("representation", ["relative", "raw"])
def test_statistics_are_free_of_the_unit_of_price_and_volume(make_bars, make_dataset, tier, representation):
    bars = make_bars(n=400)
    ends = np.arange(300, 400, 7)
    here, there = (
        scaling.window_moments(represent(make_dataset({"x": frame}, tier).frame, tier, representation), ends, 40)
        for frame in (bars, bars * [64, 64, 64, 64, 1 / 8])
    )
    np.testing.assert_allclose(there.stats_NS, here.stats_NS, rtol=1e-5, atol=1e-7)


def test_a_flat_window_has_a_finite_scale(make_bars, make_dataset):
    frame = make_dataset({"x": make_bars(n=320)}, "a20").frame
    data = represent(frame, "a20", "relative")
    moments = scaling.window_moments(data, np.arange(210, 320), 2)  # two days of one week: weekly features are constant
    assert np.isfinite(moments.stats_NS).all()
    assert moments.std_NF.min() == pytest.approx(scaling.SCALE_FLOOR)


def test_statistics_have_names():
    assert scaling.statistic_names(["a", "b"]) == ("log_scale(a)", "log_scale(b)", "level(a)", "level(b)")
