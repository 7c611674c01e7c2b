import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from runner.planning import data_statistics


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_auc_is_that_of_scikit_learn_in_the_better_direction(random) -> None:
    values = np.round(random.normal(size=(400, 3)), 1)  # rounded: there are ties
    positive = random.random(400) < 0.3
    values[positive, 1] -= 1.0
    expected = [roc_auc_score(positive, column) for column in values.T]
    assert data_statistics.single_auc(values, positive) == pytest.approx([max(auc, 1 - auc) for auc in expected])


def test_one_class_is_predicted_by_nothing(random) -> None:
    assert data_statistics.single_auc(random.normal(size=(50, 2)), np.zeros(50, dtype=bool)).tolist() == [0.5, 0.5]


def test_stability_is_near_0_for_one_distribution_and_large_for_two(random) -> None:
    train, same = random.normal(size=(5000, 2)), random.normal(size=(1000, 2))
    index = data_statistics.population_stability(train, same + np.array([0.0, 1.0]))
    assert index[0] < 0.03
    # two normals one deviation apart: 0.94 in deciles of the first
    assert index[1] == pytest.approx(0.94, abs=0.15)


def test_stability_of_a_feature_with_two_values(random) -> None:
    train = (random.random((2000, 1)) < 0.5).astype(float)
    assert data_statistics.population_stability(train, train)[0] == pytest.approx(0, abs=1e-6)
    assert data_statistics.population_stability(train, np.ones((500, 1)))[0] > 1


def test_shift_is_in_training_deviations(random) -> None:
    train = 5 + 2 * random.normal(size=(4000, 1))
    assert data_statistics.mean_shift(train, train + 6)[0] == pytest.approx(3, abs=0.1)


def test_duplicates_are_pairs_and_constants_are_not_compared(random) -> None:
    one = random.normal(size=(300, 1))
    values = np.hstack([one, random.normal(size=(300, 1)), -3 * one + 1, np.full((300, 1), 7.1)])
    assert [pair[:2] for pair in data_statistics.duplicates(values, 0.9999)] == [(0, 2)]
    assert data_statistics.constant(values).tolist() == [False, False, False, True]
