"""The one way into the ledger while a sweep runs: append, fold, tell the listeners."""

import logging
import threading
import time
from collections.abc import Callable

from runner.rundir.ledger import AnyRecord, Ledger, LedgerView, read
from runner.rundir.paths import RunPaths

log = logging.getLogger(__name__)
Listener = Callable[[AnyRecord, LedgerView], None]
RETRY_S = 1.0


class Recorder:
    """Appends records to a run's ledger and passes each numbered record on.

    A record that cannot be written is tried again for `patience_s`; meanwhile the driver pauses, and with it
    every trial, which gets no answer to its last report. A listener that fails is reported once and dropped: nothing
    that only watches may harm a sweep.
    """

    def __init__(self, paths: RunPaths, patience_s: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._ledger = Ledger(paths.ledger)
        self._listeners: list[Listener] = []
        self._patience_s = patience_s
        self._hurried: Callable[[], bool] = lambda: False
        self._reported = False
        self.on_lost: Callable[[str], None] = log.error  # called once, with what happened, when `lost` becomes true
        try:
            self.view = read(paths.ledger)
        except BaseException:
            self._ledger.close()
            raise

    def listen(self, listener: Listener) -> None:
        """Add a listener; it is called in the thread that records."""
        self._listeners.append(listener)

    def wait_unless(self, hurried: Callable[[], bool]) -> None:
        """Do not wait for the disk while this says so: the sweep is to end."""
        self._hurried = hurried

    @property
    def lost(self) -> str:
        """What something else did to the ledger's file, and where its records are; empty where it is as it was left."""
        return self._ledger.lost

    def content(self) -> bytes:
        """All lines of the ledger, whatever has become of its file."""
        return self._ledger.content()

    @property
    def size_bytes(self) -> int:
        """Of all lines of the ledger."""
        return self._ledger.size_bytes

    def check(self) -> str:
        """Look after the ledger's file as before each record; returns `lost`.

        Raises:
            OSError: the file was changed, and the records cannot be written to another one.
        """
        self._ledger.check()
        self._report_loss()
        return self.lost

    def record(self, record: AnyRecord) -> None:
        """Write one record. Where the ledger's file was changed by something else, it goes into the rescue file.

        Raises:
            OSError: the ledger cannot be written, not after `patience_s` either; nothing was passed on. From then on
                there is no more waiting.
        """
        with self._lock:
            numbered = self._append(record)
            self.view.apply(numbered)
        self._report_loss()
        for listener in list(self._listeners):
            try:
                listener(numbered, self.view)
            except Exception:
                log.exception("a listener failed and is no longer called")
                self._listeners.remove(listener)

    def _report_loss(self) -> None:
        if self.lost and not self._reported:
            self._reported = True
            self.on_lost(self.lost)

    def _append(self, record: AnyRecord) -> AnyRecord:
        deadline: float | None = None
        while True:
            try:
                numbered = self._ledger.append(record)
            except OSError as error:
                if deadline is None:
                    deadline = time.monotonic() + self._patience_s
                    log.warning("%s: %s; all trials wait for up to %.0f s", self._ledger.path, error, self._patience_s)
                if self._hurried() or time.monotonic() >= deadline:
                    self._patience_s = 0.0
                    raise
                time.sleep(min(RETRY_S, self._patience_s))
            else:
                if deadline is not None:
                    log.warning("%s can be written again", self._ledger.path)
                return numbered

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()
