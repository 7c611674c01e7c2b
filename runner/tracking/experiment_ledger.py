"""The ledger of a Tune experiment that is no sweep of ours: what Tune's hooks report, as ledger records.

Records are written by a thread, so that a slow disk does not hold up the experiment; a driver that is killed loses
those of its last moments.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from queue import SimpleQueue
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS, TRAINING_ITERATION

from runner.rundir.ledger import (
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
    read,
)
from runner.rundir.paths import RunPaths
from runner.tracking.fields import finite, flatten
from trainables.schema import KEY_LENGTH

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0  # the longest wait for a disk at the end
_MAX_ERROR_CHARACTERS = 2000


class ExperimentLedger:
    """Turns a Tune experiment into records. No method waits for the disk."""

    def __init__(self, paths: RunPaths, experiment: str) -> None:
        """Open the ledger, and continue it where the experiment was run before.

        Args:
            paths: of a folder that belongs to this ledger alone.
            experiment: name of the experiment; with a trial's id, it identifies the trial.

        Raises:
            LedgerError: the folder holds a damaged ledger.
            OSError: the folder cannot be written.
        """
        self._experiment = experiment
        view = read(paths.ledger)
        self._known = set(view.cells)
        self._attempts = {key: len(state.attempts) for key, state in view.cells.items()}
        self._ledger = Ledger(paths.ledger)
        self._waiting: SimpleQueue[AnyRecord | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="experiment-ledger", daemon=True)
        self._thread.start()
        started = SweepStarted(
            run=experiment, keys=tuple(self._known), config={"experiment": experiment}, code_version="", versions={}
        )
        self._waiting.put(started)

    def key(self, trial: Any) -> str:
        """Identity of a trial in every tracker, across restarts: twelve hex digits of experiment and trial id."""
        return sha256(f"{self._experiment}/{trial.trial_id}".encode()).hexdigest()[:KEY_LENGTH]

    def started(self, trial: Any) -> None:
        """A trial starts, or starts again after a pause, a failure or a restart."""
        key = self.key(trial)
        if key not in self._known:
            self._known.add(key)
            config = json.loads(json.dumps(trial.config, default=str))
            labels = {"experiment": self._experiment, "trial_id": trial.trial_id}
            self._waiting.put(CellRecorded(key=key, name=str(trial), labels=labels, sizes={}, spec=config))
        self._attempts[key] = self._attempts.get(key, 0) + 1
        self._waiting.put(AttemptStarted(key=key, attempt=self._attempts[key], execution={}))

    def reported(self, trial: Any, result: Mapping[str, Any]) -> None:
        """Numbers that a trial reports, nested ones by dotted names, at its training iteration."""
        key, step = self.key(trial), int(result.get(TRAINING_ITERATION, 0))
        values: dict[str, float | None] = {**_numbers(result)}
        self._waiting.put(
            MetricsRecorded(key=key, attempt=self._attempts.get(key, 1), step=step, epoch=step, values=values)
        )

    def completed(self, trial: Any) -> None:
        """A trial has ended in good order; its last numbers are its results."""
        key = self.key(trial)
        result = _numbers(trial.last_result or {})
        self._waiting.put(
            CellEnded(key=key, attempt=self._attempts.get(key, 1), status="finished", result=dict(result))
        )

    def failed(self, trial: Any) -> None:
        """A trial has failed, with the last line of its error."""
        key = self.key(trial)
        lines = str(trial.get_error() or "").strip().splitlines()
        reason = lines[-1][:_MAX_ERROR_CHARACTERS] if lines else "the trial's process died"
        self._waiting.put(CellEnded(key=key, attempt=self._attempts.get(key, 1), status="failed", reason=reason))

    def close(self, trials: list[Any]) -> None:
        """Record the end of the experiment, and wait for the disk at most `CLOSE_TIMEOUT_S`."""
        counts: dict[str, int] = {}
        for trial in trials:
            counts[trial.status.lower()] = counts.get(trial.status.lower(), 0) + 1
        unfinished = sum(count for status, count in counts.items() if status not in ("terminated", "error"))
        code = 3 if unfinished else 1 if counts.get("error") else 0
        self._waiting.put(SweepEnded(exit_code=code, counts=counts))
        self._waiting.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _write(self) -> None:
        append: Callable[[AnyRecord], AnyRecord] = self._ledger.append
        while (record := self._waiting.get()) is not None:
            try:
                append(record)
            except OSError as error:
                log.error("%s: %s; a record of kind %s is lost", self._ledger.path, error, record.kind)
        self._ledger.close()


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    own = {name: value for name, value in result.items() if name not in AUTO_RESULT_KEYS and name != "done"}
    return finite(dict(flatten(own)))
