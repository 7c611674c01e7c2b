"""How many trials at once: pure decisions from measured peaks and measured total throughput.

Shares of a GPU are powers of two and cores are whole, so that many trials ask Ray for the same and actors are reused.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.probe.batch_size import GAIN

MAX_COPIES = 8  # more trials on one GPU than this were never seen to help, and each costs a CUDA context
SPARE_CORES = 0.25  # a resting host takes less


@dataclass(frozen=True)
class Threads:
    """CPU threads of a trial, how many such trials at once, and the windows a second of all of them."""

    threads: int
    copies: int
    samples_per_second: float


def copies_that_fit(peak_bytes: int, usable_bytes: int) -> int:
    """Trials of this peak that fit at once."""
    return usable_bytes // max(1, peak_bytes)


def gains_on_gpu(total: Callable[[int], float | None], single: float, most: int) -> dict[int, float]:
    """Windows a second of 2, 4 and 8 trials on one GPU, for as long as each doubling raises the total.

    Args:
        total: windows a second of k copies at once; None or 0 where that is not known or does not work.
        single: windows a second of one copy.
        most: how many can run at once.
    """
    gains: dict[int, float] = {}
    best, copies = single, 2
    while copies <= min(most, MAX_COPIES):
        raised = total(copies)
        if raised is None or raised < GAIN * best:
            break
        best = gains[copies] = raised
        copies *= 2
    return gains


def threads_on_cpu(total: Callable[[int, int], float | None], cores: int, fit: int) -> Threads:
    """Threads a trial that maximise the throughput of all trials at once; fewer threads where it is a draw.

    Args:
        total: windows a second of k copies with t threads each, called as ``total(t, k)``; None where it failed.
        cores: cores of the host.
        fit: how many trials fit into memory.
    """
    best = Threads(1, 1, 0.0)
    threads = 1
    while threads <= cores:
        copies = max(1, min(cores // threads, fit))
        measured = total(threads, copies)
        if measured is not None and measured > GAIN * best.samples_per_second:
            best = Threads(threads, copies, measured)
        elif best.samples_per_second:
            break
        threads *= 2
    return best


def reserved_cores(threads: int, cores: int, fit: int) -> int:
    """Cores that a trial asks for: its threads, or more where memory allows fewer trials than the cores would.

    Each trial then holds at least its share of memory in cores, so trials of different sizes fit together, too.
    """
    copies = max(1, min(cores // threads, fit)) if threads <= cores else 1
    return min(max(threads, -(-cores // copies)), max(cores, threads))


def disturbed(others_cores: float, threads: int, copies: int = 1, *, cores: int) -> bool:
    """Whether copies that were measured together wanted for processors because of other programs.

    Args:
        others_cores: processors that all but one copy kept busy.
        threads: of each copy.
        copies: at once. More of them than there are processors disturb each other on purpose.
        cores: of the host.
    """
    own = copies * threads
    others = others_cores - (copies - 1) * threads
    return others > SPARE_CORES + max(0, cores - own)


def makespan(seconds: Sequence[float], shares: Sequence[float], capacity: float) -> float:
    """Seconds until all trials are done, started in the given order as soon as there is room.

    Args:
        seconds: of each trial.
        shares: what each takes of the capacity (cores, or GPUs).
        capacity: of the whole host.
    """
    now, free = 0.0, capacity
    running: list[tuple[float, float]] = []
    for duration, share in zip(seconds, shares, strict=True):
        taken = min(share, capacity)
        while free + 1e-9 < taken:
            now, released = heapq.heappop(running)
            free += released
        heapq.heappush(running, (now + duration, taken))
        free -= taken
    return max((end for end, _ in running), default=0.0)


@dataclass(frozen=True)
class Kind:
    """Trials that are executed alike on GPUs.

    Attributes:
        count: of such trials.
        windows: that one of them trains on in all.
        totals: windows a second of k copies on one GPU, by k; 1 is among them.
        cores: that each reserves.
    """

    count: int
    windows: float
    totals: dict[int, float]
    cores: int

    @property
    def most(self) -> int:
        """Most copies on one GPU that were measured to gain."""
        return max(self.totals)

    def total(self, copies: int) -> float:
        """Windows a second of copies, between measured numbers by a straight line."""
        low = max(known for known in self.totals if known <= copies)
        if low == copies:
            return self.totals[copies]
        high = min(known for known in self.totals if known > copies)
        share = (copies - low) / (high - low)
        return (1 - share) * self.totals[low] + share * self.totals[high]


def spread(kinds: Sequence[Kind], gpus: int, cores: int) -> list[int]:
    """Copies of each kind on one GPU, so that all trials are done soonest: Ray fills one GPU before it takes the next.

    A bound on the copies is chosen for all kinds, from 1 to the most that gained anywhere, by placing the trials as Ray
    does. Of bounds that are as good, the smallest: fewer trials on a GPU leave each of them more memory.

    Args:
        kinds: in the order in which their trials start.
        gpus: of the host, or of all nodes.
        cores: likewise.
    """
    best: tuple[float, list[int]] | None = None
    for bound in range(1, max((kind.most for kind in kinds), default=0) + 1):
        copies = [min(kind.most, bound) for kind in kinds]
        seconds = _placed(kinds, copies, gpus, cores)
        if best is None or seconds < best[0] * (1 - 1e-9):
            best = (seconds, copies)
    return best[1] if best else []


def gpu_share(copies: int) -> float:
    """Share of a GPU for each of k copies: rounded down to what Ray counts, so that all of them fit."""
    return math.floor(1e4 / copies) / 1e4


def _placed(kinds: Sequence[Kind], copies: Sequence[int], gpus: int, cores: int) -> float:
    """Seconds until all trials are done, each on the first GPU that has room, started in order."""
    now, ends = 0.0, 0.0
    free, free_cores = [1.0] * gpus, float(cores)
    running: list[tuple[float, int, float, int]] = []
    for kind, k in zip(kinds, copies, strict=True):
        share, duration = 1 / k, kind.windows * k / kind.total(k)
        taken = min(kind.cores, cores)
        for _ in range(kind.count):
            while True:
                gpu = next((one for one in range(gpus) if free[one] + 1e-9 >= share), None)
                if gpu is not None and free_cores + 1e-9 >= taken:
                    break
                now, place, released, of_cores = heapq.heappop(running)
                free[place] += released
                free_cores += of_cores
            heapq.heappush(running, (now + duration, gpu, share, taken))
            free[gpu] -= share
            free_cores -= taken
            ends = max(ends, now + duration)
    return ends
