"""Marks of trials, from the ledger to the results and the report's findings."""

import math
from pathlib import Path
from typing import Any

import pytest

from runner.report.analysis.collect import collect
from runner.rundir import ledger, results
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, Ledger, MetricsRecorded, SweepStarted
from runner.rundir.paths import RunPaths

HEALTHY = {
    "epochs": 8, "best_epoch": 6, "val_loss": 0.5, "prior_loss": 0.55, "skill": 0.09, "skill_low": 0.05,
    "skill_high": 0.12, "val_spread": 0.1, "train_skill": 0.12, "collapsed": False, "train_seconds": 100.0,
    "held_seconds": 1.0, "throttled_seconds": 2.0,
}  # fmt: skip


def run_of(root: Path, result: dict[str, Any], *, status: str = "finished", n_params: int = 50_400) -> RunPaths:
    paths = RunPaths(root / "runs" / "made")
    written = Ledger(paths.ledger)
    written.append(SweepStarted(run="made", keys=("a" * 12,), config={}, code_version="1", versions={}))
    labels = {"budget": "50k", "model": "mlp", "horizon": 1, "seed": 0, "tier": "a20", "timescale": "daily"}
    written.append(CellRecorded(key="a" * 12, name="x", labels=labels, n_params=n_params, sizes={}, spec={}))
    written.append(AttemptStarted(key="a" * 12, attempt=1, execution={}))
    reason = "loss is not finite at optimizer step 3" if status == "diverged" else ""
    written.append(
        CellEnded(key="a" * 12, attempt=1, status=status, reason=reason, result=HEALTHY | result)  # type: ignore[arg-type]
    )
    written.close()
    return paths


def test_a_healthy_trial_has_no_mark(tmp_path: Path) -> None:
    paths = run_of(tmp_path, {})
    assert results.frame(ledger.read(paths.ledger))["marks"].tolist() == [""]
    assert collect(paths).findings == ()


@pytest.mark.parametrize(
    ("result", "mark", "reason"),
    [
        ({"train_skill": 0.25}, "over-fitted", "25.0 % in training, 9.0 % in validation"),
        ({"throttled_seconds": 30.0}, "throughput distorted", "24 % of its time was held or throttled"),
        ({"limited_seconds": 30.0}, "throughput distorted", "for 30 of 100 s its power limit was lowered"),
        ({"collapsed": True, "val_spread": 0.002}, "collapsed", "standard deviation is 0.0020, below 0.01"),
        ({"collapsed": True, "skill_low": -0.2, "skill_high": -0.1}, "collapsed", "[-0.200, -0.100], is wholly below"),
    ],
)
def test_a_mark_stands_in_results_and_report_with_its_reason(tmp_path: Path, result, mark, reason) -> None:
    paths = run_of(tmp_path, result)
    assert results.frame(ledger.read(paths.ledger))["marks"].tolist() == [mark]
    (finding,) = collect(paths).findings
    assert finding.kind == mark
    assert reason in finding.reason


def test_a_validation_loss_that_rises_after_its_best_epoch_is_over_fitting(tmp_path: Path) -> None:
    for name, last, marked in (("much", 0.53, "over-fitted"), ("little", 0.52, "")):
        paths = run_of(tmp_path / name, {})
        written = Ledger(paths.ledger)
        for step, loss in enumerate((0.52, 0.5, last), 1):
            written.append(MetricsRecorded(key="a" * 12, attempt=1, step=step, epoch=step, values={"val_loss": loss}))
        written.close()
        assert results.frame(ledger.read(paths.ledger))["marks"].tolist() == [marked]
    (finding,) = collect(RunPaths(tmp_path / "much" / "runs" / "made")).findings
    assert finding.reason == "after epoch 6 of 8 its validation loss rose by 5.5 % of the prior's, more than 5 %"


def curve(paths: RunPaths, losses: list[float]) -> None:
    """Evaluations of a run of 8 epochs, with the cosine's rates."""
    written = Ledger(paths.ledger)
    for epoch, loss in enumerate(losses, 1):
        values = {"val_loss": loss, "lr": 5e-4 * (1 + math.cos(math.pi * epoch / 8))}
        written.append(MetricsRecorded(key="a" * 12, attempt=1, step=10 * epoch, epoch=epoch, values=values))
    written.close()


@pytest.mark.parametrize(
    ("losses", "marked"),
    [
        # the decay itself gains 0.02, in any run: the last epoch is the best of a trained trial
        ([0.54, 0.530, 0.529, 0.528, 0.52, 0.515, 0.51, 0.508], ""),
        ([0.54, 0.530, 0.520, 0.512, 0.50, 0.495, 0.49, 0.488], "under-trained"),
        # it fell fast, but over-fitted later: a longer run would not be better
        ([0.54, 0.530, 0.520, 0.512, 0.50, 0.52, 0.53, 0.54], "over-fitted"),
    ],
)
def test_under_training_is_read_from_the_loss_before_the_decay(tmp_path: Path, losses, marked) -> None:
    paths = run_of(tmp_path, {"best_epoch": 8})
    curve(paths, losses)
    assert results.frame(ledger.read(paths.ledger))["marks"].tolist() == [marked]
    if marked == "under-trained":
        (finding,) = collect(paths).findings
        assert finding.reason == (
            "at a high learning rate (steps 20 to 40) its validation loss fell by 3.3 % of the prior's for twice the "
            "steps, more than 1 %"
        )


def test_a_trial_off_its_budget_is_marked(tmp_path: Path) -> None:
    (finding,) = collect(run_of(tmp_path, {}, n_params=5_400)).findings
    assert finding.kind == "off budget"
    assert "5,400 parameters are -89.2 % off 50k" in finding.reason


def test_a_diverged_trial_is_marked_with_the_step_and_nothing_else(tmp_path: Path) -> None:
    paths = run_of(tmp_path, {"best_epoch": 8}, status="diverged")
    assert results.frame(ledger.read(paths.ledger))["marks"].tolist() == ["diverged"]
    (finding,) = collect(paths).findings
    assert finding.reason == "loss is not finite at optimizer step 3"


def test_several_marks_are_all_told(tmp_path: Path) -> None:
    paths = run_of(tmp_path, {"best_epoch": 8, "train_skill": 0.3})
    curve(paths, [0.54, 0.530, 0.520, 0.512, 0.50, 0.495, 0.49, 0.488])
    assert results.frame(ledger.read(paths.ledger))["marks"].tolist() == ["under-trained, over-fitted"]
    assert [finding.kind for finding in collect(paths).findings] == ["under-trained", "over-fitted"]
