"""What the driver does with checkpoints: it numbers the attempts, and removes what a finished cell needs no more."""

import re
from pathlib import Path

from runner.rundir.ledger import FINAL, AnyRecord, CellEnded, CellState, LedgerView, Status
from runner.rundir.paths import RunPaths
from trainables.checkpoints.file_store import remove_checkpoints

# An infeasible cell may have begun on a larger host, and go on there.
OVER: frozenset[Status] = FINAL - {"infeasible"}
_MARK = re.compile(r"attempt-(\d+)\.json")


def next_attempt(folder: Path, state: CellState) -> int:
    """Number of a cell's next attempt: above those in the ledger, and above those that left a mark in its folder.

    A driver on another machine may have died before its last records reached the storage; the marks have.
    """
    marks = [int(match[1]) for path in folder.glob("attempt-*.json") if (match := _MARK.fullmatch(path.name))]
    return max([*(attempt.attempt for attempt in state.attempts), *marks], default=0) + 1


class Pruner:
    """Removes the checkpoints of cells that are over; the best weights stay. A listener of the recorder."""

    def __init__(self, paths: RunPaths, view: LedgerView) -> None:
        """Remove those whose driver died before it could."""
        self._paths = paths
        for key, state in view.cells.items():
            if state.status in OVER:
                remove_checkpoints(paths.checkpoint(key))

    def on_record(self, record: AnyRecord, view: LedgerView) -> None:
        """Remove a cell's checkpoints once its end is on disk."""
        if isinstance(record, CellEnded) and record.status in OVER:
            remove_checkpoints(self._paths.checkpoint(record.key))
