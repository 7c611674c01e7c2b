import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from trainables.schema import ResolvedTask
from trainables.training.batches import BATCHES
from trainables.training.metrics import Intervals, Prior, Scorer, Scores, is_collapsed

RANDOM = np.random.default_rng(8)
PRIOR = Prior(0.3, 0.21)
REGRESSION = ResolvedTask(kind="regression", context=20)


def days(n):
    return (np.datetime64("2001-01-01") + np.arange(n)).astype("datetime64[ns]")


def scorer_of(labels, *, task=None, prior=PRIOR, dates=None):
    labels = np.asarray(labels, dtype=float)
    return Scorer(labels, days(len(labels)) if dates is None else dates, task=task or ResolvedTask(), prior=prior)


def sample(n=700, strength=1.0):
    labels = (RANDOM.random(n) < 0.3).astype(float)
    return labels, strength * (labels - 0.3) + 0.5 * RANDOM.standard_normal(n) - 0.85


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
def test_numbers_agree_with_scikit_learn_also_with_ties(pairs):
    logits, labels = np.array([float(z) / 2 for z, _ in pairs]), np.array([float(y) for _, y in pairs])
    scores = scorer_of(labels).scores(logits)
    probability = 1 / (1 + np.exp(-logits))
    assert scores.auc == pytest.approx(roc_auc_score(labels, logits))
    assert scores.ap == pytest.approx(average_precision_score(labels, logits))
    assert scores.brier == pytest.approx(brier_score_loss(labels, probability))
    assert scores.loss == pytest.approx(log_loss(labels, probability))
    assert scores.spread == pytest.approx(probability.std())


def test_the_prior_is_that_of_training_and_the_splits_own_rate_stands_beside_it():
    labels = np.array([1.0] * 60 + [0.0] * 40)
    scores = scorer_of(labels).scores(np.zeros(100))
    assert scores.prior_loss == pytest.approx(-(0.6 * math.log(0.3) + 0.4 * math.log(0.7)))
    assert scores.own_rate_loss == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)))
    assert scores.skill == pytest.approx(1 - math.log(2) / scores.prior_loss)


def test_the_prior_itself_has_no_skill_and_is_collapsed():
    labels, _ = sample()
    scorer = scorer_of(labels)
    logits = np.full(len(labels), math.log(0.3 / 0.7))
    scores, intervals = scorer.scores(logits), scorer.intervals(logits)
    assert scores.skill == pytest.approx(0, abs=1e-12)
    assert scores.auc == 0.5
    assert (intervals.auc_low, intervals.auc_high) == (0.5, 0.5)
    assert is_collapsed(scores, intervals)


def test_a_sure_logit_does_not_overflow():
    scores = scorer_of([1.0, 0.0, 1.0]).scores([1e4, -1e4, -1e4])
    assert scores.loss == pytest.approx(1e4 / 3)


def test_one_class_alone_has_no_ranking():
    scorer = scorer_of(np.zeros(50))
    scores, intervals = scorer.scores(RANDOM.standard_normal(50)), scorer.intervals(RANDOM.standard_normal(50))
    assert scores.auc is scores.ap is None
    assert intervals.auc_low is intervals.auc_high is None
    assert intervals.loss_low < intervals.loss_high


def test_intervals_hold_the_numbers_and_narrow_with_data():
    widths = []
    for n in (300, 2700):
        labels, logits = sample(n)
        scorer = scorer_of(labels)
        scores, found = scorer.scores(logits), scorer.intervals(logits)
        assert found.loss_low < scores.loss < found.loss_high
        assert found.auc_low < scores.auc < found.auc_high
        assert found.ap_low < scores.ap < found.ap_high
        assert found.brier_low < scores.brier < found.brier_high
        assert found.skill_low < scores.skill < found.skill_high
        widths.append(found.loss_high - found.loss_low)
    assert 1.5 < widths[0] / widths[1] < 6  # three, were there no noise


@pytest.mark.parametrize("name", ["loss", "skill", "auc", "ap", "brier"])
def test_an_interval_is_the_jackknife_over_batches_of_dates(name):
    labels, logits = sample(160)
    scorer = scorer_of(labels)
    whole = getattr(scorer.scores(logits), name)
    left_out = []
    for batch in np.array_split(np.arange(160), BATCHES):
        kept = np.setdiff1d(np.arange(160), batch)
        left_out.append(getattr(scorer_of(labels[kept]).scores(logits[kept]), name))
    error = np.sqrt((BATCHES - 1) * np.var(left_out))
    reach = student_t.ppf(0.975, BATCHES - 1) * error
    intervals = scorer.intervals(logits)
    assert getattr(intervals, f"{name}_low") == pytest.approx(whole - reach)
    assert getattr(intervals, f"{name}_high") == pytest.approx(whole + reach)


def test_an_interval_ends_where_its_number_can_not_go():
    labels = np.r_[np.zeros(90), np.ones(10)][RANDOM.permutation(100)]
    logits = 4 * labels - 2 + RANDOM.standard_normal(100)
    intervals = scorer_of(labels).intervals(logits)
    assert intervals.auc_high == intervals.ap_high == 1.0
    assert intervals.brier_low >= 0.0
    assert intervals.skill_high <= 1.0


def test_a_class_that_lies_in_one_batch_alone_leaves_the_ranking_without_an_interval():
    labels = np.zeros(400)
    labels[:20] = 1.0
    logits = RANDOM.standard_normal(400)
    intervals = scorer_of(labels).intervals(logits)
    assert scorer_of(labels).scores(logits).auc is not None
    assert intervals.auc_low is intervals.auc_high is None
    assert intervals.loss_low < intervals.loss_high


def test_differences_between_trials_are_paired():
    labels, logits = sample()
    first = scorer_of(labels).intervals(logits)
    # The same predictions, scored as another trial would: another training split, hence another prior.
    second = scorer_of(labels, prior=Prior(0.4, 0.24)).intervals(logits)
    assert (first.loss_low, first.loss_high) == (second.loss_low, second.loss_high)
    assert (first.auc_low, first.auc_high) == (second.auc_low, second.auc_high)


def test_order_of_windows_does_not_matter():
    labels, logits = sample(200)
    dates = np.repeat(days(100), 2)
    order = RANDOM.permutation(200)
    sorted_, shuffled = (
        scorer_of(labels[rows], dates=dates[rows]).intervals(logits[rows]) for rows in (np.arange(200), order)
    )
    assert sorted_.loss_low == pytest.approx(shuffled.loss_low)
    assert sorted_.auc_high == pytest.approx(shuffled.auc_high)


def test_worse_than_the_prior_beyond_doubt_is_collapsed_and_a_skilled_model_is_not():
    labels, logits = sample(strength=2.0)
    scorer = scorer_of(labels)
    assert not is_collapsed(scorer.scores(logits), scorer.intervals(logits))
    wrong = -2 * logits
    assert scorer.scores(wrong).spread > 0.01
    assert is_collapsed(scorer.scores(wrong), scorer.intervals(wrong))


@pytest.mark.parametrize(
    ("spread", "skill_high", "expected"), [(0.0099, 0.1, True), (0.01, 0.0, False), (0.2, -1e-6, True)]
)
def test_the_limits_of_collapse(spread, skill_high, expected):
    scores = Scores(loss=1, prior_loss=1, own_rate_loss=1, skill=0, spread=spread, auc=0.5, ap=0.5, brier=0.2)
    names = [f"{name}_{end}" for name in ("loss", "auc", "ap", "brier", "skill") for end in ("low", "high")]
    intervals = Intervals(**(dict.fromkeys(names, 0.0) | {"skill_low": -1, "skill_high": skill_high}))
    assert is_collapsed(scores, intervals) is expected


def test_regression_is_the_gaussian_likelihood_of_the_standardised_label():
    prior, labels = Prior(0.002, 0.0001), 0.01 * RANDOM.standard_normal(400)
    means, variance = 0.3 * labels, 0.00007
    scorer = scorer_of(labels, task=REGRESSION, prior=prior)
    scores = scorer.scores(means, variance)
    raw = np.mean(0.5 * np.log(2 * np.pi * variance) + (labels - means) ** 2 / (2 * variance))
    assert scores.loss == pytest.approx(raw - math.log(0.01))  # a density in units of the training deviation
    raw_prior = np.mean(0.5 * np.log(2 * np.pi * 0.0001) + (labels - 0.002) ** 2 / 0.0002)
    assert scores.prior_loss == pytest.approx(raw_prior - math.log(0.01))
    assert scores.own_rate_loss < scores.prior_loss
    assert scores.auc is scores.ap is scores.brier is None
    assert scores.spread == pytest.approx(0.3)


def test_a_better_regression_has_more_skill_though_returns_are_tiny():
    labels = 0.01 * RANDOM.standard_normal(500)
    scorer = scorer_of(labels, task=REGRESSION, prior=Prior(0.0, 0.0001))
    none, some, much = (
        scorer.scores(share * labels, float(np.mean((labels - share * labels) ** 2))) for share in (0.0, 0.3, 0.6)
    )
    assert none.skill < some.skill < much.skill
    assert none.skill == pytest.approx(0, abs=0.01)
    assert is_collapsed(none, scorer.intervals(0.0 * labels, 0.0001))
