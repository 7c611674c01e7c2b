"""One trial under Ray Tune: the only module here that imports Ray.

The class API is used because actors are shared between trials (`reset_config`). `setup` and `reset_config` only store
the job: with actor reuse, a trial that waits there can be handed to a second actor. All work happens in `step`, in
slices of seconds; while the gate holds the trial, `step` answers with heartbeats.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from ray import tune

from trainables import answers
from trainables.data import catalog, windows
from trainables.files import is_storage_trouble, replacing
from trainables.schema import ExecutionRecord, Spec, TrialSpec
from trainables.storage import StoragePlace
from trainables.training import memory, stores
from trainables.training.gate import Action, StepGate
from trainables.training.loop import HEARTBEAT_S, Trainer
from trainables.training.progress import Waits

FIRST_SLICE_S = 1.5  # a report costs Tune 3-5 ms: 0.3 % of this
LONGEST_SLICE_S = 30.0
SLICE_GROWTH = 0.02  # slices grow with a trial's age, so that a trial of days does not write a million rows
SAVED_WAIT_S = 0.5  # between answers of a trial that only waits for its end
BLOCKED_WAIT_S = 1.0  # between attempts to write on a disk that is full
KEPT_DATASETS = 4  # the same windows serve every budget and seed of a horizon

log = logging.getLogger(__name__)


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

    def config(self, name: str) -> dict[str, Any]:
        """The job as a Tune config: plain values for the driver's callbacks, and the whole as text for the worker."""
        return {
            "key": self.spec.key,
            "name": name,
            "attempt": self.attempt,
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
        """``celsius`` now and ``max_celsius`` of this trial, as far as known."""
        ...


class IsothermTrial(tune.Trainable):  # type: ignore[misc]
    """Drives a `Trainer` and answers Tune with plain dictionaries.

    A result has ``kind`` (progress, heartbeat, waiting, blocked, saved or ended), ``gate`` (what the gate said),
    ``step``, ``total_steps``, ``epoch``, ``rows`` (metrics by step) and, when it ended, ``status`` and ``outcome``. A
    trial that has not begun is ``waiting`` while its gate is not open: nothing touches the device before. A trial that
    cannot write is ``blocked``, says why in ``reason``, and trains no further until its state is written.
    """

    def setup(
        self,
        config: dict[str, Any],
        make_gate: Callable[[], TrialGate],
        make_guard: Callable[[], Callable[[Path], None]],
    ) -> None:
        """Store the job; everything else waits for the first `step`."""
        self._job = TrialJob.model_validate_json(config["job"]["payload"])
        self._make_gate = make_gate
        self._guard = make_guard()  # against the host's memory running out; told whose trial it guards
        self._gate: TrialGate | None = None
        self._waited_s: float | None = None  # before the start; None until the trial has come to its gate
        self._trainer: Trainer | None = None
        self._store: stores.TrialStore | None = None
        self._ending: dict[str, Any] | None = None  # the last answer, which waits until all files have arrived
        self._blocked = False  # whether something could not be written
        self._unsent: list[dict[str, Any]] = []  # rows of metrics that no answer has carried yet
        self._saved: dict[str, Any] | None = None  # the last answer of a trial that has saved and waits for its end
        self._handler: logging.Handler | None = None
        self._began = time.monotonic()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial's job into this actor."""
        self._release()
        self._job = TrialJob.model_validate_json(new_config["job"]["payload"])
        self._began = time.monotonic()
        return True

    def step(self) -> dict[str, Any]:
        """Train for a slice of time, or wait at the gate or for the disk, about a second at most."""
        if self._saved is not None:
            return self._at_save(self._saved)
        if self._ending is not None:
            return self._at_end(self._ending)
        gate = self._gate = self._gate or self._make_gate()
        if self._trainer is None and (answer := self._at_gate(gate)) is not None:
            return answer
        try:
            if self._trainer is None and (answer := self._at_storage()) is not None:
                return answer
            result = self._advance(gate)
        except OSError as error:
            if not is_storage_trouble(error):
                raise
            self._blocked = True
            log.warning("%s; tried again", error)
            time.sleep(BLOCKED_WAIT_S)
            return answers.idle("blocked", gate.check()) | {"reason": str(error)}
        result["rows"], self._unsent = self._unsent, []
        over = self._trainer is not None and self._trainer.done
        if over and self._store is not None and self._store.deliver(self._job.predictions):
            return self._at_end(result)
        if self._saved is not None and not self._is_safe(max_seconds=0.0):
            result["kind"] = "heartbeat"
        return self._telling(result)

    def _advance(self, gate: TrialGate) -> dict[str, Any]:
        """Train for a slice of time, and write what is due.

        Raises:
            OSError: it could not be written; call again.
        """
        trainer = self._trainer or self._start(gate)
        if self._blocked:
            trainer.save()
            self._blocked = False
        age = time.monotonic() - self._began
        report = trainer.advance(min(LONGEST_SLICE_S, max(FIRST_SLICE_S, SLICE_GROWTH * age)))
        result = answers.of(report)
        self._unsent += answers.rows(report, gate.readings())
        if result["kind"] == "saved":
            self._saved = dict(result)
        if report.done:
            outcome = trainer.result()
            with replacing(self._job.predictions) as aside:
                trainer.predictions().to_parquet(aside, index=False)
            if self._store is not None and trainer.judged_weights is not None:
                self._store.keep_best(trainer.judged_weights, step=outcome.steps, spec=self._job.spec)
            result |= answers.ended(outcome.status, outcome.columns())
        elif report.action is Action.STOP and report.saved:
            result |= answers.ended("thermal_stop", answers.stopped(report, gate.reason))
        if result["kind"] == "ended":
            result["outcome"]["max_celsius"] = gate.readings().get("max_celsius")
        return result

    def cleanup(self) -> None:
        """Free device memory: a reused actor stays alive."""
        self._release()

    def _at_gate(self, gate: TrialGate) -> dict[str, Any] | None:
        """Before the start: None where the trial may begin, else wait a while and answer so."""
        if self._waited_s is None:
            gate.begin()
            self._waited_s = 0.0
        action = gate.check()
        if action in (Action.RUN, Action.THROTTLE):
            return None
        answer = answers.idle("waiting", action)
        if action is Action.DRAIN:
            self._saved = answer | {"kind": "saved"}  # there is nothing to save yet
            return self._saved
        self._waited_s += gate.wait(HEARTBEAT_S)
        return answer

    def _at_storage(self) -> dict[str, Any] | None:
        """Before the start: None where everything that the trial needs is here, else wait a while and answer so."""
        job = self._job
        if self._store is None:
            self._handler = self._handler or _log_to(job.log_file)
            self._store = stores.open_store(
                job.checkpoints, job.attempt, job.spec.key, job.storage, job.data_root / job.entry.path, job.entry
            )
        if self._store.wait_until_ready(HEARTBEAT_S):
            return None
        return self._telling(answers.idle("waiting", Action.HOLD))

    def _at_save(self, saved: dict[str, Any]) -> dict[str, Any]:
        """The answer of a trial that waits for its end; a heartbeat until its checkpoint is where a resume finds it."""
        if not self._is_safe(HEARTBEAT_S):
            return self._telling(saved | {"kind": "heartbeat"})
        time.sleep(SAVED_WAIT_S)
        return saved

    def _is_safe(self, max_seconds: float) -> bool:
        return self._store is None or self._store.wait_until_safe(max_seconds)

    def _at_end(self, ending: dict[str, Any]) -> dict[str, Any]:
        """The last answer, once all files have arrived where the driver can see them; heartbeats until then."""
        assert self._store is not None
        self._ending = ending
        if self._store.wait_until_level(HEARTBEAT_S):
            return self._telling(ending)
        return self._telling(ending | {"kind": "heartbeat", "rows": [], "done": False})

    def _telling(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer, with what is to be told of the storage."""
        words = self._store.words() if self._store is not None else []
        return answer | {"storage": words} if words else answer

    def _start(self, gate: TrialGate) -> Trainer:
        job = self._job
        self._guard(job.checkpoints)
        memory.cap_device(torch.device(job.record.device), job.record.gpu_share)
        assert self._store is not None
        store = self._store.checkpoints
        if self._waited_s:
            books = asdict(Waits()) | store.noted()
            store.note(books | {"held_seconds": books["held_seconds"] + self._waited_s})
        data = _trial_data(job)
        self._trainer = Trainer(job.spec, job.record, data, gate=gate, store=store)
        return self._trainer

    def _release(self) -> None:
        self._trainer = self._saved = self._waited_s = self._ending = None
        self._blocked, self._unsent = False, []
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


_datasets: dict[str, windows.TrialData] = {}


def _trial_data(job: TrialJob) -> windows.TrialData:
    """The trial's windows, kept between the trials that share an actor."""
    identity = json.dumps([job.spec.data.model_dump(mode="json"), job.spec.task.model_dump(mode="json")])
    if identity not in _datasets:
        while len(_datasets) >= KEPT_DATASETS:
            _datasets.pop(next(iter(_datasets)))
        dataset = catalog.load(job.entry, job.data_root)
        _datasets[identity] = windows.build(dataset, job.spec.data, job.spec.task, torch.device(job.record.device))
    return _datasets[identity]


def _log_to(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("trainables").setLevel(logging.INFO)
    return handler
