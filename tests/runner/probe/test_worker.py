"""The child process, for real: small models, real kills."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from runner.probe.child import ProbeError, Worker
from runner.probe.messages import Request
from runner.probe.prober import Prober
from runner.probe.request import ProbeOptions, ProbeRequest
from runner.probe.together import run_together
from runner.probe.worker import CudaMeter
from tests.waiting import PATIENCE_S
from trainables.models import budget
from trainables.schema import (
    DataShape,
    ExecutionRecord,
    ModelSpec,
    ResolvedData,
    ResolvedTask,
    ResolvedTraining,
    SplitSpec,
    TrialSpec,
)

GB = 10**9


def spec(width: int = 32, batch: int = 64, depth: int = 2, n_window_stats: int = 0) -> TrialSpec:
    shape = {"width": width, "depth": depth, "heads": 4, "feed_forward": 2 * width}
    training = {"epochs": 1, "global_batch": batch, "lr": 1e-3, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0}
    training |= {"loss": "bce", "focal_gamma": 2.0, "class_weight": "none", "early_stopping": None, "seed": 0}
    return TrialSpec(
        data=ResolvedData(
            content_sha256="0",
            assets=("a",),
            features=("f",) * 20,
            tier="a20",
            timescale="daily",
            representation="relative",
            scaling="zscore",
            splits=SplitSpec(),
            fraction=1.0,
        ),
        task=ResolvedTask(context=60),
        model=budget.model_of(ModelSpec(), shape, DataShape(n_features=20, context=60, n_window_stats=n_window_stats)),
        training=ResolvedTraining.model_validate(training),
        dtype="fp32",
    )


def request(micro_batch: int, **changes: object) -> Request:
    values = {"spec": spec(), "n_rows": 2000, "n_windows": 1000, "measure_s": 0.05, **changes}
    base = record(**{name: values.pop(name) for name in changes if name in ExecutionRecord.model_fields})
    made = Request.model_validate({**values, "record": base})
    return made.model_copy(update={"record": base.with_micro_batch(micro_batch, made.batch)})


def record(**changes: object) -> ExecutionRecord:
    values = {"micro_batch": 32, "accumulation": 2, "threads": 1, "device": "cpu", "checkpoint_interval_s": 60.0}
    return ExecutionRecord.model_validate({**values, **changes})


def question(**changes: object) -> ProbeRequest:
    executed = {name: changes.pop(name) for name in list(changes) if name in ExecutionRecord.model_fields}
    base = ProbeRequest(
        label="tiny",
        spec=spec(),
        record=record(**executed),
        pinned=frozenset(executed) & {"micro_batch", "threads", "gpu_share"},
        device_name="test",
        n_rows=2000,
        n_windows=1000,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as one:
        yield one


def test_a_size_is_measured_and_a_larger_one_takes_more(worker: Worker) -> None:
    wide = spec(width=512, batch=512)
    small = worker.ask(request(8, spec=wide), timeout_s=PATIENCE_S)
    large = worker.ask(request(512, spec=wide), timeout_s=PATIENCE_S)
    for one in (small, large):
        assert one.ok
        assert one.samples_per_second == pytest.approx(512 / one.seconds_per_step)
    # 512 windows of 6 tokens and 2 blocks: activations of about 512 * 6 * 2 * 20 * 512 numbers
    assert large.peak_bytes - small.peak_bytes > 100e6


def test_gradients_and_optimizer_state_are_part_of_the_peak(worker: Worker) -> None:
    model = request(1, spec=spec(width=1024, batch=2))
    base = worker.ask(request(1), timeout_s=PATIENCE_S).peak_bytes
    from trainables.models import param_count

    parameters = param_count.count(model.spec.model).total
    taken = worker.ask(model, timeout_s=PATIENCE_S).peak_bytes - base
    assert taken > 4 * 5 * parameters * 0.9, "weights, gradients, two moments and the best weights"
    assert taken < 4 * 5 * parameters * 1.5


@pytest.mark.slow
def test_a_sharded_trial_is_measured_with_all_its_processes(worker: Worker) -> None:
    wide = spec(width=512, batch=64)
    alone = worker.ask(request(16, spec=wide), timeout_s=PATIENCE_S)
    sharded = worker.ask(request(16, spec=wide, devices=2, sharded=True), timeout_s=PATIENCE_S)
    assert alone.ok
    assert sharded.ok
    assert sharded.samples_per_second == pytest.approx(64 / sharded.seconds_per_step)
    left = [" ".join(child.cmdline()) for child in psutil.Process(worker.pid).children()]
    assert not [words for words in left if "spawn_main" in words], "they end with the measurement"


@pytest.mark.parametrize("scaling", ["revin", "none"])
def test_other_scalings_and_a_batch_that_does_not_divide(worker: Worker, scaling: str) -> None:
    stats = 40 if scaling == "revin" else 0
    other = spec(batch=50, n_window_stats=stats)
    other = other.model_copy(update={"data": other.data.model_copy(update={"scaling": scaling})})
    assert worker.ask(request(16, spec=other, activation_checkpointing=True), timeout_s=PATIENCE_S).ok


def kill(worker: Worker, kills: list[int], raised: int = 0) -> None:
    """As the kernel does: it counts, then it kills."""
    assert worker.pid is not None
    kills[0] += raised
    os.kill(worker.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("raised", "limit_bytes", "outcome"),
    [(0, None, "killed"), (1, None, "out_of_memory"), (0, 10 * GB, "killed"), (0, "just above", "out_of_memory")],
)
def test_a_kill_counts_as_out_of_memory_only_with_evidence(
    raised: int, limit_bytes: int | str | None, outcome: str
) -> None:
    kills = [3]
    with Worker(lambda: kills[0]) as worker:
        worker.start()
        if limit_bytes == "just above":
            limit_bytes = int(1.1 * worker.ask(request(1), timeout_s=PATIENCE_S).peak_bytes)
            worker.start()
        threading.Timer(0.5, kill, (worker, kills, raised)).start()
        killed = worker.ask(request(1, steps=10**9), timeout_s=PATIENCE_S, limit_bytes=limit_bytes)  # type: ignore[arg-type]
        assert killed.outcome == outcome
        assert killed.peak_bytes > 0
        assert "killed" in killed.detail
        assert worker.ask(request(8), timeout_s=PATIENCE_S).ok, "the next size gets a new process"


def test_a_kill_at_the_start_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(lambda: 0) as worker:
        worker.begin(request(1), timeout_s=PATIENCE_S)
        kill(worker, [0])
        failed = worker.ready()
    assert failed is not None
    assert failed.outcome == "killed"


def test_a_process_that_ends_by_itself_was_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker() as worker:
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
        worker.begin(request(1), timeout_s=PATIENCE_S)
        with pytest.raises(ProbeError, match="ended with code 1"):
            worker.ready()


def test_the_clock_starts_when_the_worker_is_warm() -> None:
    with Worker() as worker:
        began = time.monotonic()
        one = worker.ask(request(8), timeout_s=PATIENCE_S)
        whole = time.monotonic() - began
    assert one.ok
    assert 0 < one.seconds < whole / 2, "the start of the process alone takes longer"
    assert one.span[1] - one.span[0] <= one.seconds
    assert began < one.span[0] < one.span[1] < began + whole


def test_copies_begin_together_however_late_one_of_them_started() -> None:
    with Worker() as first, Worker() as second:
        assert first.ask(request(8), timeout_s=PATIENCE_S).ok, "the second is yet to be started"
        asked = request(8, crowded=True, measure_s=1.0)
        both = run_together([first, second], asked, timeout_s=PATIENCE_S, limit_bytes=None)
    assert both is not None
    assert both.ok
    assert both.span[1] - both.span[0] >= 1.0, "all go on for the whole time"


def test_nothing_of_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runner").mkdir()
    for name in ("random.py", "torch.py", "runner/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the current folder was run')\n")
    monkeypatch.chdir(tmp_path)
    with Worker() as one:
        assert one.ask(request(8), timeout_s=PATIENCE_S).ok


def test_time_and_the_guard_end_a_size(worker: Worker) -> None:
    slow = worker.ask(request(1, steps=10**9), timeout_s=0.5)
    assert slow.outcome == "timeout"
    guarded = worker.ask(request(8), timeout_s=PATIENCE_S, limit_bytes=10**6)
    assert guarded.outcome == "out_of_memory"
    assert guarded.detail == "passed 0.00 GB"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_an_error_that_is_not_memory_is_raised_with_its_traceback(worker: Worker) -> None:
    with pytest.raises(ProbeError, match="NVML"):
        worker.ask(request(8, device="cuda"), timeout_s=PATIENCE_S)


def test_a_decision_and_its_cache(tmp_path: object) -> None:
    options = ProbeOptions(cache_folder=tmp_path, cores=1, seconds_per_model=30)  # type: ignore[arg-type]
    asked: list[str] = []
    with Prober(options, asked.append) as prober:
        decision = prober.decide(question())
    assert decision.feasible
    assert decision.chosen in decision.measured
    assert decision.n_oom == 0
    assert decision.n_new == len(decision.measured) <= 8
    assert decision.record.micro_batch * decision.record.accumulation == 64
    assert decision.record.measured is not None
    assert decision.record.measured.seconds_per_step > 0

    asked.clear()
    with Prober(options, asked.append) as prober:
        again = prober.decide(question())
        tighter = dataclasses.replace(options, memory_limit=GB)
        pinned = prober.decide(question(micro_batch=again.measured[0].micro_batch))
    with Prober(tighter, asked.append) as prober:
        limited = prober.decide(question())
    assert not asked, "everything was known"
    assert again.chosen == decision.chosen
    assert pinned.chosen == again.measured[0]
    assert limited.limit.bytes == GB
    assert limited.n_new == 0


@contextlib.contextmanager
def busy_host() -> Iterator[None]:
    """Two programs a processor that never rest."""
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()  # it runs
        yield
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_other_work_on_the_host_is_noticed(tmp_path: object) -> None:
    options = ProbeOptions(cache_folder=tmp_path, cores=1)  # type: ignore[arg-type]
    with Prober(options) as prober:
        prober.decide(question(micro_batch=16))  # starts the worker
        with busy_host():
            decision = prober.decide(question(micro_batch=32))
        again = prober.decide(question(micro_batch=32))
    assert decision.disturbed
    assert again.n_new == 0
    assert again.disturbed, "remembered with the measurement"


def test_what_cannot_fit_is_refused_without_a_child() -> None:
    asked: list[str] = []
    with Prober(ProbeOptions(memory_limit=GB), asked.append) as prober:
        decision = prober.decide(question(spec=spec(width=4096)))
    assert not decision.feasible
    assert decision.measured == ()
    assert not asked
    assert decision.needed_bytes > decision.usable_bytes
    assert "alone need" in decision.reason


@pytest.mark.slow
def test_activation_checkpointing_is_tried_before_giving_up(worker: Worker) -> None:
    # Deep enough that it saves far more than measurements of memory vary by (some 50 MB) and than importing torch's
    # compiler costs (60 MB).
    deep = spec(width=128, batch=1024, depth=16)
    whole = worker.ask(request(1024, spec=deep), timeout_s=PATIENCE_S)
    frugal = worker.ask(request(1024, spec=deep, activation_checkpointing=True), timeout_s=PATIENCE_S)
    empty = worker.ask(request(1), timeout_s=PATIENCE_S)
    assert frugal.peak_bytes < whole.peak_bytes - 200e6
    limit = (whole.peak_bytes + frugal.peak_bytes) // 2
    with Prober(ProbeOptions(memory_limit=limit, margin=0.0, minimum=1024)) as prober:
        decision = prober.decide(question(spec=deep))
    assert decision.feasible
    assert decision.record.activation_checkpointing
    with Prober(ProbeOptions(memory_limit=empty.peak_bytes, margin=0.0, minimum=1024)) as prober:
        refused = prober.decide(question(spec=deep))
    assert not refused.feasible
    assert "with activation checkpointing" in refused.reason


def test_the_context_is_part_of_every_size_that_one_process_measures() -> None:
    used = [5 * GB]  # others' memory
    meter = CudaMeter(lambda: used[0])
    meter.begin()
    used[0] += int(0.5 * GB) + 2 * GB  # a context, and what the allocator took from the device
    assert meter.peak(2 * GB, 2 * GB, alone=True) == int(2.5 * GB)
    meter.begin()
    used[0] -= GB  # the next size, once the cache was emptied
    assert meter.peak(int(1.5 * GB), GB, alone=True) == 2 * GB, "the context was there before"
    used[0] += 9 * GB  # copies of it
    assert meter.peak(GB, GB, alone=False) == int(1.5 * GB)
