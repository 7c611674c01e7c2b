"""The optimism of a choice among equals, and of one that is clear."""

import numpy as np
import pytest

from runner.report.analysis.deflation import of_resamples

DAYS, TRIALS, RESAMPLES = 200, 20, 400


def played(means_K: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses of trials on one period, and under resamples of its days; what the trials share cancels out."""
    rng = np.random.default_rng(seed)
    daily_DK = means_K + 0.2 * rng.normal(size=(DAYS, 1)) + 0.1 * rng.normal(size=(DAYS, len(means_K)))
    drawn_RD = rng.integers(DAYS, size=(RESAMPLES, DAYS))
    return daily_DK.mean(axis=0), daily_DK[drawn_RD].mean(axis=1)


def test_the_best_of_equals_is_put_back_near_their_mean() -> None:
    gaps, naive = [], []
    for seed in range(10):
        losses_K, resampled_RK = played(np.full(TRIALS, 0.5), seed)
        found = of_resamples(losses_K, resampled_RK)
        gaps.append(found.value - losses_K.mean())
        naive.append(losses_K.min() - losses_K.mean())
        assert found.low < found.value < found.high
        assert found.n_trials == TRIALS
    assert np.mean(naive) < -0.01
    assert abs(np.mean(gaps)) < 0.4 * abs(np.mean(naive))


def test_a_clear_winner_is_left_where_it_is() -> None:
    losses_K, resampled_RK = played(np.array([0.2, *np.full(TRIALS - 1, 0.5)]), 0)
    assert of_resamples(losses_K, resampled_RK).optimism == pytest.approx(0, abs=0.002)
