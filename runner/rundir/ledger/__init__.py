"""The ledger: append-only JSON lines, one record per line, the truth about a run.

Written by the driver alone and flushed to disk per record. Everything else in a run directory can be rebuilt from it
and the predictions. `Ledger` writes, `read` folds a file into a `LedgerView`.
"""

from runner.rundir.ledger.reader import last_seq, read, records
from runner.rundir.ledger.records import (
    FINAL,
    REPORT,
    SCHEMA_VERSION,
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    EventRecorded,
    MetricsRecorded,
    Record,
    Status,
    StudyPredicted,
    SweepEnded,
    SweepStarted,
    TrialSuggested,
    WinnerChosen,
)
from runner.rundir.ledger.view import CellState, LedgerView, fold
from runner.rundir.ledger.writer import Ledger, is_written

__all__ = [
    "FINAL",
    "REPORT",
    "SCHEMA_VERSION",
    "AnyRecord",
    "AttemptStarted",
    "CellEnded",
    "CellRecorded",
    "CellState",
    "EventRecorded",
    "Ledger",
    "LedgerView",
    "MetricsRecorded",
    "Record",
    "Status",
    "StudyPredicted",
    "SweepEnded",
    "SweepStarted",
    "TrialSuggested",
    "WinnerChosen",
    "fold",
    "is_written",
    "last_seq",
    "read",
    "records",
]
