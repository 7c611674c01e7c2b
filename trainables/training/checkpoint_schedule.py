"""When a trial's state is written, and whether the present one is."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from trainables.checkpoints.file_store import CheckpointStore, State
from trainables.schema import TrialSpec
from trainables.training.progress import Position, TrialProgress, Waits

WRITE_SHARE = 20  # a trial waits for a write at most 1/20 of the time until the next (design, 'Identity and state')


def host_copy(state: State) -> State:
    """A copy of a state on the host; from CUDA into pinned memory, which is several times faster."""
    copied: State = tree_map(
        lambda leaf: leaf.detach().to("cpu", non_blocking=True, copy=True) if isinstance(leaf, Tensor) else leaf, state
    )
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()  # a copy to pinned memory goes on by itself
    return copied


class CheckpointSchedule:
    """A trial's dealings with its store; without a store every method does nothing."""

    def __init__(self, store: CheckpointStore | None, spec: TrialSpec, interval_s: float) -> None:
        self.store = store
        self._spec = spec
        self._interval_s = interval_s
        self._next_at = math.inf
        self._kept: Position = TrialProgress().position  # a trial that has not begun has nothing to lose
        self._writing: Future[Position] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

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
        if self._writing is not None and not self._writing.done():
            return False
        if self._writing is not None and self._writing.exception() is not None:
            return True
        return self.store is not None and time.monotonic() >= self._next_at

    def save(
        self, make: Callable[[], State], progress: TrialProgress, waits: Waits, *, meanwhile: bool = False
    ) -> None:
        """Write a state.

        Args:
            make: gives the state.
            progress: where it is.
            waits: seconds at the gate.
            meanwhile: write it while the trial goes on: what `make` gives must not change any more.

        Raises:
            OSError, FencedError: it could not be written, or one that was written meanwhile could not.
        """
        self.settle()
        started = time.monotonic()
        state, step, position = make(), progress.step, progress.position
        if meanwhile:  # the trial waits for the copy alone
            self._writing = self._writer.submit(self._write, state, step, position, replace(waits))
        else:
            started = time.monotonic()
            self._kept = self._write(state, step, position, waits)
        now = time.monotonic()
        self._next_at = now + max(self._interval_s, WRITE_SHARE * (now - started))

    def settle(self) -> None:
        """Wait for a write that is under way.

        Raises:
            OSError, FencedError: it failed.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            self._kept = writing.result()

    def close(self) -> None:
        """The trial is over: wait for a write that is under way, whatever becomes of it."""
        with suppress(Exception):
            self.settle()
        self._writer.shutdown()

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

    def _write(self, state: State, step: int, position: Position, waits: Waits) -> Position:
        if self.store is not None:
            self.store.save(state, step=step, spec=self._spec)
            self.note(waits)
        return position
