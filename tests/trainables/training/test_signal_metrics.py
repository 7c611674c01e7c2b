"""Metrics of signals, calibration and ranks: held against scikit-learn and SciPy, and chosen on validation alone."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, f1_score, fbeta_score, log_loss, precision_score, recall_score

from trainables.schema import MetricSpec
from trainables.training import metric_registry
from trainables.training.calibration import bins, brier_parts, expected_error
from trainables.training.metric_registry import MetricWindows, value_of

RANDOM = np.random.default_rng(5)
N = 600
LOGITS = RANDOM.normal(size=N)
LABELS = (expit(2 * LOGITS - 1) > RANDOM.random(N)).astype(float)  # a slope of 2 and a shift that logits do not know
OTHER_LOGITS = RANDOM.normal(size=N)
OTHER = (expit(2 * OTHER_LOGITS - 1) > RANDOM.random(N)).astype(float)
DATES = np.datetime64("2020-01-01", "ns") + np.arange(N) // 6 * np.timedelta64(1, "D")
ASSETS = np.array([f"asset{number % 6}" for number in range(N)])


def value(name: str, labels: Any = OTHER, outputs: Any = OTHER_LOGITS, **config: Any) -> float:
    windows = MetricWindows(DATES, ASSETS, (LABELS, LOGITS))
    return value_of(MetricSpec.model_validate({"name": name, **config}), labels, outputs, windows)


def test_at_a_given_threshold_numbers_are_scikit_learns() -> None:
    signal = expit(OTHER_LOGITS) >= 0.6
    assert value("precision", threshold=0.6) == pytest.approx(precision_score(OTHER, signal))
    assert value("recall", threshold=0.6) == pytest.approx(recall_score(OTHER, signal))
    assert value("f_beta", threshold=0.6, beta=2) == pytest.approx(fbeta_score(OTHER, signal, beta=2))
    assert value("lift", threshold=0.6) == pytest.approx(precision_score(OTHER, signal) / OTHER.mean())
    assert value("signals", threshold=0.6) == pytest.approx(1000 * signal.mean())


def test_a_threshold_is_chosen_on_validation_and_applied_elsewhere() -> None:
    best = max(np.unique(LOGITS), key=lambda limit: f1_score(LABELS, limit <= LOGITS))
    assert value("f_beta") == pytest.approx(f1_score(OTHER, best <= OTHER_LOGITS))
    top = np.quantile(LOGITS, 0.9)
    assert value("precision", top=0.1) == pytest.approx(OTHER[top <= OTHER_LOGITS].mean())
    flipped = value("f_beta", labels=1 - OTHER)
    assert flipped == pytest.approx(f1_score(1 - OTHER, best <= OTHER_LOGITS)), "test labels move no threshold"


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_on_validation_helps_elsewhere(method: str) -> None:
    loss = log_loss(OTHER, expit(OTHER_LOGITS))
    assert value("calibrated_loss", method=method) < loss - 0.05
    assert value("calibrated_brier", method=method) < brier_score_loss(OTHER, expit(OTHER_LOGITS)) - 0.01
    assert value("ece", calibrate=method) < value("ece") - 0.05
    assert value("brier_reliability", calibrate=method) < value("brier_reliability") / 2


def test_the_brier_score_is_the_sum_of_its_parts() -> None:
    steps = np.repeat([-2.0, -0.5, 0.3, 1.0, 2.0], N // 5)  # outputs of a bin are equal: then the sum is exact
    labels = (expit(steps) > RANDOM.random(N)).astype(float)
    parts = brier_parts(steps, labels, 5)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    assert total == pytest.approx(brier_score_loss(labels, expit(steps)))


def test_equal_probabilities_are_in_one_bin_whatever_their_order() -> None:
    labels = np.repeat([0.0, 1.0], 500)
    assert expected_error(np.zeros(1000), labels, 10) == 0
    assert brier_parts(np.zeros(1000), labels, 10) == {"reliability": 0, "resolution": 0, "uncertainty": 0.25}
    steps = np.repeat([-1.0, 0.0, 2.0], [130, 450, 420])
    share_G, mean_G, rate_G = bins(steps, labels, 10)
    assert share_G == pytest.approx([0.13, 0.45, 0.42]), "bins end where a run of equal probabilities does"
    assert mean_G == pytest.approx(expit([-1.0, 0.0, 2.0]))
    assert rate_G == pytest.approx([0, 80 / 450, 1])


def test_bins_without_ties_are_of_equal_count() -> None:
    order = np.argsort(OTHER_LOGITS)
    parts = np.array_split(order, 7)
    expected = [[len(part) / N, expit(OTHER_LOGITS)[part].mean(), OTHER[part].mean()] for part in parts]
    np.testing.assert_array_equal(np.array(bins(OTHER_LOGITS, OTHER, 7)).T, expected)


def test_ranks_are_correlated_date_by_date() -> None:
    values = OTHER_LOGITS + 3 * RANDOM.normal(size=N) + np.repeat(RANDOM.normal(size=N // 6) * 50, 6)
    by_date = [spearmanr(OTHER_LOGITS[i : i + 6], values[i : i + 6]).statistic for i in range(0, N, 6)]
    assert value("rank_ic", labels=values) == pytest.approx(np.mean(by_date))
    assert value("rank_ic_t", labels=values) == pytest.approx(np.mean(by_date) / (np.std(by_date, ddof=1) / 10))


def test_values_are_held_against_zero() -> None:
    labels = np.array([0.1, -0.2, 0.3, 0.0])
    assert value("r2", labels=labels, outputs=np.zeros(4)) == 0
    assert value("r2", labels=labels, outputs=labels) == 1
    assert value("directional_accuracy", labels=labels, outputs=np.array([1, 1, 1, 1])) == pytest.approx(2 / 3)


def test_metrics_have_no_value_for_other_outcomes() -> None:
    for name in ("precision", "ece", "calibrated_loss", "brier_uncertainty"):
        assert np.isnan(value(name, labels=OTHER + 0.5))
    for name in ("r2", "directional_accuracy"):
        assert np.isnan(value(name))


def test_a_metric_may_be_named_twice_with_labels() -> None:
    asked = [MetricSpec(name="precision", top=0.1, label="top10"), MetricSpec(name="precision", top=0.2)]  # type: ignore[call-arg]
    assert [MetricSpec.model_validate(one.model_dump(mode="json")) for one in asked] == asked
    table = {
        "date": np.tile(DATES, 2),
        "asset": np.tile(ASSETS, 2),
        "split": np.repeat(["validation", "test"], N),
        "label": np.r_[LABELS, OTHER],
        "logit": np.r_[LOGITS, OTHER_LOGITS],
    }
    found = metric_registry.of_table(asked, table)
    assert found["metric:test_top10"] == pytest.approx(value("precision", top=0.1))
    assert found["metric:test_precision"] == pytest.approx(value("precision", top=0.2))
    low, high = found["metric:test_top10_low"], found["metric:test_top10_high"]
    assert low is not None
    assert high is not None
    assert low < found["metric:test_top10"] < high
