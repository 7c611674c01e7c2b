"""What every tracker does, on the real thing: MLflow on SQLite, W&B in files."""

import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.rundir.paths import RunPaths

A, B = "a" * 12, "b" * 12


def without_ids(bench: Any) -> dict[str, Any]:
    return {key: {**asdict(shown), "id": ""} for key, shown in bench.shown().items()}


def test_a_trial_is_shown_as_the_ledger_tells(bench: Any, story: Any) -> None:
    story.whole()
    bench.deliver()
    shown = bench.shown()
    assert set(shown) == {A, B}
    trial = shown[A]
    assert trial.name == "2m h5 a"
    assert trial.labels == {"key": A, "budget": "2m", "horizon": "5", "training.clip": "1.0"}
    assert (trial.open, trial.succeeded) == (False, True)
    assert trial.results == {"val_loss": 0.61, "collapsed": 0.0, "skill": 0.02}
    # the steps that were repeated after the resume are shown once
    assert {name: [step for step, _ in points] for name, points in trial.metrics.items()} == {
        "train_loss": [10, 20, 30, 40],
        "val_loss": [10, 20, 30, 40],
    }
    assert trial.metrics["train_loss"][1] == (20, pytest.approx(1 / 21))
    assert (shown[B].open, shown[B].metrics) == (False, {})  # infeasible: no attempt, but an outcome


def test_delivering_twice_changes_nothing(bench: Any, story: Any) -> None:
    story.whole()
    bench.deliver()
    once = bench.shown()
    bench.deliver()
    assert bench.shown() == once


def test_one_after_the_other_or_all_at_once(bench: Any, story: Any, make_bench: Any, tmp_path: Path) -> None:
    delivery = bench.delivery()
    appended = story.ledger.append

    def append_and_deliver(record: Any) -> Any:
        numbered = appended(record)
        assert delivery.turn()
        return numbered

    story.ledger.append = append_and_deliver
    story.whole()
    delivery.close(lambda: 20)
    other = RunPaths(tmp_path / "other" / "quick")
    other.root.mkdir(parents=True)
    shutil.copy(story.paths.ledger, other.ledger)
    at_once = make_bench(bench.target.kind, other)
    at_once.deliver()
    assert without_ids(bench) == without_ids(at_once)


def test_a_resumed_trial_continues_its_own_run(bench: Any, story: Any) -> None:
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10)
    story.metrics(A, 20)
    bench.deliver()  # the driver dies here
    first = bench.shown()[A]
    story.sweep(A)
    story.attempt(A, 2)
    story.metrics(A, 20, 2)
    story.metrics(A, 30, 2)
    story.end(A, attempt=2)
    bench.deliver()
    second = bench.shown()[A]
    assert second.id == first.id
    assert [step for step, _ in first.metrics["val_loss"]] == [10, 20]
    assert [step for step, _ in second.metrics["val_loss"]] == [10, 20, 30]
    assert second.succeeded


@pytest.mark.parametrize("how", ["driver died", "interrupted", "failed"])
def test_nothing_is_left_open(bench: Any, story: Any, how: str) -> None:
    story.sweep(A, B)
    for key in (A, B):
        story.cell(key)
        story.attempt(key)
        story.metrics(key, 10)
    story.end(A)
    if how != "driver died":
        story.end(B, how, reason="for a reason")
        story.sweep_end(3 if how == "interrupted" else 1)
    bench.deliver()
    shown = bench.shown()
    assert not shown[A].open
    assert shown[A].succeeded
    assert not shown[B].open
    assert not shown[B].succeeded


def test_what_is_not_a_finite_number_is_left_out(bench: Any, story: Any) -> None:
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10, val_loss=0.5, grad_norm=float("inf"), val_auc=None)
    story.metrics(A, 20, val_loss=float("nan"))
    story.end(A, "diverged")
    bench.deliver()
    assert bench.shown()[A].metrics == {"val_loss": [(10, 0.5)]}
    assert bench.shown()[A].succeeded  # a finding, not a failure


def test_a_later_sweep_adds_its_cells(bench: Any, story: Any) -> None:
    story.whole()
    bench.deliver()
    before = bench.shown()
    new = "c" * 12
    story.sweep(A, B, new)
    story.cell(new)
    story.attempt(new)
    story.metrics(new, 10)
    story.end(new)
    story.sweep_end()
    bench.deliver()
    after = bench.shown()
    assert {key: after[key] for key in before} == before
    assert after[new].succeeded


def test_two_runs_of_the_same_cells_are_kept_apart(bench: Any, story: Any, new_story: Any, make_bench: Any) -> None:
    story.whole()
    bench.deliver()
    paths = RunPaths(story.paths.root.parent / "again")
    paths.root.mkdir()
    new_story(paths).whole()
    database = paths.mlflow_db.read_bytes() if paths.mlflow_db.exists() else b""
    other = make_bench(bench.target.kind, paths)
    if database:
        paths.mlflow_db.write_bytes(database)  # shared by all runs
    other.deliver()
    ids = {run.info.run_id for run in other.runs()} if bench.target.kind == "mlflow" else set()
    if ids:
        assert len(ids) == 6  # two parents with two children each
    else:
        assert {shown.id for shown in bench.shown().values()}.isdisjoint(shown.id for shown in other.shown().values())


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_restarts_at_any_moment_change_nothing(name: str, make_bench: Any, new_story: Any) -> None:
    with TemporaryDirectory() as folder:
        reference = make_run(make_bench, new_story, name, Path(folder))
        new_story(reference.paths).whole()
        reference.deliver()
        expected = without_ids(reference)
        lines = reference.paths.ledger.read_bytes().splitlines(keepends=True)

        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
        @given(cuts=st.lists(st.integers(1, len(lines)), min_size=1, max_size=3), close=st.booleans())
        def check(cuts: list[int], close: bool) -> None:
            with TemporaryDirectory() as other:
                bench = make_run(make_bench, new_story, name, Path(other))
                for cut in sorted(cuts):
                    bench.paths.ledger.write_bytes(b"".join(lines[:cut]))
                    delivery = bench.delivery()
                    delivery.turn()
                    if close:
                        delivery.close(lambda: 20)
                    else:
                        bench.crash()
                bench.paths.ledger.write_bytes(b"".join(lines))
                bench.deliver()
                assert without_ids(bench) == expected

        check()


def make_run(make_bench: Any, new_story: Any, name: str, folder: Path) -> Any:
    paths = RunPaths(folder / "runs" / "quick")
    paths.root.mkdir(parents=True)
    return make_bench(name, paths)
