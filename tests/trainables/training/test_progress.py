"""Which epoch is the best so far, and when training stops early."""

import math

import pytest

from trainables.schema import EarlyStopping
from trainables.training.progress import TrialProgress

NONE = math.nan  # a metric that has no value after an epoch, such as precision where there was no signal


def watched(*values: float, patience: int = 3) -> TrialProgress:
    progress = TrialProgress()
    rule = EarlyStopping(metric="val_auc", patience=patience)
    for value in values:
        progress.epoch += 1
        progress.watch(value, rule, lower_is_better=False)
        if progress.stopped:
            break
    return progress


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ((0.5, 0.7, 0.6), 2),
        ((NONE, 0.5, NONE, 0.7, 0.6), 4),
        ((NONE, 0.7, NONE), 2),
        ((0.7, NONE, 0.6), 1),
        ((NONE, NONE), 2),
    ],
)
def test_an_epoch_without_a_value_is_the_best_only_where_none_has_one(values: tuple[float, ...], best: int) -> None:
    progress = watched(*values)
    assert progress.best_epoch == best
    assert not progress.stopped


def test_an_epoch_without_a_value_improves_nothing_and_is_no_reference() -> None:
    assert not watched(NONE, 0.55, 0.60, 0.70, 0.71).stopped
    assert watched(0.55, NONE, NONE, NONE).stopped
    assert watched(NONE, NONE, NONE).stopped


def test_books_of_a_branch_begin_with_it() -> None:
    trunk = TrialProgress(step=100, samples=1000, train_seconds=9.0, waited_seconds=8.0, evaluation_seconds=1.0)
    branch = TrialProgress.of(trunk.branch("0" * 12))
    assert (branch.samples, branch.train_seconds, branch.waited_seconds, branch.evaluation_seconds) == (0, 0, 0, 0)
    assert branch.branched_at == branch.step == 100
