"""A ledger folded to its latest state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Literal

from runner.rundir.ledger.records import (
    FINAL,
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    EventRecorded,
    MetricsRecorded,
    Status,
    StudyPredicted,
    SweepEnded,
    SweepStarted,
    TrialSuggested,
    WinnerChosen,
)
from trainables.errors import LedgerError


@dataclass
class CellState:
    """All that a ledger says of one key."""

    cell: CellRecorded
    attempts: list[AttemptStarted] = field(default_factory=list)
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    ended: CellEnded | None = None
    last_time: datetime | None = None
    max_celsius: float | None = None  # over all attempts
    _joules: dict[int, float] = field(default_factory=dict)  # by attempt

    def measured(self, values: Mapping[str, Any]) -> None:
        """Take note of the temperature and the energy of the attempt so far."""
        if (celsius := values.get("max_celsius")) is not None:
            self.max_celsius = celsius if self.max_celsius is None else max(self.max_celsius, celsius)
        if (joules := values.get("joules")) is not None:
            self._joules[len(self.attempts)] = joules

    @property
    def joules(self) -> float | None:
        """Energy that the trial's device took for it, over all attempts; None where it was not measured."""
        return sum(self._joules.values()) if self._joules else None

    @property
    def status(self) -> Status | Literal["running", "waiting"]:
        """Status of the latest attempt; `running` while it has no end, `waiting` before the first."""
        if self.ended is not None:
            return self.ended.status
        return "running" if self.attempts else "waiting"

    @property
    def final(self) -> bool:
        """Whether the cell must not be run again."""
        return self.ended is not None and self.ended.status in FINAL

    @property
    def execution(self) -> dict[str, Any] | None:
        """The pinned execution record, if the cell was ever started."""
        return self.attempts[-1].execution if self.attempts else None


@dataclass
class LedgerView:
    """A ledger folded to its latest state."""

    cells: dict[str, CellState] = field(default_factory=dict)
    sweeps: list[SweepStarted] = field(default_factory=list)
    ends: list[SweepEnded] = field(default_factory=list)
    events: list[EventRecorded] = field(default_factory=list)
    suggested: dict[str, dict[int, TrialSuggested]] = field(default_factory=dict)  # by study and number
    predicted: dict[str, StudyPredicted] = field(default_factory=dict)  # by study
    winners: dict[str, WinnerChosen] = field(default_factory=dict)  # by study

    @property
    def studies(self) -> dict[str, dict[str, Any]]:
        """Studies of the search as it was last started, by identity, in the grid's order."""
        return {study["study"]: study for study in (self.sweeps[-1].studies if self.sweeps else ())}

    @property
    def compared_keys(self) -> tuple[str, ...]:
        """Keys that laws and headline numbers are made of: of the grid as it was last started, and the confirmed."""
        confirmed = (self.winners[study].keys for study in self.studies if study in self.winners)
        return tuple(dict.fromkeys([*(self.sweeps[-1].keys if self.sweeps else ()), *chain.from_iterable(confirmed)]))

    @property
    def searched_keys(self) -> tuple[str, ...]:
        """Keys that the studies of the latest start have suggested, in the order of studies and numbers."""
        numbered = (self.suggested.get(study, {}) for study in self.studies)
        return tuple(dict.fromkeys(of_one[number].key for of_one in numbered for number in sorted(of_one)))

    @property
    def current_keys(self) -> tuple[str, ...]:
        """Keys of the grid as it was last started, in its order; then those of its search."""
        return tuple(dict.fromkeys([*self.compared_keys, *self.searched_keys]))

    @property
    def current(self) -> dict[str, CellState]:
        """Cells of the current grid and of its search."""
        return {key: self.cells[key] for key in self.current_keys if key in self.cells}

    @property
    def compared(self) -> dict[str, CellState]:
        """Cells that laws and headline numbers are made of."""
        return {key: self.cells[key] for key in self.compared_keys if key in self.cells}

    @property
    def ended(self) -> SweepEnded | None:
        """The end of the latest sweep, or None while it runs or after a crash."""
        if self.ends and self.sweeps and self.ends[-1].seq > self.sweeps[-1].seq:
            return self.ends[-1]
        return None

    def apply(self, record: AnyRecord) -> None:
        """Fold one more record in."""
        match record:
            case SweepStarted():
                self.sweeps.append(record)
            case SweepEnded():
                self.ends.append(record)
            case EventRecorded():
                self.events.append(record)
            case CellRecorded():
                if record.key in self.cells:
                    self.cells[record.key].cell = record
                else:
                    self.cells[record.key] = CellState(record)
            case TrialSuggested():
                self.suggested.setdefault(record.study, {})[record.number] = record
            case StudyPredicted():
                self.predicted[record.study] = record
            case WinnerChosen():
                self.winners[record.study] = record
            case AttemptStarted() | MetricsRecorded() | CellEnded():
                self._apply_to_cell(record)

    def _apply_to_cell(self, record: AttemptStarted | MetricsRecorded | CellEnded) -> None:
        state = self.cells.get(record.key)
        if state is None:
            raise LedgerError(
                f"ledger record {record.seq}: key {record.key} has no cell record before it\n"
                f"    fix: restore the ledger from a copy; it is append-only and must not be edited"
            )
        state.last_time = record.time
        if isinstance(record, AttemptStarted):
            state.attempts.append(record)
            state.ended = None
        elif isinstance(record, MetricsRecorded):
            state.metrics.setdefault(record.step, {}).update(record.values)
            state.measured(record.values)
            state.epochs[record.step] = record.epoch
        else:
            state.ended = record
            state.measured(record.result)


def fold(parts: Iterable[AnyRecord]) -> LedgerView:
    """Records, in order, folded to the latest state.

    Raises:
        LedgerError: a record of a key that has no cell record before it.
    """
    view = LedgerView()
    for record in parts:
        view.apply(record)
    return view
