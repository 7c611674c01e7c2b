"""One trial under Ray Tune: the only module here that imports Ray.

The class API is used because actors are shared between trials (`reset_config`). `setup` and `reset_config` only store
the job: with actor reuse, a trial that waits there can be handed to a second actor. All work happens in `step`, in
slices of seconds; while the gate holds the trial, `step` answers with heartbeats.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainables.data import catalog, windows
from trainables.files import replacing
from trainables.schema import ExecutionRecord, Spec, TrialSpec
from trainables.training.checkpoint import FileCheckpointStore
from trainables.training.gate import Action, StepGate
from trainables.training.loop import Trainer
from trainables.training.result import Report

FIRST_SLICE_S = 1.5  # a report costs Tune 3-5 ms: 0.3 % of this
LONGEST_SLICE_S = 30.0
SLICE_GROWTH = 0.02  # slices grow with a trial's age, so that a trial of days does not write a million rows
SAVED_WAIT_S = 0.5  # between answers of a trial that only waits for its end
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

    def config(self, name: str) -> dict[str, Any]:
        """The job as a Tune config: plain values for the driver's callbacks, and the whole as text for the worker."""
        return {
            "key": self.spec.key,
            "name": name,
            "attempt": self.attempt,
            "execution": self.record.model_dump(mode="json"),
            "payload": self.model_dump_json(),
        }


class IsothermTrial(tune.Trainable):  # type: ignore[misc]
    """Drives a `Trainer` and answers Tune with plain dictionaries.

    A result has ``kind`` (progress, heartbeat, saved or ended), ``step``, ``total_steps``, ``epoch``, ``rows`` (metrics
    by step) and, when it ended, ``status`` and ``outcome``.
    """

    def setup(self, config: dict[str, Any], make_gate: Callable[[], StepGate]) -> None:
        """Store the job; everything else waits for the first `step`."""
        self._job = TrialJob.model_validate_json(config["job"]["payload"])
        self._make_gate = make_gate
        self._gate: StepGate | None = None
        self._trainer: Trainer | None = None
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
        """Train for a slice of time, or wait at the gate for at most a second."""
        if self._saved is not None:
            time.sleep(SAVED_WAIT_S)
            return self._saved
        trainer = self._trainer or self._start()
        age = time.monotonic() - self._began
        report = trainer.advance(min(LONGEST_SLICE_S, max(FIRST_SLICE_S, SLICE_GROWTH * age)))
        result = _answer(report)
        if result["kind"] == "saved":
            self._saved = result | {"rows": []}
        if report.done:
            outcome = trainer.result()
            with replacing(self._job.predictions) as aside:
                trainer.predictions().to_parquet(aside, index=False)
            result |= {"kind": "ended", "status": outcome.status, "outcome": _plain(outcome.columns()), "done": True}
        return result

    def cleanup(self) -> None:
        """Free device memory: a reused actor stays alive."""
        self._release()

    def _start(self) -> Trainer:
        job = self._job
        self._handler = _log_to(job.log_file)
        if self._gate is None:
            self._gate = self._make_gate()
        store = FileCheckpointStore(job.checkpoints, attempt=job.attempt, key=job.spec.key)
        data = _trial_data(job)
        self._trainer = Trainer(job.spec, job.record, data, gate=self._gate, store=store)
        return self._trainer

    def _release(self) -> None:
        self._trainer = self._saved = None
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


def _answer(report: Report) -> dict[str, Any]:
    rows = [{"step": row.step, "epoch": row.epoch, "values": _plain(row.values)} for row in report.rows]
    if report.kind == "progress" and report.loss is not None:
        rows.append({"step": report.step, "epoch": report.epoch, "values": _plain({"step_loss": report.loss})})
    ending = report.saved and report.action in (Action.STOP, Action.DRAIN)
    return {
        "kind": "saved" if ending else report.kind,
        "step": report.step,
        "total_steps": report.total_steps,
        "epoch": report.epoch,
        "rows": rows,
        "done": False,
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity as None: JSON has no words for them."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _log_to(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("trainables").setLevel(logging.INFO)
    return handler
