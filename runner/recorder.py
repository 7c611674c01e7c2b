"""The one way into the ledger while a sweep runs: append, fold, tell the listeners."""

import logging
import threading
from collections.abc import Callable

from runner.ledger import AnyRecord, Ledger, LedgerView, read
from runner.paths import RunPaths

log = logging.getLogger(__name__)
Listener = Callable[[AnyRecord, LedgerView], None]


class Recorder:
    """Appends records to a run's ledger and passes each numbered record on.

    A listener that fails is reported once and dropped: nothing that only watches may harm a sweep.
    """

    def __init__(self, paths: RunPaths) -> None:
        self._lock = threading.Lock()
        self._ledger = Ledger(paths.ledger)
        self._listeners: list[Listener] = []
        self.view = read(paths.ledger)

    def listen(self, listener: Listener) -> None:
        """Add a listener; it is called in the thread that records."""
        self._listeners.append(listener)

    def record(self, record: AnyRecord) -> None:
        """Write one record.

        Raises:
            OSError: the ledger cannot be written; nothing was passed on.
        """
        with self._lock:
            numbered = self._ledger.append(record)
            self.view.apply(numbered)
        for listener in list(self._listeners):
            try:
                listener(numbered, self.view)
            except Exception:
                log.exception("a listener failed and is no longer called")
                self._listeners.remove(listener)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()
