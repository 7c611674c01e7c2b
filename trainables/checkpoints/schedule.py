"""When a trial's state is written, and whether the present one is."""

import math
import time
from dataclasses import asdict

from trainables.checkpoints.file_store import CheckpointStore, State
from trainables.schema import TrialSpec
from trainables.training.progress import Position, TrialProgress, Waits

WRITE_SHARE = 20  # a write takes at most 1/20 of the time until the next (design, 'Identity and state')


class CheckpointSchedule:
    """A trial's dealings with its store; without a store every method does nothing."""

    def __init__(self, store: CheckpointStore | None, spec: TrialSpec, interval_s: float) -> None:
        self.store = store
        self._spec = spec
        self._interval_s = interval_s
        self._next_at = math.inf
        self._kept: Position = TrialProgress().position  # a trial that has not begun has nothing to lose

    def load(self) -> State | None:
        """The newest complete state."""
        return None if self.store is None else self.store.load()

    def begin(self, progress: TrialProgress) -> None:
        """Take note that the trial is where the store's newest state is; the interval starts."""
        self._kept = progress.position
        self._next_at = time.monotonic() + self._interval_s

    def has(self, progress: TrialProgress) -> bool:
        """Whether nothing would be lost if the process ended now."""
        return self.store is not None and self._kept == progress.position

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return self.store is not None and time.monotonic() >= self._next_at

    def save(self, state: State, progress: TrialProgress, waits: Waits) -> None:
        """Write a state."""
        if self.store is None:
            return
        started = time.monotonic()
        self.store.save(state, step=progress.step, spec=self._spec)
        self.note(waits)
        self._kept = progress.position
        ended = time.monotonic()
        self._next_at = ended + max(self._interval_s, WRITE_SHARE * (ended - started))

    def note(self, waits: Waits) -> None:
        """Keep the waits, which go on while the state does not change."""
        if self.store is not None:
            self.store.note(asdict(waits))

    def noted(self) -> Waits:
        """The waits of earlier attempts."""
        if self.store is None:
            return Waits()
        noted = self.store.noted()
        return Waits(**{name: noted[name] for name in asdict(Waits()) if name in noted})  # a note may hold others
