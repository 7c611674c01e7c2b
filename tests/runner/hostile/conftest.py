"""A small run directory as a sweep leaves it, a canary folder outside of it, and a server that nobody may call."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from runner import baselines
from runner.config import sweep_file
from runner.planning import plan
from runner.rundir import ledger, results
from runner.rundir.ledger import (
    AttemptStarted,
    CellEnded,
    CellRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.rundir.paths import RunPaths
from tests.servers import HttpServer

SWEEP = """\
name: base
data: {source: sp500, tier: a20}
model: {name: patchtst, patch: 10}
training: {epochs: 1, global_batch: 128, lr: 1.0e-3}
grid: {budget: [20k], horizon: [1], seed: [0, 1]}
execution: {device: cpu, micro_batch: 128, threads: 1}
probe: {seconds_per_model: 0.1}
thermal: {require_sensors: false}
tracking: {mlflow: null, wandb: null}
"""
RESULT = {
    "epochs": 8, "best_epoch": 6, "steps": 184, "val_loss": 0.52, "val_loss_low": 0.5, "val_loss_high": 0.54,
    "val_auc": 0.6, "val_auc_low": 0.55, "val_auc_high": 0.65, "val_spread": 0.1, "prior_loss": 0.56, "skill": 0.07,
    "skill_low": 0.03, "skill_high": 0.1, "collapsed": False, "test_loss": 0.53, "test_prior_loss": 0.57,
    "test_skill": 0.06, "train_seconds": 4.0, "samples_per_second": 900.0,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where everything is: the user's working folder, and what must stay as it is."""

    work: Path
    canary: Path
    server: HttpServer
    requests: list[str]

    def copy(self, name: str) -> RunPaths:
        """A copy of the run directory under another name."""
        target = self.work / "runs" / name
        shutil.copytree(self.work / "runs" / "base", target)
        return RunPaths(target)

    def fingerprint(self) -> str:
        """All that is in the canary folder, names, kinds and contents."""
        found = []
        for path in sorted(self.canary.rglob("*")):
            found.append(f"{path.relative_to(self.canary)} {path.lstat().st_mode} {path.is_symlink()}")
            found.append(hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        return "\n".join(found)


def _records(paths: RunPaths, cells: list[plan.Cell], trials: list[CellRecorded]) -> Iterator[ledger.AnyRecord]:
    yield SweepStarted(
        run="base",
        keys=tuple(cell.key for cell in cells),
        config={"name": "base", "data": {"source": ["sp500"]}},
        code_version="0.1.0",
        versions={"python": "3.11"},
        datasets=(cells[0].entry.model_dump(mode="json"),),
    )
    for trial in trials:
        yield trial
        execution = {"device": "cpu"}
        if trial.cell_kind == "model":
            execution = cells[0].record.model_dump(mode="json")
        yield AttemptStarted(key=trial.key, attempt=1, execution=execution, device_name="CPU", code_version="0.1.0")
        if trial.cell_kind == "model":
            yield MetricsRecorded(key=trial.key, attempt=1, step=23, epoch=1, values={"val_loss": 0.55})
            yield MetricsRecorded(key=trial.key, attempt=1, step=46, epoch=2, values={"val_loss": 0.52})
        yield CellEnded(key=trial.key, attempt=1, status="finished", result=RESULT)
    yield SweepEnded(exit_code=0, counts={"finished": len(cells)})


def _predictions(path: Path, seed: int) -> None:
    chance = np.random.default_rng(seed)
    parts = []
    for split, first in (("validation", "2012-01-02"), ("test", "2015-01-02")):
        dates = pd.bdate_range(first, periods=200)
        columns = {"date": dates, "asset": "sp500", "split": split}
        labels = np.random.default_rng(1).integers(0, 2, 200).astype("float32")
        parts.append(pd.DataFrame(columns | {"label": labels, "logit": chance.normal(0, 1, 200).astype("float32")}))
    path.parent.mkdir(exist_ok=True)
    pd.concat(parts).to_parquet(path, index=False)


def _thermal(path: Path) -> None:
    times = pd.date_range("2026-01-02", periods=20, freq="10s", tz="UTC")
    columns = {"time": times, "node": "", "device": "cpu", "sensor": "hwmon", "part": "package", "celsius": 55.0}
    columns |= {"state": "normal", "duty": 1.0, "power_watts": 50.0, "utilisation": 0.5, "slowed_by": "", "reason": ""}
    pd.DataFrame(columns | {"target": 80.0, "hold": 88.0, "resume": 75.0, "stop": 95.0}).to_parquet(path, index=False)


def _fill(work: Path) -> None:
    (work / "sweep.yaml").write_text(SWEEP)
    loaded = sweep_file.load(work / "sweep.yaml")
    built = plan.build(loaded)
    cells, paths = list(built.grid.cells), built.paths
    trials = [
        CellRecorded(
            key=cell.key,
            name=cell.name,
            labels={**cell.labels, "axes": cell.axes},
            n_params=cell.counts.total,
            n_params_non_embedding=cell.counts.non_embedding,
            sizes=cell.sizes,
            spec=cell.spec.model_dump(mode="json"),
        )
        for cell in cells
    ]
    trials += [one.recorded() for one in baselines.of(built)]
    with patch("os.fsync"):
        written = Ledger(paths.ledger)
        for record in _records(paths, cells, trials):
            written.append(record)
        written.close()
        for number, trial in enumerate(trials):
            _predictions(paths.prediction(trial.key), number)
        results.write(ledger.read(paths.ledger), paths)
    _thermal(paths.thermal_parquet)
    key = cells[0].key
    texts = {
        "sweep.yaml": SWEEP,
        "resolved.json": loaded.settings.model_dump_json(),
        ".driver.json": '{"pid": 1, "since": "2026"}',
        "trackers/mlflow.json": json.dumps({key: {"run": "f00", "url": None}}),
        "trackers/wandb.json": json.dumps({key: {"run": "abc", "url": "https://wandb.example/abc"}}),
        "wandb/delivered.json": "{}",
        "logs/driver.log": "a line\n",
        "logs/mlflow.log": "",
        f"logs/{key}.log": "a line\n",
        "figures/loss_h1.png": "",
        "losses.csv": "n_params,loss\n1000,0.6\n2000,0.58\n4000,0.57\n8000,0.56\n16000,0.555\n",
        "report.md": "",
        "report.html": "",
        f"checkpoints/{key}/attempt-0001.json": "{}",
        f"checkpoints/{key}/checkpoint-0001-000001/manifest.json": "{}",
        f"checkpoints/{key}/best/manifest.json": "{}",
    }
    for name, text in texts.items():
        (paths.root / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.root / name).write_text(text)


@pytest.fixture(scope="session")
def _ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("user")
    before = Path.cwd()
    os.chdir(work)
    try:
        _fill(work)
    finally:
        os.chdir(before)
    return work


@pytest.fixture
def place(_ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    requests: list[str] = []

    def answer(method: str, path: str, headers: object, body: bytes) -> tuple[int, bytes]:
        requests.append(f"{method} {path} {headers}")
        return 200, b"touch executed\n"

    canary = tmp_path / "canary"
    (canary / "checkpoint-0001-000001").mkdir(parents=True)
    (canary / "checkpoint-0001-000001" / "state.pt").write_text("precious")
    (canary / "bashrc").write_text("alias ll='ls -l'\n")
    monkeypatch.setenv("ISOTHERM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("ISOTHERM_CACHE_DIR", str(_ready / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-token")
    work = tmp_path / "work"
    (work / "runs").mkdir(parents=True)
    for name in ("sweep.yaml", "data"):
        (work / name).symlink_to(_ready / name)
    shutil.copytree(_ready / "runs" / "base", work / "runs" / "base")
    monkeypatch.chdir(work)
    server = HttpServer(answer)
    yield Place(work, canary, server, requests)
    server.close()
