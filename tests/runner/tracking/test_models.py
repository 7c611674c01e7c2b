"""Models of trials in MLflow: logged once by the tracker, loaded and served without Isotherm's data or run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isotherm
from runner.rundir.paths import RunPaths
from runner.tracking import models
from runner.tracking.mlflow_tracker import MlflowTarget
from tests.servers import free_port
from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def mlflow_of_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deliveries run in this process here; logging a model sets globals of MLflow, which later tests must not see."""
    import mlflow

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is undone
        monkeypatch.delenv(name)
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture
def bench(place: Path, make_bench: Any) -> Any:
    made = make_bench("mlflow", RunPaths(place / "runs" / "tiny"))
    made.target = MlflowTarget(log_model="best", register_as="tiny-model", data_root=str(place / "data"))
    return made


def logged(bench: Any) -> list[Any]:
    client = bench.client()
    return list(client.search_logged_models([client.get_experiment_by_name("isotherm").experiment_id]))


@pytest.mark.filterwarnings("ignore:.*type hints.*:UserWarning")
def test_the_best_model_is_logged_once_loaded_and_served(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    uri = f"sqlite:///{bench.paths.mlflow_db}"
    delivery = bench.delivery()
    end = time.monotonic() + 60
    delivery.close(lambda: end - time.monotonic())
    errors = [error for status in bench.statuses for error in status.errors]
    assert not errors, errors
    [model] = logged(bench)
    key = isotherm.open_run("tiny").best().state.cell.key
    assert model.tags["isotherm.key"] == key
    client = bench.client()
    [version] = client.search_model_versions("name = 'tiny-model'")
    assert int(version.version) == 1
    run = client.get_run(model.source_run_id)
    assert (run.data.tags["isotherm.key"], run.data.tags["isotherm.model"]) == (key, model.model_id)

    # an answer that was lost: the tag is not there, the model is found again
    client.delete_tag(run.info.run_id, "isotherm.model")
    bench.deliver()
    assert [one.model_id for one in logged(bench)] == [model.model_id]
    assert client.get_run(run.info.run_id).data.tags["isotherm.model"] == model.model_id

    example = json.loads((bench.paths.export(key) / "example.json").read_text())
    expected = 1 / (1 + np.exp(-np.array(example["outputs"])))
    mlflow.set_tracking_uri(uri)
    monkeypatch.chdir(bench.paths.root.parent.parent.parent)
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    assert np.allclose(loaded.predict(np.array(example["inputs"][0])), expected, atol=1e-6)
    signature = loaded.metadata.signature
    assert signature.inputs.inputs[0].shape == (-1, 20, 5)
    folder = mlflow.artifacts.download_artifacts(f"models:/{model.model_id}")
    assert (Path(folder) / "serving_input_example.json").is_file()
    assert serve(Path(folder)) == pytest.approx(expected.tolist(), abs=1e-6)


def serve(folder: Path) -> Any:
    """What `mlflow models serve` answers to the model's own input example."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "-p", str(port)]
    command += ["--env-manager", "local", "--workers", "1"]
    blocked = folder.parent / "blocked"  # Isotherm is not there, where this is served
    for name in ("isotherm", "runner", "trainables"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text("raise ImportError('not installed here')\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    environment = {**os.environ, "PYTHONPATH": str(blocked), "PATH": path}
    with (folder.parent / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, stdout=log, stderr=log)
    try:
        body = (folder / "serving_input_example.json").read_bytes()
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read())["predictions"]
            except OSError:
                assert process.poll() is None, (folder.parent / "server.log").read_text()[-3000:]
                assert time.monotonic() < end, "no answer"
                time.sleep(0.5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


def test_a_model_that_cannot_be_exported_is_said_once_and_holds_up_nothing(bench: Any) -> None:
    key = isotherm.open_run("tiny").best().state.cell.key
    (bench.paths.checkpoint(key) / "best" / "state.pt").write_bytes(b"x")
    delivery = bench.delivery()
    end = time.monotonic() + 100
    delivery.close(lambda: end - time.monotonic())
    errors = [error for status in bench.statuses for error in status.errors]
    assert len(errors) == 1
    assert "does not have the bytes" in errors[0]
    assert bench.statuses[-1].delivered == bench.statuses[-1].known
    assert not logged(bench)
    assert not models.exporting
