"""The callbacks in Tune scripts that are no sweeps of ours: real scripts, a real Ray, a real MLflow server."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.tracking.callbacks import MlflowCallback
from tests.servers import free_port

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys, time
from pathlib import Path
from ray import tune
from runner.tracking.callbacks import MlflowCallback, WandbCallback

uri, kind = sys.argv[1:3]
here = Path.cwd()

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
    callbacks = [MlflowCallback(uri, folder=here / "mlflow"), WandbCallback(mode="offline", folder=here / "wandb-runs")]
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
def begin(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the script as its user would."""
    (tmp_path / "script.py").write_text(SCRIPT)
    secrets = [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]
    environment = {name: value for name, value in os.environ.items() if name not in secrets} | QUIET

    def start(uri: str, kind: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "script.py", uri, kind],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=280)
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


@pytest.mark.parametrize("kind", ["function", "class"])
def test_a_server_that_dies_gets_everything_later_and_once(
    begin: Callable[..., Any], mlflow_server: Any, tmp_path: Path, kind: str
) -> None:
    def sync() -> None:
        report = MlflowCallback(mlflow_server.url, folder=tmp_path / "mlflow").sync(60)
        assert (report.pending, report.errors) == (0, ())

    mlflow_server.start()
    (tmp_path / "wait").touch()
    process = begin(mlflow_server.url, kind)
    deadline = time.monotonic() + 120
    while not (tmp_path / "waiting").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
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
    assert ended(begin(mlflow_server.url, kind)) == "ENDED 2 0"  # restored by Tune, with the callbacks it has pickled
    sync()  # what 10 s at the end were not enough for
    again = children(mlflow_server.url)
    assert again["1"] == ("FINISHED", [1.0, 0.5, 0.333, 0.25])
    assert again["2"] == ("FINISHED", [0.5, 0.333, 0.25, 0.2])
    assert len(list((tmp_path / "wandb-runs" / "wandb").glob("offline-run-*"))) == 2


@pytest.mark.parametrize("fault", ["down", "hangs", "answers 500"])
def test_a_server_out_of_order_ends_no_experiment(
    begin: Callable[..., Any], http_server: Callable[..., Any], tmp_path: Path, fault: str
) -> None:
    def answer(*_: Any) -> tuple[int, bytes]:
        time.sleep(30 if fault == "hangs" else 0)
        return 500, b"{}"

    uri = f"http://127.0.0.1:{free_port()}" if fault == "down" else http_server(answer).url
    (tmp_path / "healed").touch()
    assert ended(begin(uri, "function")) == "ENDED 2 0"
    lines = (tmp_path / "mlflow" / "ledger.jsonl").read_text().splitlines()
    assert sum('"kind":"metrics"' in line for line in lines) == 8
    assert '"exit_code":0' in lines[-1]
