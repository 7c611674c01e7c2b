"""Out of memory while trials run: seen before the kernel acts, distinct from a plain crash, followed by a smaller step.

Ray's own memory monitor is off (docs/ray.md). In each worker a thread looks at the host's memory, and leaves in writing
why it ended the process.
"""

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil

from runner.host.memory_limits import host_limit
from runner.rundir.ledger import CellState
from runner.tune.retry import after_out_of_memory
from trainables.files import replace_text
from trainables.schema import ExecutionRecord

POLL_S = 0.1  # a look takes 0.2 ms
FLOOR_BYTES = 256_000_000  # less than this left, and the largest trial ends before the kernel chooses a process
# In the title of a trial's process: the name of our class, and while it works that of Tune's class around ours.
WORKER_NAME = "Trainable"
PINNED_TRIES = 2  # of a micro-batch that ran out of memory; each costs the work since the last checkpoint
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: it can be tried again


class HostGuard:
    """Ends its own process when the host is about to run out of memory, and leaves a word why.

    Of several workers the largest ends itself. The word is a file, since a process that dies cannot answer.
    """

    def __init__(
        self,
        free_bytes: Callable[[], int] = lambda: host_limit().bytes,
        floor_bytes: int = FLOOR_BYTES,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._free_bytes, self._floor, self._end = free_bytes, floor_bytes, end
        self._word: Path | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, checkpoints: Path) -> None:
        """Guard the trial whose checkpoints are in this folder, until it is another one's turn."""
        self._word = word_of(checkpoints)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="host-memory", daemon=True)
            self._thread.start()

    def look(self) -> bool:
        """Look once; whether the process is to end."""
        free = self._free_bytes()
        if free >= self._floor or self._word is None or not _largest():
            return False
        size = psutil.Process().memory_info().rss
        words = f"the host had {free / 1e9:.2f} GB left, and this trial was the largest with {size / 1e9:.2f} GB"
        replace_text(self._word, words)
        return True

    def _watch(self) -> None:
        while not self.look():
            time.sleep(POLL_S)
        self._end(EXIT_CODE)


def word_of(checkpoints: Path) -> Path:
    """Where the guard of a trial leaves its word."""
    return checkpoints.parent / f".{checkpoints.name}.out_of_memory"


def _largest() -> bool:
    """Whether no other trial's process on this host, of the same Ray, is larger than this one."""
    own = psutil.Process()
    parent = own.parent()
    sizes = []
    for other in parent.children() if parent else []:
        try:
            if other.pid != own.pid and WORKER_NAME in " ".join(other.cmdline()):
                sizes.append(other.memory_info().rss)
        except psutil.Error:
            continue
    return int(own.memory_info().rss) >= max(sizes, default=0)


def next_record(planned: ExecutionRecord, state: CellState, global_batch: int) -> ExecutionRecord:
    """How a cell's next attempt is executed.

    The ledger's record, where it was made for this kind of device; after an out-of-memory a smaller one, down to the
    floor; otherwise what was planned. Once an attempt with a smaller one has ended in another way, the pinned one is
    tried again: whatever else took the memory may be gone.
    """
    if state.execution is None:
        return planned
    records = [ExecutionRecord.model_validate(attempt.execution) for attempt in state.attempts]
    last = records[-1]
    if last.place != planned.place:
        return planned
    if state.status == "out_of_memory":
        return after_out_of_memory(last, global_batch) or last
    return _pinned_again(records) or last


def _pinned_again(records: list[ExecutionRecord]) -> ExecutionRecord | None:
    """The record that the last ones were halved from, unless it ran out of memory as often as it is tried."""
    last = records[-1]
    alike = [one for one in records if one.place == last.place]
    pinned = max(alike, key=lambda one: one.micro_batch)
    halved = sum(one == pinned and after.micro_batch < one.micro_batch for one, after in pairwise(alike))
    return pinned if last.micro_batch < pinned.micro_batch and halved < PINNED_TRIES else None


def at_the_floor(state: CellState) -> bool:
    """Whether the last attempt ran out of memory with the smallest micro-batch."""
    execution = state.execution or {}
    smallest = execution.get("smallest_micro_batch", 1)
    return state.status == "out_of_memory" and execution.get("micro_batch", smallest + 1) <= smallest
