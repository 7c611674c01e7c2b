"""The callbacks in Tune scripts that are no sweeps of ours: real scripts, a real Ray, a real MLflow server."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.tracking.callbacks import MlflowCallback
from tests.servers import free_port
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys, time
from pathlib import Path
import ray
from ray import tune
from runner.tracking.callbacks import MlflowCallback, WandbCallback

kind, *uris = sys.argv[1:]
here = Path.cwd()
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)

def loss(config, i):
    if config["x"] == 2 and i == 2 and not (here / "healed").exists():
        raise RuntimeError("a bad moment")
    while i == 2 and (here / "wait").exists():
        (here / "waiting").touch()
        time.sleep(0.05)
    return {"loss": 1.0 / (i + config["x"]), "nested": {"value": i}, "text": "no number"}

def function(config):
    for i in range(4):
        tune.report(loss(config, i))

class Class(tune.Trainable):
    def setup(self, config):
        self.i = 0
    def step(self):
        self.i += 1
        return loss(self.config, self.i - 1) | {"done": self.i == 4}
    def save_checkpoint(self, folder): pass
    def load_checkpoint(self, folder): pass

trainable = {"function": function, "class": Class}[kind]
if (here / "results" / kind).exists():
    tuner = tune.Tuner.restore(str(here / "results" / kind), trainable, resume_errored=True)
else:
    callbacks = [WandbCallback(mode="offline", folder=here / "wandb-runs")]
    callbacks += [MlflowCallback(uri, folder=here / f"mlflow-{number}") for number, uri in enumerate(uris)]
    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search([1, 2]), "path": Path("a")},
        run_config=tune.RunConfig(name=kind, storage_path=str(here / "results"), callbacks=callbacks),
    )
results = tuner.fit()
print("ENDED", len(results), results.num_errors)
"""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "WANDB_SILENT": "true",
    "PYTHONWARNINGS": "ignore",
}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the script as its user would."""
    (tmp_path / "script.py").write_text(SCRIPT)
    secrets = [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]
    environment = {name: value for name, value in os.environ.items() if name not in secrets} | QUIET
    environment["RAY_TMPDIR"] = rays = tempfile.mkdtemp(prefix="iso")  # short: Ray's sockets lie below it
    started: list[subprocess.Popen[str]] = []

    def start(kind: str, *uris: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "script.py", kind, *uris],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    shutil.rmtree(rays, ignore_errors=True)


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output[-4000:]
    [line] = [line for line in output.splitlines() if line.startswith("ENDED")]
    return line


def children(uri: str) -> dict[str, tuple[str, list[float]]]:
    """Status and losses of each trial on a server, by the value of its parameter; fails where one is there twice."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("isotherm")
    shown: dict[str, tuple[str, list[float]]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        if "mlflow.parentRunId" in run.data.tags:
            assert run.data.params["x"] not in shown, "a trial with two runs"
            points = client.get_metric_history(run.info.run_id, "loss")
            shown[run.data.params["x"]] = run.info.status, [round(point.value, 3) for point in points]
    return shown


def test_a_server_that_dies_gets_everything_later_and_once(
    begin: Callable[..., Any], mlflow_server: Any, tmp_path: Path
) -> None:
    """Of a function; of a class, with other faults: below."""

    def sync() -> None:
        report = MlflowCallback(mlflow_server.url, folder=tmp_path / "mlflow-0").sync(PATIENCE_S)
        assert (report.pending, report.errors) == (0, ())

    mlflow_server.start()
    (tmp_path / "wait").touch()
    process = begin("function", mlflow_server.url)
    wait_for(lambda: (tmp_path / "waiting").exists() or process.poll() is not None)
    assert process.poll() is None, ended(process)
    mlflow_server.kill()
    (tmp_path / "wait").unlink()
    assert ended(process) == "ENDED 2 1"
    mlflow_server.start()
    sync()
    assert children(mlflow_server.url) == {
        "1": ("FINISHED", [1.0, 0.5, 0.333, 0.25]),
        "2": ("FAILED", [0.5, 0.333]),
    }
    (tmp_path / "healed").touch()
    assert (
        ended(begin("function", mlflow_server.url)) == "ENDED 2 0"
    )  # restored by Tune, with the callbacks it has pickled
    sync()  # what 10 s at the end were not enough for
    again = children(mlflow_server.url)
    assert again["1"] == ("FINISHED", [1.0, 0.5, 0.333, 0.25])
    assert again["2"] == ("FINISHED", [0.5, 0.333, 0.25, 0.2])
    assert len(list((tmp_path / "wandb-runs" / "wandb").glob("offline-run-*"))) == 3, "two trials and the sweep"


def test_servers_out_of_order_end_no_experiment(
    begin: Callable[..., Any], http_server: Callable[..., Any], tmp_path: Path
) -> None:
    """One that is down, one that hangs, and one that answers with errors; each has a callback of its own."""

    def hang(*_: Any) -> tuple[int, bytes]:
        time.sleep(30)
        return 500, b"{}"

    faulty = (f"http://127.0.0.1:{free_port()}", http_server(hang).url, http_server(lambda *_: (500, b"{}")).url)
    (tmp_path / "healed").touch()
    assert ended(begin("class", *faulty)) == "ENDED 2 0"
    for number in range(len(faulty)):
        lines = (tmp_path / f"mlflow-{number}" / "ledger.jsonl").read_text().splitlines()
        assert sum('"kind":"metrics"' in line for line in lines) == 8
        assert '"exit_code":0' in lines[-1]
