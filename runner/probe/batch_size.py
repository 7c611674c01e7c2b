"""Which micro-batch: a search over measured sizes that knows nothing of how they are measured.

Peak memory is nearly affine in the micro-batch, and throughput rises towards a plateau. So the smallest size and a
small one are measured, memory is extrapolated from them, and the search climbs in jumps, never beyond the largest size
that is predicted to fit, until the plateau, that size, or the largest size allowed. Then it looks below the best size
for the smallest power of two that is as good. Every size that is returned was measured.

Sizes are the powers of two from the minimum to the cap, and the cap itself: a global batch that is no power of two may
be taken whole, which saves the accumulation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_MEASURED = 8
AS_GOOD = 0.95  # of the best throughput: beyond the knee, memory is spent for nothing (design, 'Probe rules')
GAIN = 1.05  # a doubling that gains less is on the plateau; two of them end the climb
FIRST_JUMP = 8  # the second size, where it is sure to fit
JUMP = 4  # two doublings

# `killed` is a death without a lack of memory: it says nothing of the size, which is measured again.
Outcome = Literal["ok", "out_of_memory", "timeout", "killed"]
Stop = Literal["cap", "plateau", "memory", "out_of_memory", "time", "measurements", "infeasible"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One micro-batch that was really run.

    Attributes:
        peak_bytes: at the peak of a step or an evaluation; of a size that failed, what it had when it was last seen.
        seconds_per_step: one optimizer step over the whole global batch.
        samples_per_second: windows a second.
        seconds: that timing it took, the start of its process and the first step left out.
        span: when its steps were timed, from and to, in seconds of the host's monotonic clock.
        limit_bytes: the limit that a size failed under.
        others_cores: processors that other processes kept busy meanwhile.
        disturbed: those were missing to it, so it may run faster without them.
        detail: what ended a size that failed.
    """

    micro_batch: int
    outcome: Outcome
    peak_bytes: int
    seconds_per_step: float = 0.0
    samples_per_second: float = 0.0
    seconds: float = 0.0
    span: tuple[float, float] = (0.0, 0.0)
    limit_bytes: int = 0
    others_cores: float = 0.0
    disturbed: bool = False
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.outcome == "ok"


@dataclass(frozen=True)
class Search:
    """What was measured, in that order, why it ended, and the size that was chosen, if any fits."""

    measured: tuple[Measurement, ...]
    stopped: Stop
    chosen: Measurement | None


def sizes(*, minimum: int, maximum: int | None, batch: int) -> tuple[int, ...]:
    """Sizes to choose from, ascending.

    Args:
        minimum: smallest size allowed.
        maximum: largest size allowed, if there is one.
        batch: windows in a step: the global batch, or the training windows where they are fewer. Never exceeded.
    """
    cap = min(batch, maximum or batch)
    floor = min(minimum, cap)
    powers = [1 << power for power in range(cap.bit_length()) if floor <= 1 << power <= cap]
    return tuple(sorted({*powers, cap} | ({floor} if not powers else set())))


def choose(measured: Sequence[Measurement], usable_bytes: int) -> Measurement | None:
    """The smallest size within 5 % of the best throughput among those that fit; None where none fits."""
    fitting = [one for one in measured if one.ok and one.peak_bytes <= usable_bytes]
    if not fitting:
        return None
    best = max(one.samples_per_second for one in fitting)
    return min((one for one in fitting if one.samples_per_second >= AS_GOOD * best), key=lambda one: one.micro_batch)


def search(
    measure: Callable[[int], Measurement],
    candidates: Sequence[int],
    *,
    usable_bytes: int,
    static_bytes: int = 0,
    affordable: Callable[[int, Sequence[Measurement]], bool] = lambda size, measured: True,
) -> Search:
    """Find the micro-batch.

    At most `MAX_MEASURED` sizes are measured. After an out-of-memory or a timeout only sizes below one that ran are
    tried, so there is at most one, whatever the memory curve.

    Args:
        measure: runs one size.
        candidates: ascending, at least one.
        usable_bytes: what a trial may take: the limit less the margin.
        static_bytes: what parameters, gradients and optimizer state take at least.
        affordable: whether there is time left to measure a size, given what was measured.
    """
    climb = _Climb(measure, tuple(candidates), usable_bytes, static_bytes, affordable)
    stopped = climb.up()
    climb.down()
    return Search(tuple(climb.measured.values()), stopped, choose(tuple(climb.measured.values()), usable_bytes))


class _Climb:
    def __init__(
        self,
        measure: Callable[[int], Measurement],
        candidates: tuple[int, ...],
        usable_bytes: int,
        static_bytes: int,
        affordable: Callable[[int, Sequence[Measurement]], bool],
    ) -> None:
        self.measured: dict[int, Measurement] = {}
        self._measure, self._candidates, self._affordable = measure, candidates, affordable
        self._usable, self._static = usable_bytes, static_bytes

    def up(self) -> Stop:
        """Climb to the plateau, or as far as it goes."""
        smallest = self._candidates[0]
        if not self._fits(self._try(smallest)):
            return "infeasible"
        sizes = self._second(self.measured[smallest])
        while sizes:
            known = tuple(self.measured.values())
            size = max((size for size in sizes if self._affordable(size, known)), default=None)
            if size is None:
                return "time"
            tried = self._try(size)
            if not tried.ok:
                return "time" if tried.outcome == "timeout" else "out_of_memory"
            if stop := self._stop():
                return stop
            sizes = self._next()
        return "cap" if max(self.measured) == self._candidates[-1] else "memory"

    def down(self) -> None:
        """Look between sizes that ran, where nothing can run out of memory any more.

        First for a larger size that fits, where the last jump landed in the margin; then for a smaller one that is as
        good: the distance between the smallest that is as good as the best and the largest that is not is halved.
        """
        while len(self.measured) < MAX_MEASURED:
            size = self._between_memory() or self._between_throughput()
            if size is None or not self._affordable(size, tuple(self.measured.values())):
                return
            self._try(size)

    def _between_memory(self) -> int | None:
        fitting = max((size for size, one in self.measured.items() if self._fits(one)), default=None)
        ran = [size for size, one in self.measured.items() if one.ok and fitting is not None and size > fitting]
        return self._middle(fitting, min(ran)) if ran and fitting is not None else None

    def _between_throughput(self) -> int | None:
        good = choose(tuple(self.measured.values()), self._usable)
        below = [size for size in self.measured if good is not None and size < good.micro_batch]
        return self._middle(max(below), good.micro_batch) if below and good is not None else None

    def _middle(self, low: int, high: int) -> int | None:
        between = [size for size in self._candidates if low < size < high]
        return between[len(between) // 2] if between else None

    def _try(self, size: int) -> Measurement:
        self.measured[size] = self._measure(size)
        return self.measured[size]

    def _fits(self, one: Measurement) -> bool:
        return one.ok and one.peak_bytes <= self._usable

    def _second(self, first: Measurement) -> Sequence[int]:
        """Small sizes that must fit: a window costs at most what the first size took beyond the static part."""
        others = [size for size in self._candidates[1:] if size <= FIRST_JUMP * first.micro_batch]
        per_window = max(0, first.peak_bytes - self._static) / first.micro_batch
        sure = [size for size in others if self._static + per_window * size <= self._usable]
        return sure or self._candidates[1:2]

    def _stop(self) -> Stop | None:
        ran = sorted((one for one in self.measured.values() if one.ok), key=lambda one: one.micro_batch)
        last = ran[-1]
        if last.micro_batch == self._candidates[-1]:
            return "cap"
        if last.peak_bytes > self._usable:
            return "memory"
        if len(self.measured) >= MAX_MEASURED:
            return "measurements"
        for earlier in reversed(ran):
            ratio = last.micro_batch / earlier.micro_batch
            if ratio >= JUMP:
                doublings = (last.micro_batch // earlier.micro_batch).bit_length() - 1
                return "plateau" if last.samples_per_second < GAIN**doublings * earlier.samples_per_second else None
        return None

    def _next(self) -> Sequence[int]:
        """Sizes within a jump that are predicted to fit; the next size where a jump would reach none."""
        ran = sorted((one for one in self.measured.values() if one.ok), key=lambda one: one.micro_batch)
        first, last = ran[-2], ran[-1]
        slope = max(0.0, (last.peak_bytes - first.peak_bytes) / (last.micro_batch - first.micro_batch))
        fits = [
            size
            for size in self._candidates
            if size > last.micro_batch and last.peak_bytes + slope * (size - last.micro_batch) <= self._usable
        ]
        within = [size for size in fits if size <= self._jump(fits) * last.micro_batch]
        return within or fits[:1]

    def _jump(self, fits: list[int]) -> int:
        """Two doublings, or more where the sizes that are left would not reach the largest one."""
        if not fits:
            return JUMP
        left = max(1, MAX_MEASURED - len(self.measured) - 1)  # one is kept for the way down
        reach = fits[-1] / max(self.measured)
        jump = JUMP
        while jump**left < reach:
            jump *= 2
        return jump
