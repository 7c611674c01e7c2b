"""When each attempt of a trial ran and what it spent its time on, folded from the ledger's records.

The ledger holds no stopwatch a second: it says when an attempt began, when its first metric arrived, when it ended, and
how many seconds of the whole trial were training, evaluation, holding and throttling. Their order within an attempt is
unknown beyond the start-up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runner.report.analysis.trials import clean
from runner.rundir.ledger import AnyRecord, AttemptStarted, CellEnded, CellRecorded, MetricsRecorded, SweepStarted

START_UP, TRAINING, EVALUATION = "start-up", "training", "evaluation"
HELD, THROTTLED, OTHER = "held", "throttled", "other"
PARTS = (START_UP, TRAINING, EVALUATION, HELD, THROTTLED, OTHER)
# Part -> the column of a trial's result that holds its seconds, all attempts together.
_BOOKED = {
    TRAINING: "train_seconds",
    EVALUATION: "evaluation_seconds",
    HELD: "held_seconds",
    THROTTLED: "throttled_seconds",
}


@dataclass(frozen=True)
class Attempt:
    """One attempt. `seconds` holds every part of `PARTS`; they add up to the attempt's length.

    What is left after all that was booked is `other`: saving, scoring, waiting for the driver, and all but the start-up
    of an attempt that was cut off before it could book anything.
    """

    key: str
    name: str
    kind: str
    start: datetime
    end: datetime
    seconds: dict[str, float]


@dataclass(frozen=True)
class Session:
    """From a driver's start to the last record before the next one's."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class History:
    """All that ran, in the order in which it began."""

    sessions: tuple[Session, ...]
    attempts: tuple[Attempt, ...]

    @property
    def slots(self) -> int:
        """How many attempts ran at once at the most."""
        return max([running for _, running in self.running()] + [1]) if self.attempts else 0

    def running(self) -> Iterator[tuple[datetime, int]]:
        """Every moment at which the number of running attempts changes, with the number from then on."""
        changes = sorted([(one.start, 1) for one in self.attempts] + [(one.end, -1) for one in self.attempts])
        running = 0
        for moment, change in changes:
            running += change
            yield moment, running

    @property
    def totals(self) -> dict[str, float]:
        """Seconds of each part, over all attempts."""
        return {part: sum(one.seconds[part] for one in self.attempts) for part in PARTS}

    @property
    def idle_seconds(self) -> float:
        """Time of the slots in which no attempt ran while a driver did."""
        return max(self.slots * sum(one.seconds for one in self.sessions) - sum(self.totals.values()), 0.0)


@dataclass
class _Open:
    start: datetime
    first: datetime | None = None


@dataclass
class _Fold:
    """The state of a pass over the records."""

    keys: frozenset[str]
    cells: dict[str, CellRecorded] = field(default_factory=dict)
    running: dict[str, _Open] = field(default_factory=dict)
    booked: dict[tuple[str, str], float] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    began: datetime | None = None
    latest: datetime | None = None

    def take(self, record: AnyRecord) -> None:
        """Fold one record in."""
        match record:
            case SweepStarted():
                self.close_session()
                self.began = record.time
            case CellRecorded():
                self.cells[record.key] = record
            case AttemptStarted() if record.key in self.keys:
                self.close(record.key, record.time, {})
                self.running[record.key] = _Open(record.time)
            case MetricsRecorded() if record.key in self.running:
                known = self.running[record.key]
                known.first = known.first or record.time
            case CellEnded():
                self.close(record.key, record.time, record.result)
            case _:
                pass
        self.latest = max(record.time, self.latest or record.time)  # a clock may be set back

    def close_session(self) -> None:
        """What still runs was cut off, at the last record at the latest."""
        if self.latest is None:
            return
        for key in tuple(self.running):
            self.close(key, self.latest, {})
        self.sessions.append(Session(self.began or self.latest, self.latest))

    def close(self, key: str, end: datetime, result: dict[str, Any]) -> None:
        """End a key's attempt, if one runs."""
        known = self.running.pop(key, None)
        if known is None:
            return
        end = max(end, known.start)
        length = (end - known.start).total_seconds()
        cell = self.cells[key]
        seconds = self._parts(key, known, length, result)
        self.attempts.append(Attempt(key, clean(cell.name), cell.cell_kind, known.start, end, seconds))

    def _parts(self, key: str, known: _Open, length: float, result: dict[str, Any]) -> dict[str, float]:
        seconds = {part: self._since_last(key, part, result.get(column)) for part, column in _BOOKED.items()}
        total = sum(seconds.values())
        if total > length:  # steps of an attempt that was cut off were booked by this one, which went on from them
            seconds = {part: value * length / total for part, value in seconds.items()}
            total = length
        before = (known.first - known.start).total_seconds() if known.first else (0.0 if total else length)
        start_up = max(min(before, length - total), 0.0)
        return {START_UP: start_up, **seconds, OTHER: length - total - start_up}

    def _since_last(self, key: str, part: str, value: float | None) -> float:
        """What this attempt added to a trial's account."""
        before = self.booked.get((key, part), 0.0)
        now = before if value is None else float(value)
        self.booked[key, part] = now
        return max(now - before, 0.0)


def history(records: Iterable[AnyRecord], keys: Iterable[str]) -> History:
    """Sessions and attempts of these keys; those that still run last until the latest record."""
    fold = _Fold(frozenset(keys))
    for record in records:
        fold.take(record)
    fold.close_session()
    return History(tuple(fold.sessions), tuple(sorted(fold.attempts, key=lambda one: one.start)))
