"""Delivers a ledger to one tracker: follows the file, tries again with back-off, keeps failures apart by key."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.rundir.ledger import AnyRecord, LedgerView
from runner.rundir.ledger.chain import Chain
from runner.rundir.ledger.reader import bounded_lines, parse
from runner.tracking.tracker import RESTART_CODE, RefusedError, Status, Tracker, UnusableError, key_of
from trainables.errors import LedgerError, Problem

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
BACKOFF_CLOSING_S = 0.5  # while closing, every moment counts
OUTAGE_FAILURES = 3  # keys that fail one after the other before the tracker as a whole counts as down
CLOSE_PATIENCE = 0.25  # of the time to close: how long a tracker that is down, and takes nothing, is waited for
CLOSE_SHARE = 0.25  # of the time to close, kept back for ending open runs
CLOSE_SHARE_MAX_S = 3.0

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b")


class LedgerFollower:
    """Reads what was appended to a ledger since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._chain = Chain()

    def new(self) -> Iterator[AnyRecord]:
        """Complete new records; an unfinished last line waits for the next look.

        Raises:
            LedgerError: a damaged record, one that does not follow the last, or a line that is too long.
        """
        if not self._path.exists() or self._path.stat().st_size <= self._offset:
            return
        with self._path.open("rb") as handle:
            handle.seek(self._offset)
            for line in bounded_lines(handle, self._path):
                if not line.endswith(b"\n"):
                    return
                record = parse(line, self._chain, f"{self._path}:{self._chain.length + 1}")
                self._offset += len(line)
                yield record


@dataclass
class _Lane:
    """Records of one key that wait for delivery. A key that fails delays no other key; one that is refused is left."""

    waiting: list[AnyRecord] = field(default_factory=list)
    delivered: int = 0
    failures: int = 0
    due: float = 0.0
    refused: bool = False

    @property
    def open(self) -> bool:
        """Whether there is anything to try."""
        return bool(self.waiting) and not self.refused


class Delivery:
    """Brings a tracker level with a ledger.

    Args:
        tracker: where records go.
        ledger: the ledger's file; it may not exist yet.
        report: called with the status whenever it changed.
        secrets: texts that must not appear in any message.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        tracker: Tracker,
        ledger: Path,
        report: Callable[[Status], None],
        secrets: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracker = tracker
        self._follower = LedgerFollower(ledger)
        self._report = report
        self._secrets = secrets
        self._clock = clock
        self._view = LedgerView()
        self._lanes: dict[str | None, _Lane] = {}
        self._known = 0
        self._said: set[str] = set()
        self._failures_in_a_row = 0
        self._quiet_until = 0.0
        self._backoff_max_s = BACKOFF_MAX_S
        self._last = Status(delivered=0, known=0)

    def turn(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Read what is new and deliver what is due; returns whether nothing is left to deliver.

        Args:
            stop: asked between keys; True breaks off.
        """
        self._read()
        for key in sorted(self._lanes, key=lambda key: (key is None, key or "")):  # trials before the sweep's end
            lane = self._lanes[key]
            now = self._clock()
            if now < self._quiet_until or stop():
                break
            if lane.open and now >= lane.due:
                self._deliver(lane)
        self._tell()
        return not any(lane.open for lane in self._lanes.values())

    def close(self, left_s: Callable[[], float]) -> None:
        """Deliver until nothing is left or time is up, then end the tracker.

        Args:
            left_s: how much time is left; it may fall faster than the clock goes.
        """
        reserve_s = min(CLOSE_SHARE * left_s(), CLOSE_SHARE_MAX_S)
        patience_s, before = CLOSE_PATIENCE * left_s(), self._delivered()
        began = self._clock()
        self._backoff_max_s = BACKOFF_CLOSING_S
        self._quiet_until = 0.0
        for lane in self._lanes.values():
            lane.due = 0.0
        while not self.turn(lambda: left_s() <= reserve_s) and (rest_s := left_s() - reserve_s) > 0:
            if self._clock() - began > patience_s and self._delivered() == before and self._failures_in_a_row:
                break
            time.sleep(min(BACKOFF_CLOSING_S / 2, rest_s))
        self._end_tracker()
        self._tell(done=True)

    def _read(self) -> None:
        try:
            for record in self._follower.new():
                self._known += 1
                self._lanes.setdefault(key_of(record), _Lane()).waiting.append(record)
                self._view.apply(record)
        except (LedgerError, OSError) as error:
            self._say(Problem(place="ledger", message=str(error)))

    def _deliver(self, lane: _Lane) -> None:
        try:
            self._tracker.consume(tuple(lane.waiting), self._view)
        except (UnusableError, RefusedError) as error:
            cause = error.__cause__
            self._say(self._explain(cause if isinstance(cause, Exception) else error))
            lane.refused = True
            if isinstance(error, UnusableError):
                raise SystemExit(RESTART_CODE) from error
        except Exception as error:
            lane.failures += 1
            self._failures_in_a_row += 1
            lane.due = self._clock() + self._backoff(lane.failures)
            if self._failures_in_a_row >= OUTAGE_FAILURES:
                self._quiet_until = self._clock() + self._backoff(self._failures_in_a_row - OUTAGE_FAILURES + 1)
            self._say(self._explain(error))
        else:
            if self._failures_in_a_row >= OUTAGE_FAILURES:  # it was down as a whole: everybody may try again
                self._tell(notes=("it is reachable again",))
                for other in self._lanes.values():
                    other.due = 0.0
            lane.delivered += len(lane.waiting)
            lane.waiting.clear()
            lane.failures = self._failures_in_a_row = 0

    def _delivered(self) -> int:
        return sum(lane.delivered for lane in self._lanes.values())

    def _backoff(self, failures: int) -> float:
        return min(BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16), self._backoff_max_s)

    def _end_tracker(self) -> None:
        try:
            unsure = self._tracker.close(complete=self._view.ended is not None)
        except Exception as error:
            self._say(self._explain(error))
            return
        for key, reason in unsure.items():
            self._lanes[key].delivered = 0
            self._say(self._explain(reason))

    # ---- what is said --------------------------------------------------------------------------------------------

    def _explain(self, error: Exception) -> Problem:
        log.info("%s", error, exc_info=error)  # the tracker's own log has it all
        try:
            return self._tracker.explain(error)
        except Exception:
            return Problem(place="", message=f"{type(error).__name__}: {error}")

    def _say(self, problem: Problem) -> None:
        """Pass a problem on, once, without addresses (they would make every message a new one) and secrets."""
        text = _ADDRESS.sub("", str(problem))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if text not in self._said:
            self._said.add(text)
            self._tell(errors=(text,))

    def _tell(self, *, errors: tuple[str, ...] = (), notes: tuple[str, ...] = (), done: bool = False) -> None:
        status = Status(delivered=self._delivered(), known=self._known, errors=errors, notes=notes, done=done)
        if status != self._last:
            self._last = status
            self._report(status)
