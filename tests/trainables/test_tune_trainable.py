"""A trial's worker without Ray: what it answers, and what it needs and leaves where, on nodes that share nothing."""

import hashlib
import math
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runner.config import sweep_file
from runner.planning import plan as planning
from runner.planning.plan import Plan
from trainables.checkpoints.object_store import Storage, StoragePlace, data_name
from trainables.schema import MetricSpec
from trainables.training.gate import Action
from trainables.trial_life import TrialJob
from trainables.tune_trainable import IsothermTrial

SWEEP = """\
name: one
data: {source: sp500}
training: {epochs: 3, global_batch: 128, lr: 1.0e-3}
grid: {budget: [20k], horizon: [1], seed: [0]}
execution: {device: cpu, micro_batch: 64, threads: 1, checkpoint_interval_s: 0.1}
thermal: {require_sensors: false}
"""
CHANGING = ("seconds", "per_second", "bytes", "wait_share")


class Gate:
    """Open for so many units of work, then a drain."""

    reason = ""

    def __init__(self, units: float, on_drain: Callable[[], object]) -> None:
        self.units, self.on_drain = units, on_drain

    def begin(self) -> None:
        pass

    def readings(self) -> dict[str, float]:
        return {}

    def check(self) -> Action:
        self.units -= 1
        if self.units == -1:
            self.on_drain()
        return Action.RUN if self.units >= 0 else Action.DRAIN

    def wait(self, max_seconds: float) -> float:
        return 0.0


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    (folder / "sweep.yaml").write_text(SWEEP)
    return planning.build(sweep_file.load(folder / "sweep.yaml", tracking=False), folder / "runs", folder / "data")


@pytest.fixture
def data_root(plan: Plan) -> Path:
    return plan.paths.root.parent.parent / "data"


@pytest.fixture
def make_job(plan: Plan, data_root: Path) -> Callable[..., TrialJob]:
    def make(node: Path, attempt: int, **given: Any) -> TrialJob:
        [cell] = plan.grid.cells
        return TrialJob(
            spec=cell.spec,
            record=cell.record,
            attempt=attempt,
            entry=cell.entry,
            predictions=node / "predictions.parquet",
            checkpoints=node / "checkpoints" / cell.key,
            log_file=node / "trial.log",
            **({"data_root": data_root} | given),
        )

    return make


def begin(job: TrialJob, units: float = math.inf, on_drain: Callable[[], object] = lambda: None) -> IsothermTrial:
    trial = IsothermTrial.__new__(IsothermTrial)  # Tune's own constructor does nothing that matters here
    gate = Gate(units, on_drain)
    trial.setup({"job": job.config("one")}, make_gate=lambda: gate, make_guard=lambda: lambda folder: None)
    return trial


def until(trial: IsothermTrial, over: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    for _ in range(600):
        answer = trial.step()
        if over(answer):
            return answer
    raise AssertionError(f"in vain: {answer}")


def outcome(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in answer["outcome"].items()
        if not any(part in name for part in CHANGING) and name != "max_celsius"
    }


@pytest.mark.slow
@pytest.mark.xdist_group("tune_trainable")
def test_a_trial_goes_on_where_there_is_nothing_but_the_storage(
    make_job: Callable[..., TrialJob], data_root: Path, storage: Storage, tmp_path: Path
) -> None:
    trial = begin(make_job(tmp_path / "calm", 1))
    calm = until(trial, lambda answer: answer["done"])
    trial.cleanup()
    kept = sorted(path.name for path in (tmp_path / "calm" / "checkpoints").glob("*/*"))
    assert "best" in kept

    place = storage.place.model_copy(update={"owner": tmp_path / "driver.json", "owner_text": "not on this disk"})
    first = make_job(tmp_path / "first", 1, storage=place)
    storage.put(data_root / first.entry.path, data_name(first.entry.path, first.entry.file_sha256))
    trial = begin(first, units=40)
    saved = until(trial, lambda answer: answer["kind"] == "saved")
    assert 0 < saved["step"] < saved["total_steps"]
    trial.cleanup()
    shutil.rmtree(tmp_path / "first")

    second = make_job(tmp_path / "second", 2, storage=place, data_root=tmp_path / "second" / "data")
    trial = begin(second)
    ended = until(trial, lambda answer: answer["done"])
    assert "brought checkpoint-0001-" in second.log_file.read_text()
    assert outcome(ended) == outcome(calm)
    prefix = f"predictions/{second.spec.key}."
    [name] = storage.sizes("predictions")
    assert name == f"{prefix}{hashlib.sha256(second.predictions.read_bytes()).hexdigest()[:16]}.parquet"
    storage.fetch(name, tmp_path / "here.parquet", name.split(".")[1])
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "here.parquet"), pd.read_parquet(tmp_path / "calm" / "predictions.parquet")
    )
    assert f"checkpoints/{second.spec.key}/best/manifest.json" in storage.sizes()
    trial.cleanup()


def test_a_trial_whose_disk_the_driver_cannot_see_has_saved_when_the_storage_has_it(
    make_job: Callable[..., TrialJob], tmp_path: Path
) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    place = StoragePlace(uri=str(bucket), run="one", owner=tmp_path / "driver.json", owner_text="not on this disk")
    away = tmp_path / "away"
    trial = begin(make_job(tmp_path / "node", 1, storage=place), units=20, on_drain=lambda: bucket.rename(away))
    for _ in range(3):
        answer = until(trial, lambda answer: answer["gate"] == "drain")
        assert answer["kind"] == "heartbeat"
    away.rename(bucket)
    until(trial, lambda answer: answer["kind"] == "saved")
    assert list(bucket.glob("one/checkpoints/*/checkpoint-*/manifest.json"))
    trial.cleanup()


def test_metrics_of_the_sweep_are_in_the_outcome_and_not_in_the_key(make_job, tmp_path: Path) -> None:
    job = make_job(tmp_path, 1, metrics=(MetricSpec(name="hit_rate"),))
    outcome = until(begin(job), lambda answer: answer["kind"] == "ended")["outcome"]
    assert 0 < outcome["metric:val_hit_rate"] < 1
    assert (
        outcome["metric:test_hit_rate_low"] <= outcome["metric:test_hit_rate"] <= outcome["metric:test_hit_rate_high"]
    )
    assert job.spec.key == make_job(tmp_path, 1).spec.key


@pytest.mark.slow
def test_a_trial_over_two_processes_reports_holds_and_ends_as_one(make_job, tmp_path: Path) -> None:
    calm = until(begin(make_job(tmp_path / "calm", 1)), lambda answer: answer["done"])
    job = make_job(tmp_path / "two", 1)
    two = job.model_copy(update={"record": job.record.model_copy(update={"devices": 2, "accumulation": 1})})
    trial = begin(two, units=10)
    assert trial.step()["kind"] == "waiting", "the other process starts"
    saved = until(trial, lambda answer: answer["kind"] == "saved")
    assert 0 < saved["step"] < 15
    [other] = [child for child in multiprocessing.active_children() if child.name == "rank 1"]
    trial.cleanup()
    assert not other.is_alive()
    again = begin(two.model_copy(update={"attempt": 2}))
    ended = until(again, lambda answer: answer["done"])
    again.cleanup()
    assert ended["outcome"]["steps"] == calm["outcome"]["steps"]
    assert ended["outcome"]["val_loss"] == pytest.approx(calm["outcome"]["val_loss"], abs=0.02), "other dropout"
