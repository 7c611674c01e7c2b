import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.training.batches import BATCHES, interval, leave_one_out


def days(n):
    return (np.datetime64("2001-01-01") + np.arange(n)).astype("datetime64[ns]")


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 300), assets=st.integers(1, 3))
def test_each_date_is_left_out_once_and_batches_are_consecutive_and_alike(n, assets):
    weight_RN = leave_one_out(np.repeat(days(n), assets))
    assert weight_RN.shape == (1 + min(n, BATCHES), n * assets)
    assert (weight_RN[0] == 1).all()
    left_out_KN = weight_RN[1:] == 0
    assert (left_out_KN.sum(axis=0) == 1).all()
    batch_N = left_out_KN.argmax(axis=0)
    assert (np.diff(batch_N) >= 0).all()
    assert all(len(set(batch)) == 1 for batch in batch_N.reshape(n, assets))
    sizes = np.bincount(batch_N) / assets
    assert sizes.max() - sizes.min() <= 1


def test_the_interval_of_a_mean_is_that_of_batch_means():
    values = np.random.default_rng(3).standard_normal(800)
    weight_RN = leave_one_out(days(800))
    low, high = interval(weight_RN @ values / weight_RN.sum(axis=1))
    batch_means = values.reshape(BATCHES, 100).mean(axis=1)
    reach = 2.364624 * batch_means.std(ddof=1) / np.sqrt(BATCHES)  # Student's t with 7 degrees of freedom, a table
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_an_interval_that_is_unknown_is_none():
    assert interval(np.array([0.5, 0.4])) == (None, None)
    assert interval(np.array([0.5, 0.4, np.nan, 0.6])) == (None, None)
    assert interval(np.array([0.5])) == (None, None)


def test_an_interval_is_cut_at_the_values_that_are_possible():
    values = np.array([0.95, 0.9, 0.99, 0.97])
    assert interval(values, (0.0, 1.0))[1] == 1.0 < interval(values)[1]


def coverage(persistence, trials=400, n=665):
    """Share of intervals that hold the true mean (0) of a series whose neighbours resemble each other."""
    random = np.random.default_rng(17)
    weight_RN = leave_one_out(days(n))
    hits = 0
    for _ in range(trials):
        noise, series = random.standard_normal(n + 300), np.empty(n + 300)
        series[0] = noise[0]
        for t in range(1, n + 300):
            series[t] = persistence * series[t - 1] + noise[t]
        low, high = interval((weight_RN @ series[300:]) / weight_RN.sum(axis=1))
        hits += low <= 0 <= high
    return hits / trials


@pytest.mark.parametrize(("persistence", "least"), [(0.0, 0.92), (0.9, 0.91), (0.97, 0.84)])
def test_intervals_hold_the_truth_though_neighbours_are_alike(persistence, least):
    assert coverage(persistence) >= least
