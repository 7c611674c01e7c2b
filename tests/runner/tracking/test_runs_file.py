"""Which run in a tracker is a trial's: noted beside the run, and never a reason to fail."""

import json
from pathlib import Path

import pytest

from runner.tracking.mlflow_store import MlflowStore, Run
from runner.tracking.runs_file import RunsFile


def test_notes_of_an_earlier_driver_stay(tmp_path: Path) -> None:
    path = tmp_path / "trackers" / "wandb.json"
    RunsFile(path).note("a", "run-a", None)
    RunsFile(path).note("b", "run-b", "https://wandb.example/b")
    assert json.loads(path.read_text()) == {
        "a": {"run": "run-a", "url": None},
        "b": {"run": "run-b", "url": "https://wandb.example/b"},
    }


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.json"
    path.write_text("{ torn")
    RunsFile(path).note("a", "run-a", None)
    assert json.loads(path.read_text())["a"]["run"] == "run-a"


def test_a_place_that_cannot_be_written_costs_the_note_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "trackers").write_text("a file where the folder should be")
    RunsFile(tmp_path / "trackers" / "mlflow.json").note("a", "run-a", None)
    assert "cannot be written" in caplog.text


def test_a_server_has_addresses(tmp_path: Path) -> None:
    store = MlflowStore("http://mlflow.lan:5000/", "isotherm", tmp_path / "mlflow.db")
    store._experiment = "7"
    address = store.address(Run("f00", "RUNNING"))
    assert address == "http://mlflow.lan:5000/#/experiments/7/runs/f00?workflowType=machine_learning"
    assert MlflowStore(None, "isotherm", tmp_path / "mlflow.db").address(Run("f00", "RUNNING")) is None
