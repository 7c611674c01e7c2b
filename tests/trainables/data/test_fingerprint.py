import numpy as np

from trainables.data.fingerprint import content_sha256


def digest(bars, daily=None, features=("a", "b"), version=1):
    return content_sha256({"x": bars}, {"x": bars if daily is None else daily}, features, version)


def test_equal_values_have_equal_hashes(make_bars):
    bars = make_bars(n=200)
    assert digest(bars) == digest(bars.copy())
    assert digest(bars) == digest(bars.set_axis(bars.index.astype("datetime64[us]")))  # other unit, same days
    assert digest(bars) == digest(bars * (1 + 1e-16 * np.sign(np.random.default_rng(0).normal(size=bars.shape))))


def test_minus_zero_is_zero(make_bars):
    bars = make_bars(n=200)
    bars.iloc[5, 4] = 0.0
    negative = bars.copy()
    negative.iloc[5, 4] = -0.0
    assert digest(bars) == digest(negative)


def test_every_kind_of_change_moves_the_hash(make_bars):
    bars = make_bars(n=200)
    value, day, shorter, daily = bars.copy(), bars.copy(), bars.iloc[:-1], bars.copy()
    value.iloc[100, 2] *= 1 + 1e-10
    day.index = day.index.where(np.arange(200) != 199, day.index[-1] + np.timedelta64(1, "D"))
    daily.iloc[3, 3] += 0.01
    hashes = {
        digest(bars),
        digest(value),
        digest(day),
        digest(shorter),
        digest(bars, daily),
        digest(bars, features=("a",)),
        digest(bars, features=("b", "a")),
        digest(bars, version=2),
        content_sha256({"y": bars}, {"y": bars}, ("a", "b"), 1),
        content_sha256({"x": bars, "y": bars}, {"x": bars, "y": bars}, ("a", "b"), 1),
    }
    assert len(hashes) == 10


def test_the_order_of_assets_does_not_matter(make_bars):
    one, two = make_bars(n=100, seed=1), make_bars(n=100, seed=2)
    here, there = {"one": one, "two": two}, {"two": two, "one": one}
    assert content_sha256(here, here, (), 1) == content_sha256(there, there, (), 1)
