import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from trainables.data.labels import make_labels
from trainables.schema import ResolvedTask
from trainables.tasks.registry import Task


def by_hand(close, high, task, t):
    future = range(t + 1, t + 1 + task.horizon)
    if future[-1] >= len(close):
        return math.nan
    if task.kind == "direction":
        return float(close[future[-1]] > close[t])
    if task.kind == "regression":
        return math.log(close[future[-1]] / close[t])
    config = Task.of(task).config
    price = high if config.price == "high" else close
    return float(any(price[i] >= close[t] * (1 + config.threshold) for i in future))


@pytest.mark.parametrize("horizon", [1, 2, 5, 40, 250])
@pytest.mark.parametrize(
    "task",
    [
        {"kind": "threshold", "price": "high"},
        {"kind": "threshold", "price": "close", "threshold": 0.03},
        {"kind": "direction"},
        {"kind": "regression"},
    ],
)
def test_labels_of_two_assets_equal_their_definition(make_bars, task, horizon):
    task = ResolvedTask(horizon=horizon, **task)
    one, two = make_bars(n=300, seed=1), make_bars(n=180, seed=2)
    long = pd.concat([one.reset_index().assign(asset="one"), two.reset_index().assign(asset="two")], ignore_index=True)
    expected = []
    for bars in (one, two):  # the last bars of the first asset must not look into the second
        close, high = bars["close"].tolist(), bars["high"].tolist()
        expected += [by_hand(close, high, task, t) for t in range(len(bars))]
    np.testing.assert_allclose(make_labels(long, task), expected, rtol=1e-12)
    assert np.isnan(expected).sum() == horizon + min(horizon, 180)


def test_reaching_the_threshold_exactly_counts():
    frame = pd.DataFrame({"close": [100.0, 100.0, 100.0], "high": [100.0, 102.0, 101.99]})
    labels = make_labels(frame, ResolvedTask(threshold=0.02))
    assert labels[:2].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("threshold", "cents"), [("0.01", 10_000), ("0.05", 10_000), ("0.002", 50_000)])
@pytest.mark.parametrize("price", ["high", "close"])
def test_reaching_the_threshold_exactly_counts_at_every_price_and_a_tick_less_does_not(threshold, cents, price):
    closes = [Decimal(number) / 100 for number in range(100, 100 + cents)]
    reached = [close * (1 + Decimal(threshold)) for close in closes]
    for tick, expected in ((Decimal(0), 1.0), (Decimal("0.00001"), 0.0)):
        later = [value - tick for value in reached]
        frame = pd.DataFrame(
            {
                "close": [float(value) for pair in zip(closes, later, strict=True) for value in pair],
                "high": [float(value) for pair in zip(closes, later, strict=True) for value in pair],
            }
        )
        labels = make_labels(frame, ResolvedTask(threshold=float(threshold), price=price))
        assert (labels[::2] == expected).all()


def test_rounding_alone_is_no_rise():
    frame = pd.DataFrame({"close": [0.3, 0.1 + 0.2], "high": [1.0] * 2})
    assert frame["close"].is_monotonic_increasing
    assert frame["close"].nunique() == 2
    assert make_labels(frame, ResolvedTask(kind="direction"))[0] == 0.0


def test_an_unfinished_label_is_missing_even_if_the_threshold_was_already_reached():
    frame = pd.DataFrame({"close": [100.0] * 4, "high": [100.0, 100.0, 100.0, 200.0]})
    assert np.isnan(make_labels(frame, ResolvedTask(horizon=2))[2])


def test_direction_needs_a_rise():
    frame = pd.DataFrame({"close": [100.0, 100.0, 101.0], "high": [101.0] * 3})
    assert make_labels(frame, ResolvedTask(kind="direction"))[:2].tolist() == [0.0, 1.0]


def test_labels_use_nothing_after_the_horizon(make_bars):
    bars = make_bars(n=100)
    task = ResolvedTask(horizon=3)
    before = make_labels(bars, task)
    bars.iloc[54:] *= 5
    after = make_labels(bars, task)
    np.testing.assert_array_equal(before[:51], after[:51])  # bar 50 looks at 51, 52 and 53
    assert after[51] == 1.0
