"""The life of one trial as a generator: wait at the gate, open the store, train in slices, deliver, end.

It yields what the trial reports, a plain dictionary at least about once a second, and holds no state but its own
position. It knows nothing of Ray; `trainables.tune_trainable` hands its reports to Tune.
"""

import gc
import json
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from trainables import trial_reports
from trainables.checkpoints import trial_store
from trainables.checkpoints.object_store import StoragePlace
from trainables.data import catalog, windows
from trainables.files import LogFile, is_storage_trouble, real_folder, replacing
from trainables.schema import ExecutionRecord, MetricSpec, Spec, TrialSpec
from trainables.training import memory, metric_registry
from trainables.training.branching import Branch, Branches
from trainables.training.follower import Follower
from trainables.training.gate import Action, StepGate
from trainables.training.loop import HEARTBEAT_S, Trainer
from trainables.training.progress import Waits
from trainables.training.ranks import ALONE, Leader, Ranks

FIRST_SLICE_S = 1.5  # a report costs Tune 3-5 ms: 0.3 % of this
LONGEST_SLICE_S = 30.0
SLICE_GROWTH = 0.02  # slices grow with a trial's age, so that a trial of days does not write a million rows
SAVED_WAIT_S = 0.5  # between the reports of a trial that only waits for its end
BLOCKED_WAIT_S = 1.0  # between attempts to write on a disk that is full
KEPT_DATASETS = 4  # the same windows serve every budget and seed of a horizon

log = logging.getLogger(__name__)
Report = dict[str, Any]
T = TypeVar("T")
Waiting = Generator[Report, None, T]  # yields reports until it can return its value


class TrialJob(Spec):
    """All that a worker needs to run one attempt of a trial."""

    spec: TrialSpec
    record: ExecutionRecord
    attempt: int
    entry: catalog.CatalogEntry
    data_root: Path
    predictions: Path
    checkpoints: Path
    log_file: Path
    storage: StoragePlace | None = None
    metrics: tuple[MetricSpec, ...] = ()  # no part of the trial's specification
    branches: tuple[Branch, ...] = ()
    decided_at: tuple[int, ...] = ()  # epochs after which a search decides whether the trial continues

    def config(self, name: str) -> dict[str, Any]:
        """The job as a Tune config: plain values for the driver's callbacks, and the whole as text for the worker."""
        return {
            "key": self.spec.key,
            "name": name,
            "attempt": self.attempt,
            "global_batch": self.spec.training.global_batch,
            "execution": self.record.model_dump(mode="json"),
            "payload": self.model_dump_json(),
        }


class TrialGate(StepGate, Protocol):
    """A gate that serves one trial after the other."""

    @property
    def reason(self) -> str:
        """Why it does not simply say RUN."""
        ...

    def begin(self) -> None:
        """Another trial comes to the gate."""
        ...

    def readings(self) -> dict[str, float]:
        """As far as known: ``celsius`` and ``watts`` now; since `begin` ``max_celsius``, the device's ``joules`` and,
        where there were any, ``limited_seconds`` under a lowered power limit.
        """
        ...


_MOMENTARY = ("celsius", "watts")


def life(job: TrialJob, gate: TrialGate, guard: Callable[[Path], None]) -> Iterator[Report]:
    """One attempt of a trial, as its reports.

    A report has ``kind`` (progress, heartbeat, waiting, blocked, saved or ended), ``gate`` (what the gate said),
    ``step``, ``total_steps``, ``epoch``, ``rows`` (metrics by step) and, at the end, ``status`` and ``outcome``. A
    trial that has not begun is ``waiting`` while its gate is not open: nothing touches the device before. A trial that
    cannot write is ``blocked``, gives the ``reason``, and trains no further until its state is written.

    Args:
        job: what to run.
        gate: asked before each unit of work.
        guard: called once with the checkpoint folder, before the trial takes memory.

    Yields:
        Reports without end after ``saved``, and none after ``ended``. Closing the generator gives everything back.
    """
    waited_s = yield from _wait_at_gate(gate)
    with _log_to(job.log_file), _given_back():
        store = yield from _retried(lambda: _open_store(job), gate)
        ranks = ALONE
        try:
            while not (yield from _retried(lambda: store.wait_until_ready(HEARTBEAT_S), gate)):
                yield _with_messages(trial_reports.idle("waiting", Action.HOLD), store)
            guard(job.checkpoints)
            ranks = _ranks(job)
            while not ranks.wait_until_ready(HEARTBEAT_S):
                yield _with_messages(trial_reports.idle("waiting", Action.HOLD), store)
            # Without a name here, so that nothing refers to its tensors when memory is given back.
            yield from _train(
                job, gate, store, ranks, (yield from _retried(lambda: _start(job, gate, store, ranks, waited_s), gate))
            )
        finally:
            ranks.close()
            store.close()


def _wait_at_gate(gate: TrialGate) -> Waiting[float]:
    """Wait until the trial may begin; returns the seconds waited. During a drain there is nothing to save yet."""
    gate.begin()
    waited_s = 0.0
    while (action := gate.check()) not in (Action.RUN, Action.THROTTLE):
        report = trial_reports.idle("waiting", action)
        while action is Action.DRAIN:
            yield report | {"kind": "saved"}
            time.sleep(SAVED_WAIT_S)
        waited_s += gate.wait(HEARTBEAT_S)
        yield report
    return waited_s


def _retried(action: Callable[[], T], gate: TrialGate) -> Waiting[T]:
    """Run something that writes or reads, again and again while the disk or the storage refuses it."""
    while True:
        try:
            return action()
        except OSError as error:
            if not is_storage_trouble(error):
                raise
            log.warning("%s; tried again", error)
            time.sleep(BLOCKED_WAIT_S)
            yield trial_reports.idle("blocked", gate.check()) | {"reason": str(error)}


def _train(
    job: TrialJob, gate: TrialGate, store: trial_store.TrialStore, ranks: Ranks, trainer: Trainer
) -> Iterator[Report]:
    """Train in slices of seconds until the trial ends, or has saved during a drain."""
    began = time.monotonic()
    rows: list[dict[str, Any]] = []  # metrics that no report has carried yet
    unsaved = False  # whether a write failed: its state is written before anything else

    def advance() -> Report:
        nonlocal unsaved
        slice_s = min(LONGEST_SLICE_S, max(FIRST_SLICE_S, SLICE_GROWTH * (time.monotonic() - began)))
        with ranks.watched():
            if unsaved:
                trainer.save()
            unsaved = True
            done = trainer.advance(slice_s, job.decided_at)
        rows.extend(trial_reports.rows(done, _readings(gate, job)))
        report = trial_reports.of(done)
        if done.done:
            report |= _finish(job, store, trainer)
        elif done.action is Action.STOP and done.saved:
            report |= trial_reports.ended("thermal_stop", trial_reports.stopped(done, gate.reason))
        unsaved = False
        return report

    while True:
        report = yield from _retried(advance, gate)
        report["rows"], rows = rows, []
        if report["kind"] == "saved":
            yield from _stay_saved(report, store)
        if report["kind"] == "ended":
            since_begin = {name: value for name, value in _readings(gate, job).items() if name not in _MOMENTARY}
            report["outcome"] |= {"max_celsius": None, "joules": None} | since_begin
            yield from _arrive(report, job, store, delivers=trainer.done)
            return
        yield _with_messages(report, store)


def _readings(gate: TrialGate, job: TrialJob) -> dict[str, float]:
    """The gate's readings; of a shared device's energy the trial's share."""
    readings = gate.readings()
    if "joules" in readings:
        readings["joules"] *= job.record.gpu_share
    return readings


def _finish(job: TrialJob, store: trial_store.TrialStore, trainer: Trainer) -> Report:
    """Write what a trial leaves behind, and report its outcome.

    Raises:
        OSError: it could not be written; call again.
    """
    outcome = trainer.result()
    real_folder(job.predictions.parent, job.predictions.parent.parent)
    predictions = trainer.predictions()
    with replacing(job.predictions) as aside:
        predictions.to_parquet(aside, index=False)
    if trainer.judged_weights is not None:
        store.keep_best(trainer.judged_weights, step=outcome.steps, spec=job.spec)
    own = metric_registry.of_table(job.metrics, {str(name): predictions[name] for name in predictions})
    return trial_reports.ended(outcome.status, outcome.columns() | own)


def _stay_saved(report: Report, store: trial_store.TrialStore) -> Iterator[Report]:
    """``saved`` for ever; heartbeats until the checkpoint is where another attempt finds it."""
    wait_s = 0.0
    while not store.wait_until_safe(wait_s):
        yield _with_messages(report | {"kind": "heartbeat"}, store)
        report, wait_s = report | {"rows": []}, HEARTBEAT_S
    while True:
        yield _with_messages(report, store)
        report = report | {"rows": []}
        time.sleep(SAVED_WAIT_S)


def _arrive(report: Report, job: TrialJob, store: trial_store.TrialStore, *, delivers: bool) -> Iterator[Report]:
    """The last report, once all files are where the driver can see them; heartbeats until then."""
    if delivers and store.deliver(job.predictions):
        while not store.wait_until_level(HEARTBEAT_S):
            yield _with_messages(report | {"kind": "heartbeat", "rows": [], "done": False}, store)
    yield _with_messages(report, store)


def _with_messages(report: Report, store: trial_store.TrialStore) -> Report:
    """A report, with what the storage has to say."""
    words = store.words()
    return report | {"storage": words} if words else report


# ---- what a trial opens -----------------------------------------------------------------------------------------


def _open_store(job: TrialJob) -> trial_store.TrialStore:
    return trial_store.open_store(
        job.checkpoints, job.attempt, job.spec.key, job.storage, job.data_root / job.entry.path, job.entry
    )


def _ranks(job: TrialJob) -> Ranks:
    """Of a trial over several devices, with their processes."""
    record = job.record
    if record.devices == 1:
        return ALONE
    make = partial(Follower, job.spec, record, partial(_trial_data, job))
    return Leader(make, record.devices, sharded=record.sharded, device=record.device)


def _start(job: TrialJob, gate: TrialGate, store: trial_store.TrialStore, ranks: Ranks, waited_s: float) -> Trainer:
    memory.cap_device(torch.device(job.record.device), job.record.gpu_share)
    if waited_s:
        books = asdict(Waits()) | store.checkpoints.noted()
        store.checkpoints.note(books | {"held_seconds": books["held_seconds"] + waited_s})
    data = _trial_data(job)
    branches = Branches(job.branches, len(data.train), job.storage)
    return Trainer(job.spec, job.record, data, gate=gate, store=store.checkpoints, branches=branches, ranks=ranks)


_datasets: dict[str, windows.TrialData] = {}


def _trial_data(job: TrialJob) -> windows.TrialData:
    """The trial's windows, kept between the trials of one process."""
    identity = json.dumps([job.spec.data.model_dump(mode="json"), job.spec.task.model_dump(mode="json")])
    if identity not in _datasets:
        # The probe has measured a step beside one table on the GPU.
        while len(_datasets) >= (KEPT_DATASETS if job.record.device == "cpu" else 1):
            _datasets.pop(next(iter(_datasets)))
        dataset = catalog.load(job.entry, job.data_root)
        _datasets[identity] = windows.build(dataset, job.spec.data, job.spec.task, torch.device(job.record.device))
    return _datasets[identity]


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """This process's log goes to the trial's file, too."""
    real_folder(path.parent, path.parent.parent)
    handler = LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("trainables").setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextmanager
def _given_back() -> Iterator[None]:
    """Unused memory of the device, and pinned memory, is given back at the end: this process runs other trials."""
    try:
        yield
    finally:
        if torch.cuda.is_available():
            gc.collect()  # checkpointed blocks refer to themselves
            memory.give_back(torch.device("cuda"))
            torch.accelerator.empty_host_cache()
