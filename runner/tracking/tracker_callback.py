"""The base of the callbacks that pass ledger records on to a tracker."""

import logging
from typing import Any

from ray.tune import Callback

from runner.ledger import AnyRecord, LedgerView
from runner.tracking.tracker import TrackerQueue

log = logging.getLogger(__name__)


class TrackerCallback(Callback):  # type: ignore[misc]
    """Holds one tracker's queue.

    Records come from the ledger, through `on_record`, and not from Tune: so what a tracker shows is what the ledger
    holds, and can be made again from it. An exception in a Tune callback would end the sweep; none of these raises.
    Tune pickles its callbacks into a snapshot that is never read back: the pickle is empty, and a callback that comes
    out of one does nothing.
    """

    def __init__(self, queue: TrackerQueue | None) -> None:
        self.queue = queue

    def __getstate__(self) -> dict[str, Any]:
        return {"queue": None}

    def on_record(self, record: AnyRecord, view: LedgerView | None = None) -> None:
        """Take note of a record that was just written to the ledger; a listener of `runner.recorder.Recorder`."""
        try:
            if self.queue is not None:
                self.queue.put(record)
        except Exception:
            log.exception("a tracker failed; the sweep goes on")
