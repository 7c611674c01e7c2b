"""The duty cycle that holds a temperature: proportional-integral control, pure.

The gains suit every plant that heats at the target by at most one degree a second and has a time constant from 15 to
120 s, with sensors up to 3 s late; `benchmarks/thermal_policy.py` measures that. They are small on purpose: a sensor's
noise goes through to the duty weakened to 1.5 % a degree, so readings need no filter, and no filter adds its lag. What
keeps a weak loop from overshooting is the landing: the integral starts from what the slope of approach says.
"""

from dataclasses import dataclass, replace

GAIN = 0.015  # duty a degree
INTEGRAL_S = 60.0  # integral time
BAND = 15.0  # degrees below the target within which the controller works; farther below, the duty is 1
# The weakest response, in degrees a second from duty 0 to 1, that the landing reckons with. A plant that still rises by
# s at full duty near the target can bear a duty of 1 - s / response there: the weakest response is the safe one.
WEAKEST_RESPONSE = 0.2
SLOPE_SAMPLES = 30  # of approach, at full duty; the error of the slope falls with the 1.5th power of this
FEWEST_SAMPLES = 8
AFTER_HOLD = 0.75  # a hold says that the integral was too high
FULL = 0.99  # a duty above is 1: a rest of 10 ms a second protects nothing
LONGEST_STEP_S = 5.0  # a longer silence does not count as control


@dataclass(frozen=True)
class Controller:
    """The controller's memory; `duty` is its output.

    Attributes:
        duty: share of the time that trials may work.
        integral: part of the duty that has been learned.
        landed: whether the target's neighbourhood was reached once.
        approach: latest readings at full duty, as (time in s, Celsius), before landing.
    """

    duty: float = 1.0
    integral: float = 0.0
    landed: bool = False
    approach: tuple[tuple[float, float], ...] = ()


def advance(state: Controller, error: float, time_s: float, step_s: float, *, busy: bool) -> Controller:
    """Take in one reading.

    Args:
        state: the memory.
        error: target minus reading, in degrees.
        time_s: now.
        step_s: seconds since the reading before.
        busy: whether a trial works on the device: at rest, coolness says nothing about the duty it can bear.
    """
    if error > BAND:
        approach = (*state.approach[1 - SLOPE_SAMPLES :], (time_s, -error)) if not state.landed else ()
        return replace(state, duty=1.0, approach=approach)
    integral = state.integral if state.landed else _landing(state.approach)
    wanted = integral + GAIN * error
    saturated = (wanted > 1 and error > 0) or (wanted < 0 and error < 0)  # no wind-up
    if not saturated and (busy or error < 0):
        integral += GAIN / INTEGRAL_S * error * min(step_s, LONGEST_STEP_S)
        integral = min(1.0, max(0.0, integral))
    wanted = min(1.0, max(0.0, integral + GAIN * error))
    return Controller(duty=1.0 if wanted > FULL else wanted, integral=integral, landed=True)


def after_hold(state: Controller) -> Controller:
    """Begin again after a hold, more carefully."""
    return Controller(duty=state.duty, integral=AFTER_HOLD * state.integral, landed=True)


def _landing(approach: tuple[tuple[float, float], ...]) -> float:
    """The duty that the target can surely bear, from the readings of the approach at full duty; 0 where unknown."""
    count = len(approach)
    if count < FEWEST_SAMPLES:
        return 0.0
    mean_s = sum(time_s for time_s, _ in approach) / count
    mean = sum(value for _, value in approach) / count
    spread = sum((time_s - mean_s) ** 2 for time_s, _ in approach)
    if spread == 0:
        return 0.0
    slope = sum((time_s - mean_s) * (value - mean) for time_s, value in approach) / spread
    residual = sum((value - mean - slope * (time_s - mean_s)) ** 2 for time_s, value in approach) / (count - 2)
    worst = max(0.0, slope + 2 * (residual / spread) ** 0.5)
    return max(0.0, 1 - worst / WEAKEST_RESPONSE)
