"""What a tracker is, and the queue that feeds one without ever holding up the sweep.

The ledger file is the queue: it is unbounded, durable and complete. A tracker's process (`runner.tracking.worker`)
follows it from its first line, so that records an earlier driver could not deliver are delivered, too. The driver only
notes how far the ledger has got; a daemon thread starts that process, starts it again when it dies, and listens to it.
Neither a slow server nor a crash, a hang or a global side effect of a tracking library can reach the driver.
"""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, SecretStr

from runner.config.settings import tracker_environment
from runner.rundir.ledger import AnyRecord, LedgerView, last_seq
from runner.rundir.paths import RunPaths
from trainables.errors import Problem
from trainables.files import open_appending
from trainables.parts import PartConfig, plugins

log = logging.getLogger(__name__)

RESTART_FIRST_S = 1.0
RESTART_MAX_S = 60.0
KILL_MARGIN_S = 0.25  # of the time to close, kept back for ending a process that hangs


RESTART_CODE = 75  # how the process ends that wants to be started again (EX_TEMPFAIL of sysexits.h)


class UnusableError(Exception):
    """The tracking library is beyond repair in this process; a new process can go on. Its cause is what happened."""


class RefusedError(Exception):
    """Trying these records again changes nothing until somebody changes something. Its cause is what happened."""


class Tracker(Protocol):
    """A place that shows a run. Its state is brought level with the ledger; doing that twice changes nothing."""

    name: str

    def consume(self, records: Sequence[AnyRecord], view: LedgerView) -> None:
        """Take in records of one key, or of the sweep as a whole, in order.

        Args:
            records: not empty; all of one key, or all without a key. After an error they are handed in again.
            view: the ledger folded up to its last known record.

        Raises:
            UnusableError: this process can deliver nothing more.
            RefusedError: these records are refused for good.
            Exception: anything else; the records count as not delivered.
        """

    def close(self, complete: bool) -> Mapping[str, Exception]:
        """End what is open; returns the keys whose records may not have arrived, each with the reason.

        Args:
            complete: whether the sweep ended in good order; what is left open then or otherwise was interrupted.
        """

    def explain(self, error: Exception) -> Problem:
        """An error of this tracker in plain words, with the fix."""


class Target(PartConfig):
    """A tracker that is to be delivered to: its name as a part, and what it is made of; the config of what ships."""

    kind: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets in the clear, so that they can be kept out of messages."""
        values = (value for _, value in self if isinstance(value, SecretStr))
        return tuple(value.get_secret_value() for value in values if value.get_secret_value())

    def revealed(self) -> dict[str, Any]:
        """All fields, secrets in the clear: for the pipe to the tracker's own process and for nothing else."""
        return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in self}

    def environment(self) -> dict[str, str]:
        """Settings that the tracking library takes from the environment alone; for the tracker's own process."""
        return {}

    def working_folder(self, root: Path) -> Path:
        """Where the tracker's process works; relative addresses start there."""
        return root.parent


class OwnTarget(Target):
    """A tracker of one's own. Its process works in the runs' folder and has the driver's environment."""

    config: dict[str, Any]

    def revealed(self) -> dict[str, Any]:
        """Its config."""
        return self.config


class Status(BaseModel):
    """One line from the tracker's process to the driver."""

    kind: Literal["status"] = "status"
    delivered: int
    known: int
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    done: bool = False


@dataclass(frozen=True)
class TrackerReport:
    """What became of the records of a run.

    Attributes:
        name: the tracker's name.
        delivered: ledger records that have arrived, those of earlier drivers included.
        pending: ledger records that have not.
        errors: every distinct error, in plain words.
    """

    name: str
    delivered: int
    pending: int
    errors: tuple[str, ...]


def key_of(record: AnyRecord) -> str | None:
    """The key that a record is about, or None where it is about the sweep."""
    return getattr(record, "key", None)


def ledger_id(view: LedgerView) -> str:
    """Eight hex digits that tell one ledger from all others; they survive moving or renaming the run directory."""
    first = view.sweeps[0]
    return sha256(f"{first.run}|{first.time.isoformat()}".encode()).hexdigest()[:8]


class TrackerQueue:
    """Brings one tracker level with a run's ledger, in the background."""

    def __init__(self, target: Target, paths: RunPaths) -> None:
        self.name = target.kind
        self._target = target
        self._paths = paths
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._status = Status(delivered=0, known=0)
        self._errors: list[str] = []
        self._restart_s = RESTART_FIRST_S

    def start(self) -> None:
        """Begin to deliver, if that has not begun: all that the ledger holds, and what is added to it. Never blocks."""
        if self._thread is not None or self._closing.is_set():
            return
        thread = threading.Thread(target=self._supervise, name=f"tracker-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads: the next record tries again
            self._say_error(f"{self.name}: {error}\n    fix: raise the limit on processes and threads")
        else:
            self._thread = thread

    def close(self, timeout_s: float) -> TrackerReport:
        """Deliver what time allows, end the tracker's process, and say what is left. Returns in about `timeout_s`."""
        self.order_close(timeout_s)
        if self._thread is not None:
            self._thread.join(max(0.0, self._deadline - time.monotonic()))
            with self._lock:
                if self._process is not None and self._process.poll() is None:
                    self._process.kill()
            self._thread.join(KILL_MARGIN_S)
        known = max(self._status.known, last_seq(self._paths.ledger) + 1)
        pending = known - self._status.delivered
        if pending:
            log.warning(
                "%s: %d of %d records have not arrived\n    fix: isotherm sync %s",
                self.name,
                pending,
                known,
                self._paths.root,
            )
        return TrackerReport(self.name, self._status.delivered, pending, tuple(self._errors))

    def order_close(self, timeout_s: float) -> None:
        """Give the order to close without waiting; `close` then waits until the time set here."""
        with self._lock:
            if self._closing.is_set():
                return
            self._deadline = time.monotonic() + timeout_s
            self._closing.set()
            self._order()

    # ---- in the thread -------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        """Keep the process alive until it has done all there is to do, or time is up."""
        while True:
            try:
                self._run_process()
            except Exception as error:
                self._say_error(f"{self.name}: its process cannot run: {error}")
            if self._status.done or time.monotonic() > self._deadline - KILL_MARGIN_S:
                return
            self._closing.wait(self._restart_s)
            if self._closing.is_set():  # too little time is left for a patient back-off
                time.sleep(min(RESTART_FIRST_S, max(0.0, self._deadline - time.monotonic())))
            self._restart_s = min(2 * self._restart_s, RESTART_MAX_S)

    def _run_process(self) -> None:
        """Start the process and listen to it until it ends."""
        root = self._paths.root.resolve()
        with open_appending(self._paths.writable(self._paths.logs / f"{self.name}.log")) as library_log:
            process = subprocess.Popen(
                # -P: the runs folder, which is the working directory, must not become a place to import from
                [sys.executable, "-P", "-m", "runner.tracking.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=library_log,
                text=True,
                cwd=self._target.working_folder(root),
                env=tracker_environment(),
                start_new_session=True,  # a Ctrl-C is for the driver, which then closes its trackers in good order
            )
        with process:
            with self._lock:
                self._process = process
                job = {"root": str(root), "tracker": self.name, "config": self._target.revealed()}
                self._send(json.dumps(job | {"plugins": [plugin.model_dump() for plugin in plugins.loaded()]}))
                self._order()
            assert process.stdout is not None
            for line in process.stdout:
                self._take(Status.model_validate_json(line))
        ended_by_us = time.monotonic() >= self._deadline
        if process.returncode not in (0, RESTART_CODE) and not self._status.done and not ended_by_us:
            log_file = self._paths.logs / f"{self.name}.log"
            raise RuntimeError(f"it ended with code {process.returncode}\n    fix: see {log_file}; it is started again")

    def _order(self) -> None:
        """Tell the process to close, if that is wanted. Holds the lock."""
        if self._closing.is_set():
            self._send(f"{max(0.0, self._deadline - KILL_MARGIN_S - time.monotonic()):.2f}")

    def _send(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            log.debug("%s: the process is gone", self.name)  # its end is noticed and reported where it is listened to

    def _take(self, status: Status) -> None:
        self._status = status
        if status.delivered:
            self._restart_s = RESTART_FIRST_S
        for note in status.notes:
            log.info("%s: %s", self.name, note)
        for error in status.errors:
            self._say_error(f"{self.name}: {error}")

    def _say_error(self, text: str) -> None:
        """Every error once."""
        if text not in self._errors:
            self._errors.append(text)
            log.warning("%s", text)


def close_all(queues: Iterable[TrackerQueue], timeout_s: float) -> tuple[TrackerReport, ...]:
    """Close several queues within one time limit."""
    queues = tuple(queues)
    for queue in queues:
        queue.order_close(timeout_s)
    return tuple(queue.close(timeout_s) for queue in queues)
