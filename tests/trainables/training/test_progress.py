"""Which epoch is the best so far, and when training stops early."""

import math
from pathlib import Path
from typing import Any

import pytest

from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.schema import EarlyStopping
from trainables.training.progress import TrialProgress
from trainables.training.scoring import TrialScorer

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
        ((0.7, math.inf, 0.6), 1),
        ((math.inf, 0.7, NONE), 2),
        ((-math.inf, math.inf), 2),
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


def test_a_checkpoint_that_stuck_at_an_epoch_without_a_value_goes_on_right() -> None:
    stuck = TrialProgress(epoch=2, best_epoch=1, best_metric=NONE, reference=NONE, epochs_without_improvement=1)
    progress = TrialProgress.of(stuck.state())
    progress.epoch = 3
    progress.watch(0.6, EarlyStopping(metric="val_auc", patience=2), lower_is_better=False)
    assert (progress.best_epoch, progress.best_metric, progress.reference, progress.stopped) == (3, 0.6, 0.6, False)


@pytest.mark.parametrize(
    ("values", "judged"), [((NONE, NONE, NONE, NONE), 4), ((NONE, 0.6, 0.7, NONE), 3), ((0.7, NONE, 0.6, NONE), 1)]
)
@pytest.mark.parametrize("killed", [False, True])
def test_the_trial_is_judged_by_an_epoch_with_a_value_or_says_that_there_was_none(
    values: tuple[float, ...],
    judged: int,
    killed: bool,
    make_trainer: Any,
    make_spec: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    left, of_epoch = iter(values), TrialScorer.of_epoch
    monkeypatch.setattr(TrialScorer, "of_epoch", lambda *asked: (of_epoch(*asked)[0], next(left), False))
    rule = EarlyStopping(metric="val_auc", patience=9)
    spec = make_spec(epochs=len(values), judged_epoch="best", early_stopping=rule)
    attempt, rows = 1, []
    trainer = make_trainer(spec=spec, store=FileCheckpointStore(folder, attempt, spec.key))
    while not trainer.done:
        rows += trainer.advance(1e9, until=[attempt]).rows
        if killed and not trainer.done:
            trainer.save()
            attempt += 1
            trainer = make_trainer(spec=spec, store=FileCheckpointStore(folder, attempt, spec.key))
    result = trainer.result()
    assert attempt == (len(values) + 1 if killed else 1)
    assert (result.epochs, result.best_epoch, result.judged_epoch) == (len(values), judged, judged)
    assert result.columns()["val_loss"] == {row.epoch: row for row in rows}[judged].values["val_loss"]
    assert ("no epoch had a value" in caplog.text) == (values == (NONE,) * 4)


def test_books_of_a_branch_begin_with_it() -> None:
    trunk = TrialProgress(step=100, samples=1000, train_seconds=9.0, waited_seconds=8.0, evaluation_seconds=1.0)
    branch = TrialProgress.of(trunk.branch("0" * 12))
    assert (branch.samples, branch.train_seconds, branch.waited_seconds, branch.evaluation_seconds) == (0, 0, 0, 0)
    assert branch.branched_at == branch.step == 100
