import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.training import bootstrap
from trainables.training.bootstrap import RESAMPLES, BlockBootstrap, block_length, interval, label_span


def days(n):
    return (np.datetime64("2001-01-01") + np.arange(n)).astype("datetime64[ns]")


def all_counts(resamples):
    return np.concatenate(list(resamples.counts()))


def make(n, *, horizon=1, label="up", series=None, dates=None):
    series = np.zeros(n) if series is None else series
    return BlockBootstrap(days(n) if dates is None else dates, series, horizon=horizon, label=label)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 200), horizon=st.integers(1, 70))
def test_every_resample_holds_as_many_dates_as_there_are(n, horizon):
    counts_RT = all_counts(make(n, horizon=horizon))
    assert counts_RT.shape == (RESAMPLES, n)
    assert (counts_RT >= 0).all()
    assert (counts_RT.sum(axis=1) == n).all()


def test_counts_are_those_of_blocks_laid_out_one_by_one():
    starts_RK, lengths_K, n = np.array([[8, 0, 5], [9, 9, 2]]), np.array([4, 4, 2]), 10
    expected = np.zeros((2, n))
    for row, starts in enumerate(starts_RK):
        for start, length in zip(starts, lengths_K, strict=True):
            for position in range(start, start + length):
                expected[row, position % n] += 1
    assert np.array_equal(bootstrap._circular_counts(starts_RK, lengths_K, n), expected)


def test_neighbours_are_resampled_together():
    counts_RT = all_counts(make(200, horizon=20))
    change = np.abs(np.diff(counts_RT, axis=1)).sum(axis=1)
    assert change.max() <= 2 * 200 / 20  # a block changes the count at its two ends only


def test_resamples_follow_from_dates_horizon_and_label_alone():
    reference = all_counts(make(100, horizon=2))
    other_trial = make(100, horizon=2, dates=days(100)[::-1])
    assert np.array_equal(all_counts(other_trial), reference)
    for changed in (
        make(100, horizon=2, label="down"),
        make(100, horizon=3),
        make(100, horizon=2, dates=days(101)[1:]),
    ):
        assert not np.array_equal(all_counts(changed), reference)


def test_small_pieces_make_the_same_resamples_as_large_ones(monkeypatch):
    values = np.arange(100.0)
    resamples = make(100, horizon=4)
    whole = np.concatenate([resamples.means(counts, values) for counts in resamples.counts()])
    monkeypatch.setattr(bootstrap, "_PIECE", 700)
    assert sum(1 for _ in resamples.counts()) > 100
    small = np.concatenate([resamples.means(counts, values) for counts in resamples.counts()])
    assert small.shape == (RESAMPLES,)
    assert np.allclose(whole, small)


def test_windows_of_several_assets_on_one_date_are_resampled_together():
    dates = np.repeat(days(50), 3)
    resamples = make(150, dates=dates, series=np.arange(150.0))
    assert resamples.n_dates == 50
    counts_RT = next(resamples.counts())
    weights_RN = np.repeat(counts_RT, 3, axis=1)
    values = np.random.default_rng(0).standard_normal(150)
    assert np.allclose(resamples.means(counts_RT, values)[0], weights_RN[0] @ values / weights_RN[0].sum())


def test_a_dependent_series_makes_blocks_longer_than_the_horizon():
    noise = np.random.default_rng(5).standard_normal(2030)
    smooth = np.convolve(noise, np.ones(30) / 30, mode="valid")
    assert block_length(smooth, 1) > 20
    assert block_length(noise, 1) < 10
    assert block_length(noise, 40) == 40


@pytest.mark.parametrize("series", [np.ones(100), np.r_[np.zeros(99), 1.0], np.arange(2.0), np.zeros(1)])
def test_a_degenerate_series_falls_back_to_the_horizon_without_a_warning(series):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert block_length(series, 7) == max(1, min(7, len(series) // 3))


def test_blocks_never_exceed_a_third_of_the_dates():
    assert block_length(np.random.default_rng(0).standard_normal(90), 80) == 30


def test_the_interval_leaves_out_resamples_without_a_value():
    values = np.r_[np.arange(1001.0), np.nan, np.nan]
    assert interval(values) == pytest.approx((25.0, 975.0))
    assert interval(np.full(3, np.nan)) == (None, None)


def coverage(horizon, trials=150, n=400, overlap=10):
    """Share of 95 % intervals that hold the true mean (0) of overlapping sums."""
    random = np.random.default_rng(17)
    resamples = make(n, horizon=horizon)
    counts = list(resamples.counts())
    hits = 0
    for _ in range(trials):
        series = np.convolve(random.standard_normal(n + overlap - 1), np.ones(overlap), mode="valid")
        low, high = interval(np.concatenate([resamples.means(piece, series) for piece in counts]))
        hits += low <= 0 <= high
    return hits / trials


def test_intervals_of_overlapping_windows_cover_the_truth_where_single_dates_do_not():
    assert coverage(horizon=30) > 0.85
    assert coverage(horizon=1) < 0.6


def test_a_label_spans_the_dates_of_other_calendars() -> None:
    dates = np.arange("2000-01-03", "2001-01-01", dtype="datetime64[D]")
    weekdays = dates[np.is_busday(dates)]
    assert label_span(dates, 5) == label_span(weekdays, 5) == 5
    assert label_span(np.concatenate([weekdays, dates]), 5) == 7
    assert label_span(np.concatenate([weekdays, weekdays[40:]]), 5) == 5
    hours = np.arange(dates[0], dates[-1], dtype="datetime64[h]")
    of_day = (hours - hours.astype("datetime64[D]")).astype(int)
    assert label_span(np.concatenate([hours[of_day < 6], hours[(of_day >= 14) & (of_day < 20)]]), 12) == 24
