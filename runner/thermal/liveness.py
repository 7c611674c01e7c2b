"""Does a sensor still follow its device? Pure.

A constant reading alone is no fault: a cool GPU shows one integer for hours. But a reading that stays constant while
the power changed by what used to move it by more than two quanta is a broken sensor. So it is judged at changes of
load only; and where it has shown one number through a long time of work, the duty is dipped to make such a change. A
dip ends when the reading moves, when it should have moved and did not, or when it has lasted too long to tell.
"""

import math
import statistics
from dataclasses import dataclass, replace

LONGEST_DIP_S = 240.0  # some time constants of a device; a sensor that works answers within seconds
DIP_DUTY = 0.5
QUANTA = 2.0
# Load is followed by a quick and a slow low-pass. A plant with a time constant in between lies between the two, so a
# reading counts as dead only if both say that it must have moved.
QUICK_S, SLOW_S = 5.0, 150.0
PATIENCE_S = 20.0  # longer than any sensor's delay
CAUTION = 0.7  # share of the gain seen that is counted upon: surroundings change, too
# Extremes are those of the median of so many readings: a few wrong ones must not count for good. More of them in a row
# do.
RECENT = 9
LEAST_QUANTUM = 0.5  # degrees, for sensors without rounding
LEAST_RISE = 5.0  # degrees between coldest and hottest before there is a gain to speak of


@dataclass(frozen=True)
class Liveness:
    """Memory of one channel. Loads are watts, or duties where no power is measured.

    Attributes:
        celsius: latest temperature.
        quiet_s: seconds of work, dips apart, in which it has been the same.
        quick, slow: low-passed load; `quick_then`, `slow_then` when the temperature last changed.
        recent: latest temperatures, at most `RECENT`.
        coldest, hottest: extremes of the median of as many.
        most: highest quick load.
        overdue_since_s: since when the temperature should have moved, and did not.
        dip_until_s: when the latest dip ended, or ends at the latest.
    """

    celsius: float | None = None
    quiet_s: float = 0.0
    quick: float | None = None
    slow: float = 0.0
    quick_then: float = 0.0
    slow_then: float = 0.0
    recent: tuple[float, ...] = ()
    coldest: float = math.inf
    hottest: float = -math.inf
    most: float = 0.0
    overdue_since_s: float = math.inf
    dip_until_s: float = -math.inf

    @property
    def gain(self) -> float:
        """Degrees a unit of load, at least, as seen so far, as if the coldest had no load; 0 while unknown."""
        rise = self.hottest - self.coldest
        return rise / self.most if self.most > 0 and rise >= LEAST_RISE else 0.0

    @property
    def due(self) -> float:
        """Degrees by which the temperature must have moved since it last did."""
        if self.quick is None:
            return 0.0
        return CAUTION * self.gain * min(abs(self.quick - self.quick_then), abs(self.slow - self.slow_then))

    def dead(self, time_s: float) -> bool:
        """Whether the reading should have moved by now, and did not."""
        return time_s - self.overdue_since_s >= PATIENCE_S


def advance(
    state: Liveness,
    celsius: float,
    power_watts: float | None,
    duty: float,
    time_s: float,
    step_s: float,
    *,
    quantum: float,
    busy: bool,
) -> Liveness:
    """Take in one good reading.

    Args:
        state: the memory.
        celsius: the temperature read.
        power_watts: of the device; None where it is not measured.
        duty: share of the time that trials could work since the reading before.
        time_s: now.
        step_s: seconds since the reading before.
        quantum: smallest step between two readings, in degrees.
        busy: whether a trial works on the device.
    """
    load = power_watts if power_watts is not None else (duty if busy else 0.0)
    quick, slow = load, load
    if state.quick is not None:
        quick = load + (state.quick - load) * math.exp(-step_s / QUICK_S)
        slow = load + (state.slow - load) * math.exp(-step_s / SLOW_S)
    changed = celsius != state.celsius
    recent = (*state.recent, celsius)[-RECENT:]
    # The first readings could be the wrong ones.
    middle = statistics.median(recent) if len(recent) == RECENT else math.nan
    state = replace(
        state,
        celsius=celsius,
        quiet_s=0.0 if changed else state.quiet_s + step_s * (busy and time_s >= state.dip_until_s),
        quick=quick,
        slow=slow,
        quick_then=quick if changed else state.quick_then,
        slow_then=slow if changed else state.slow_then,
        recent=recent,
        coldest=min(state.coldest, middle),  # as it was where there is no median yet: min and max keep the first
        hottest=max(state.hottest, middle),
        most=max(state.most, quick),
        dip_until_s=min(state.dip_until_s, time_s) if changed else state.dip_until_s,
    )
    overdue = not changed and state.due > QUANTA * max(quantum, LEAST_QUANTUM)
    return replace(state, overdue_since_s=min(state.overdue_since_s, time_s) if overdue else math.inf)


def dip(state: Liveness, time_s: float, after_s: float) -> Liveness:
    """Begin a dip where the reading is to be tested: after so long at one number, and it is known how it would move."""
    if state.quiet_s < after_s or not state.gain:
        return state
    return replace(state, dip_until_s=time_s + LONGEST_DIP_S, quiet_s=0.0)
