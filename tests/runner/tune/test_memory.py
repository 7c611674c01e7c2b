"""Out of memory while trials run: the guard, the record after it, and what trials ask Ray for."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray import tune

from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, CellState
from runner.tune.launch import _resources, _trainable
from runner.tune.memory import WORKER_NAME, HostGuard, at_the_floor, next_record, word_of
from tests.waiting import PATIENCE_S, wait_for
from trainables.schema import ExecutionRecord


def test_the_guard_acts_below_its_floor_and_leaves_a_word(tmp_path: Path) -> None:
    free = [10**9]
    folder = tmp_path / "checkpoints" / "key"
    guard = HostGuard(lambda: free[0], floor_bytes=10**8, end=lambda code: None)
    assert not guard.look(), "it guards nobody yet"
    guard(folder)
    assert not guard.look()
    free[0] = 10**7
    assert guard.look()
    assert "the host had 0.01 GB left" in word_of(folder).read_text()


def test_the_guard_ends_its_process(tmp_path: Path) -> None:
    ended = threading.Event()
    guard = HostGuard(lambda: 0, end=lambda code: ended.set())
    guard(tmp_path / "checkpoints" / "key")
    assert ended.wait(PATIENCE_S)


def record(micro_batch: int, **changes: Any) -> ExecutionRecord:
    values = {"micro_batch": micro_batch, "accumulation": 128 // micro_batch, "threads": 1, "device": "cpu"}
    return ExecutionRecord.model_validate({**values, "checkpoint_interval_s": 1.0, **changes})


def state(micro_batch: int, status: str | None) -> CellState:
    attempt = AttemptStarted(key="a" * 12, attempt=1, execution=record(micro_batch).model_dump(mode="json"))
    ended = CellEnded(key="a" * 12, attempt=1, status=status) if status else None  # type: ignore[arg-type]
    return CellState(
        CellRecorded(key="a" * 12, name="k", labels={}, sizes={}, spec={}), attempts=[attempt], ended=ended
    )


def test_the_ledgers_record_wins_and_only_an_out_of_memory_halves_it() -> None:
    planned = record(128)
    fresh = CellState(CellRecorded(key="a" * 12, name="k", labels={}, sizes={}, spec={}))
    assert next_record(planned, fresh, 128) == planned
    for status in (None, "failed", "interrupted", "thermal_stop"):
        assert next_record(planned, state(32, status), 128) == record(32)
    assert next_record(planned, state(32, "out_of_memory"), 128) == record(16)
    assert next_record(planned, state(1, "out_of_memory"), 128) == record(1)
    assert next_record(record(8, devices=2), state(32, "failed"), 128) == record(8, devices=2), "another place"
    assert at_the_floor(state(1, "out_of_memory"))
    assert not at_the_floor(state(2, "out_of_memory"))
    assert not at_the_floor(state(1, "failed"))
    other = planned.model_copy(update={"device": "cuda"})
    assert next_record(other, state(32, "out_of_memory"), 128) == other, "another device: decided anew"


def attempts(*micro_batches: int, status: str) -> CellState:
    made = state(micro_batches[-1], status)
    made.attempts = [state(size, None).attempts[0] for size in micro_batches]
    return made


def test_the_pinned_micro_batch_is_tried_again_once_something_else_ended_a_smaller_one() -> None:
    planned = record(8)  # a plan made while another program took memory
    for status in ("failed", "interrupted", "thermal_stop"):
        assert next_record(planned, attempts(64, 32, status=status), 128) == record(64)
    assert next_record(planned, attempts(64, 32, 16, status="interrupted"), 128) == record(64)
    assert next_record(planned, attempts(64, 32, status="out_of_memory"), 128) == record(16), "not at once"
    again = attempts(64, 32, 64, 32, status="interrupted")
    assert next_record(planned, again, 128) == record(32), "it ran out of memory twice: it stays halved"
    assert next_record(planned, attempts(64, 64, status="failed"), 128) == record(64)
    moved = record(128, device="cuda")
    assert next_record(moved, attempts(64, 32, status="failed"), 128) == moved


def test_what_a_trial_asks_for() -> None:
    def asked(**changes: Any) -> dict[str, float]:
        return _resources({"job": {"execution": record(8, **changes).model_dump(mode="json")}}).required_resources

    assert asked() == {"CPU": 1}
    assert asked(threads=2, reserved_cores=4) == {"CPU": 4}, "cores stand for memory where that is what is short"
    assert asked(device="cuda", devices=4) == {"CPU": 4, "GPU": 4}
    assert asked(device="cuda", gpu_share=0.25) == {"CPU": 1, "GPU": 0.25}


def test_a_trials_process_is_known_by_its_name_also_between_two_calls() -> None:
    """While it works it has the name of Tune's class around ours: below."""
    assert WORKER_NAME in _trainable(SimpleNamespace(make_gate=None)).__name__  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def logical_gpu() -> Iterator[None]:
    ray.init(
        address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


class Resting(tune.Trainable):  # type: ignore[misc]
    """Notes when it ran; of trials that may run together, the first waits for a second one."""

    def setup(self, config: dict[str, Any]) -> None:
        self.folder = Path(config["folder"])
        self.packed = config["packed"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        began = time.time()
        (self.folder / f"began-{time.time_ns()}").write_text(" ".join(psutil.Process().cmdline()))
        if self.packed:
            wait_for(lambda: len(list(self.folder.glob("began-*"))) > 1)
        time.sleep(1.5)
        (self.folder / f"span-{time.time_ns()}").write_text(f"{began} {time.time()}")
        return {"done": True}


@pytest.mark.slow
@pytest.mark.xdist_group("memory")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("share", "at_once"), [(0.25, 4), (1.0, 1)])
def test_shares_of_a_logical_gpu_pack_trials(share: float, at_once: int, tmp_path: Path, logical_gpu: None) -> None:
    jobs = [{"execution": record(8, device="cuda", gpu_share=share).model_dump(mode="json"), "n": n} for n in range(4)]
    space = {"job": tune.grid_search(jobs), "folder": str(tmp_path), "packed": at_once > 1}
    run = tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0)
    reused = tune.TuneConfig(reuse_actors=True)
    trainable = tune.with_resources(Resting, _resources)
    tune.Tuner(trainable, param_space=space, run_config=run, tune_config=reused).fit()
    titles = [path.read_text() for path in tmp_path.glob("began-*")]
    assert all(WORKER_NAME in title for title in titles), titles  # by which a trial knows the others of its host
    spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.glob("span-*")]
    assert len(spans) == 4
    most = max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)
    assert most <= at_once
    assert at_once == 1 or most > 1
