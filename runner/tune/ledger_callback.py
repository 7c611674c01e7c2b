"""Turns what Tune reports into ledger records. The driver's only writer while trials run."""

import logging
from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from runner.rundir.ledger import AnyRecord, AttemptStarted, CellEnded, EventRecorded, MetricsRecorded, Status
from runner.tune.failures import Failure

log = logging.getLogger(__name__)
LOG_LINES = 50
ENDED_BY_USER = "ended by isotherm stop; the next sweep resumes it from its last checkpoint"


class LedgerCallback(Callback):  # type: ignore[misc]
    """Records starts, metrics and ends.

    An exception in a Tune callback would end the whole sweep, and it would do so without a word to the user; so a
    record that cannot be written is handed to `on_failure`, which ends the sweep in good order.
    """

    def __init__(
        self,
        record: Callable[[AnyRecord], None],
        *,
        on_failure: Callable[[BaseException], None],
        on_running: Callable[[str, bool], None],
        on_saved: Callable[[str], None],
        diagnose: Callable[[str, Failure], tuple[Status, str]],
        last_lines: Callable[[str], tuple[str, ...]],
        code_version: str,
        device_name: str,
        pruned: Callable[[str], str] = lambda _: "",
        is_ended: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`pruned` says why a scheduler has just ended a trial, `is_ended` whether a user has; the others are clear."""
        self._record = record
        self._on_failure = on_failure
        self._on_running = on_running
        self._on_saved = on_saved
        self._diagnose = diagnose
        self._last_lines = last_lines
        self._code_version = code_version
        self._device_name = device_name
        self._pruned, self._is_ended = pruned, is_ended
        self._open: set[str] = set()  # keys of attempts without a recorded end

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks into a snapshot that is never read back."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the attempt."""
        job = trial.config["job"]
        self._on_running(job["key"], True)
        self._open.add(job["key"])
        self._try(
            AttemptStarted(
                key=job["key"],
                attempt=job["attempt"],
                execution=job["execution"],
                device_name=self._device_name,
                code_version=self._code_version,
            )
        )

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record metrics; heartbeats are left out."""
        job = trial.config["job"]
        for row in result.get("rows", ()):
            self._try(MetricsRecorded(key=job["key"], attempt=job["attempt"], **row))
        for words in result.get("storage", ()):
            self._try(EventRecorded(what="storage", message=words, key=job["key"]))
        if result.get("kind") == "saved":
            self._on_saved(job["key"])
        if result.get("kind") == "ended":
            outcome = result["outcome"]
            ended = {"status": result["status"], "reason": outcome.get("reason") or "", "result": outcome}
            self._try(CellEnded(key=job["key"], attempt=job["attempt"], **ended))
        elif reason := self._pruned(job["key"]):
            last = result["rows"][-1]
            seconds = result.get("train_seconds")
            outcome = {"steps": last["step"], "epochs": last["epoch"], "train_seconds": seconds, "reason": reason}
            ended = {"status": "pruned", "reason": reason, "result": outcome}
            self._try(CellEnded(key=job["key"], attempt=job["attempt"], **ended))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial no longer runs; its end was recorded with its last result, but for one that a user has ended."""
        job = trial.config["job"]
        if job["key"] in self._open and self._is_ended(job["key"]):
            self._try(CellEnded(key=job["key"], attempt=job["attempt"], status="interrupted", reason=ENDED_BY_USER))
        self._on_running(job["key"], False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a crash of the worker, with what it said last."""
        job = trial.config["job"]
        failure = Failure.of(trial)
        status, reason = self._diagnose(job["key"], failure)
        lines = (*self._last_lines(job["key"]), *failure.text.splitlines())[-LOG_LINES:]
        ended = {"status": status, "reason": reason or failure.words, "log": lines}
        self._try(CellEnded(key=job["key"], attempt=job["attempt"], **ended))
        self._on_running(job["key"], False)

    def _try(self, record: AnyRecord) -> None:
        if isinstance(record, CellEnded):
            self._open.discard(record.key)
        try:
            self._record(record)
        except Exception as error:
            log.error("the ledger cannot be written: %s", error)
            self._on_failure(error)
