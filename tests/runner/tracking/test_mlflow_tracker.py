"""MLflow by itself: where things are, limits, and what is found when an answer was lost."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from runner.rundir.ledger import EventRecorded
from runner.rundir.paths import RunPaths
from tests.runner.tracking.conftest import MlflowBench

A, B = "a" * 12, "b" * 12


def artifacts(run: Any) -> dict[str, Any]:
    folder = Path(urlparse(run.info.artifact_uri).path)
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir() if path.suffix == ".json"}


def test_one_parent_with_its_children(mlflow_bench: Any, story: Any) -> None:
    story.whole()
    mlflow_bench.deliver()
    (parent,) = mlflow_bench.parents()
    assert parent.info.run_name == "quick"
    kind = mlflow_bench.client().get_experiment_by_name("isotherm").tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    assert parent.info.status == "FINISHED"
    children = [run for run in mlflow_bench.runs() if run is not parent and "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert artifacts(parent) == {"sweep.json": {"name": "quick", "grid": {"horizon": [1, 5]}}}


def test_parameters_tags_and_artifacts_of_a_trial(mlflow_bench: Any, story: Any) -> None:
    story.whole()
    mlflow_bench.deliver()
    run = next(run for run in mlflow_bench.runs() if run.data.tags.get("isotherm.key") == A)
    assert run.data.params == {
        "key": A,
        "budget": "2m",
        "data.content_sha256": "5f" * 32,
        "data.features": '["open", "close"]',
        "data.tier": "a20",
        "training.lr": "0.001",
        "training.early_stopping": "null",
        "n_params": "2000000",
        "n_params_non_embedding": "1900000",
        "n_train": "3000",
        "n_val": "700",
        "n_test": "700",
        "n_val_effective": "140",
    }
    tags = {"key": A, "budget": "2m", "horizon": "5", "data_sha256": "5f" * 32, "code_version": "c0de"}
    tags |= {"status": "finished", "attempts": "2", "micro_batch": "16", "isotherm.run": "quick"}
    assert {name: run.data.tags.get(name) for name in tags} == tags
    assert set(artifacts(run)) == {"spec.json", "result.json"}
    assert artifacts(run)["result.json"]["val_loss"] == 0.61
    [dataset] = [one.dataset for one in run.inputs.dataset_inputs]
    assert dataset.digest == ("5f" * 32)[:36]
    assert run.data.tags["mlflow.source.name"] == "isotherm sweep"
    assert run.data.tags["mlflow.user"]
    assert artifacts(run)["spec.json"]["training"] == {"lr": 0.001, "early_stopping": None}
    assert mlflow_bench.paths.root.parent / "mlartifacts" in Path(urlparse(run.info.artifact_uri).path).parents


def test_the_parent_has_the_sweeps_parameters_its_answer_and_its_report(mlflow_bench: Any, story: Any) -> None:
    story.whole()
    mlflow_bench.paths.report_html.write_text("<p>the report</p>")
    story.tell(EventRecorded(what="report", message="Loss with size: falls. Form: power law."))
    for _ in range(2):
        mlflow_bench.deliver()
        (parent,) = mlflow_bench.parents()
        assert parent.data.params == {"name": "quick", "grid.horizon": "[1, 5]"}
        assert parent.data.tags["mlflow.note.content"] == "Loss with size: falls. Form: power law."
        assert parent.info.status == "FINISHED"
        folder = Path(urlparse(parent.info.artifact_uri).path)
        assert (folder / "report.html").read_text() == "<p>the report</p>"


def test_each_trials_run_is_noted_in_the_run_directory(mlflow_bench: Any, story: Any) -> None:
    story.whole()
    mlflow_bench.deliver()
    noted = json.loads(mlflow_bench.paths.tracker_runs("mlflow").read_text())
    assert {key: one["run"] for key, one in noted.items()} == {key: one.id for key, one in mlflow_bench.shown().items()}
    assert {one["url"] for one in noted.values()} == {None}  # a database has no address


def test_times_are_those_of_the_ledger(mlflow_bench: Any, story: Any) -> None:
    story.sweep(A)
    story.cell(A)
    attempt = story.attempt(A)
    metrics = story.metrics(A, 10)
    end = story.end(A)
    mlflow_bench.deliver()
    run = next(run for run in mlflow_bench.runs() if run.data.tags.get("isotherm.key") == A)
    (point,) = mlflow_bench.client().get_metric_history(run.info.run_id, "val_loss")
    seen = (run.info.start_time, point.timestamp, run.info.end_time)
    assert seen == tuple(round(record.time.timestamp() * 1000) for record in (attempt, metrics, end))


def test_what_changes_between_attempts_is_a_tag(mlflow_bench: Any, story: Any) -> None:
    """MLflow refuses to change a parameter."""
    story.sweep(A)
    story.cell(A)
    story.attempt(A, 1, micro_batch=32)
    mlflow_bench.deliver()
    story.attempt(A, 2, micro_batch=8)
    story.metrics(A, 10, 2)
    mlflow_bench.deliver()
    run = next(run for run in mlflow_bench.runs() if run.data.tags.get("isotherm.key") == A)
    assert "micro_batch" not in run.data.params
    assert (run.data.tags["micro_batch"], run.data.tags["attempts"]) == ("8", "2")
    assert run.data.metrics["val_loss"] > 0


def test_many_parameters_and_metrics_fit_into_batches(mlflow_bench: Any, story: Any) -> None:
    story.sweep(A)
    story.cell(A, data={f"field_{number}": "x" * 7000 for number in range(250)})
    story.attempt(A)
    for step in range(1100):
        story.metrics(A, step, loss=float(step))
    mlflow_bench.deliver()
    run = next(run for run in mlflow_bench.runs() if run.data.tags.get("isotherm.key") == A)
    assert len(run.data.params) >= 250
    assert max(map(len, run.data.params.values())) == 6000
    assert len(mlflow_bench.client().get_metric_history(run.info.run_id, "loss")) == 1100


def test_points_whose_receipt_was_lost_are_not_sent_again(mlflow_bench: Any, story: Any) -> None:
    story.whole()
    mlflow_bench.deliver()
    before = mlflow_bench.shown()
    for run in mlflow_bench.runs():
        if "isotherm.through" in run.data.tags:  # as if the process had died before it could note what had arrived
            mlflow_bench.client().delete_tag(run.info.run_id, "isotherm.through")
    mlflow_bench.deliver()
    assert mlflow_bench.shown() == before


def test_a_twin_whose_creation_was_never_confirmed_is_removed(mlflow_bench: Any, story: Any) -> None:
    story.whole()
    mlflow_bench.deliver()
    before = mlflow_bench.shown()
    client = mlflow_bench.client()
    at_creation = ("isotherm.key", "isotherm.ledger", "isotherm.role", "isotherm.run", "mlflow.parentRunId")
    for run in mlflow_bench.runs():
        tags = {name: run.data.tags[name] for name in at_creation if name in run.data.tags}
        client.create_run(run.info.experiment_id, tags=tags, run_name=run.info.run_name)
    assert len(mlflow_bench.runs()) == 6
    mlflow_bench.deliver()
    assert mlflow_bench.shown() == before
    assert len(mlflow_bench.runs()) == 3
    assert len(mlflow_bench.parents()) == 1


def test_a_parent_ends_as_its_sweep_did(mlflow_bench: Any, story: Any) -> None:
    for exit_code, status in ((1, "FAILED"), (3, "KILLED"), (0, "FINISHED")):
        story.sweep(A)
        story.sweep_end(exit_code)
        mlflow_bench.deliver()
        assert [run.info.status for run in mlflow_bench.parents()] == [status]
    story.sweep(A)  # and the driver dies
    mlflow_bench.deliver()
    assert [run.info.status for run in mlflow_bench.parents()] == ["KILLED"]


def test_nothing_is_written_beside_the_runs_folder(
    mlflow_bench: Any, story: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    story.whole()
    mlflow_bench.deliver()
    assert not list(elsewhere.iterdir())
    assert {path.name for path in mlflow_bench.paths.root.parent.iterdir()} >= {"quick", "mlflow.db", "mlartifacts"}


def test_a_place_that_takes_no_artifacts_gets_the_metrics(mlflow_bench: Any, story: Any) -> None:
    blocked = mlflow_bench.paths.root.parent / "mlartifacts"
    blocked.write_text("in the way")
    story.whole()
    mlflow_bench.delivery().close(lambda: 20)
    assert mlflow_bench.shown()[A].succeeded
    assert [step for step, _ in mlflow_bench.shown()[A].metrics["val_loss"]] == [10, 20, 30, 40]
    assert mlflow_bench.statuses[-1].delivered == mlflow_bench.statuses[-1].known
    errors = [error for status in mlflow_bench.statuses for error in status.errors]
    assert errors
    assert all("mlartifacts" in error for error in errors)


def test_a_study_is_the_parent_of_its_trials_also_after_a_second_sync(mlflow_bench: Any, story: Any) -> None:
    started = story.sweep(B)
    asked = {"study": "c" * 12, "name": "2m-h5", "budget": 2_000_000, "trials": 5, "metric": "val_loss"}
    asked |= {"axes": {"budget": "2m"}, "space": {"training.lr": {"low": 1e-4, "high": 1e-2}}, "seeds": [0]}
    story.tell(started.model_copy(update={"studies": (asked,)}))
    for key in (A, B):
        cell = story.cell(key)
        if key == A:
            story.tell(cell.model_copy(update={"labels": {**cell.labels, "study": "2m-h5", "role": "searched"}}))
        story.attempt(key)
        story.metrics(key, 10)
        story.end(key)
    story.sweep_end()
    for _ in range(2):
        mlflow_bench.deliver()
        runs = {run.info.run_name: run for run in mlflow_bench.runs()}
        assert set(runs) == {"quick", "2m-h5", "2m h5 a", "2m h5 b"}
        assert len(mlflow_bench.runs()) == 4
        parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
        assert parents["2m h5 a"] == runs["2m-h5"].info.run_id
        assert parents["2m-h5"] == parents["2m h5 b"] == runs["quick"].info.run_id
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        assert json.loads(runs["2m-h5"].data.tags["space"]) == asked["space"]


def test_a_runs_folder_with_characters_of_uris_in_its_name(new_story: Any, empty_mlflow: Path, tmp_path: Path) -> None:
    root = tmp_path / "100%25 of #1?x=y" / "runs" / "quick"
    root.mkdir(parents=True)
    bench = MlflowBench(RunPaths(root))
    shutil.copy(empty_mlflow, bench.paths.mlflow_db)
    new_story(bench.paths).whole()
    bench.deliver()
    with sqlite3.connect(bench.paths.mlflow_db) as connection:
        rows = connection.execute("SELECT name, status FROM runs ORDER BY name").fetchall()
    connection.close()
    assert rows == [("2m h5 a", "FINISHED"), ("2m h5 b", "FINISHED"), ("quick", "FINISHED")]
    assert len(list(root.parent.rglob("mlartifacts/*/artifacts/spec.json"))) == 2
    files = [path for path in tmp_path.rglob("*") if path.is_file() and root.parent not in path.parents]
    assert not files, "MLflow makes an empty folder elsewhere, and no more"
