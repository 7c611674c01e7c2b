"""The duty cycle that holds a temperature: proportional-integral control, pure.

The gains suit every plant that heats at the target by at most one degree a second and has a time constant from 15 to
120 s, with sensors up to 3 s late; `benchmarks/thermal_policy.py` measures that. They are small on purpose: a sensor's
noise goes through to the duty weakened to 1.5 % a degree, so readings need no filter, and no filter adds its lag. What
keeps a weak loop from overshooting is the landing: the integral starts from the duty that the approach to the target
shows the device to bear for sure.
"""

import math
from dataclasses import dataclass, replace

GAIN = 0.015  # duty a degree
INTEGRAL_S = 60.0  # integral time
BAND = 15.0  # degrees below the target within which the controller works; farther below, the duty is 1
FAR = 30.0  # the same once the controller has landed: a device that was idle for a while needs no second landing
SLOPE_SAMPLES = 90  # of approach, at full duty
FEWEST_SAMPLES = 8
SURE = 3.0  # standard errors
MODESTY = 0.9  # of the duty found: the integral climbs the rest, from below
ROUNDING_VARIANCE = 1 / 12  # of readings in whole degrees
SLOWEST_S = 180.0  # time constant that the landing reckons with where the approach does not show one
AFTER_HOLD = 0.75  # a hold says that the integral was too high
FULL = 0.99  # a duty above is 1: a rest of 10 ms a second protects nothing
# Readings are rounded: one that equals the target says nothing about half a quantum to either side, so a sensor without
# noise is aimed at the upper part of it. Noise, on the other hand, makes single readings reach `hold` while the device
# is at the target, three in a row at last; so the aim moves down with the noise.
ROUNDING = 0.25  # quanta above the target
BACK_OFF = 0.45  # degrees down a degree of noise
MOST_NOISE = 1.0
NOISE_SHARE = 1 / 60  # of each reading in the estimate of the noise
LONGEST_STEP_S = 5.0  # a longer silence does not count as control


@dataclass(frozen=True)
class Controller:
    """The controller's memory; `duty` is its output.

    Attributes:
        duty: share of the time that trials may work.
        integral: part of the duty that has been learned.
        landed: whether the target's neighbourhood was reached once.
        approach: latest readings at full duty, as (time in s, Celsius), before landing.
        coldest: lowest reading ever.
        latest: the two latest readings.
        noise: running mean of the squared second difference of readings over 6: a slope does not enter it, and of
            independent errors it is the variance.
    """

    duty: float = 1.0
    integral: float = 0.0
    landed: bool = False
    approach: tuple[tuple[float, float], ...] = ()
    coldest: float = math.inf
    latest: tuple[float, ...] = ()
    noise: float = 0.0


def advance(
    state: Controller, celsius: float, target: float, time_s: float, step_s: float, *, quantum: float, busy: bool
) -> Controller:
    """Take in one reading.

    Args:
        state: the memory.
        celsius: the reading.
        target: temperature to hold.
        time_s: now.
        step_s: seconds since the reading before.
        quantum: smallest step between two readings, in degrees.
        busy: whether a trial works on the device: at rest, coolness says nothing about the duty it can bear.
    """
    state = _listen(state, celsius)
    aim = target + ROUNDING * quantum - BACK_OFF * min(state.noise**0.5, MOST_NOISE)
    error = aim - celsius
    if error > (FAR if state.landed else BAND):
        approach = (*state.approach[1 - SLOPE_SAMPLES :], (time_s, celsius)) if busy else ()
        return replace(state, duty=1.0, approach=approach)
    integral = state.integral if state.landed else _landing(state.approach, state.coldest, target)
    wanted = integral + GAIN * error
    saturated = (wanted > 1 and error > 0) or (wanted < 0 and error < 0)  # no wind-up
    if not saturated and (busy or error < 0):
        integral += GAIN / INTEGRAL_S * min(error, BAND) * min(step_s, LONGEST_STEP_S)
        integral = min(1.0, max(0.0, integral))
    wanted = min(1.0, max(0.0, integral + GAIN * error))
    return replace(state, duty=1.0 if wanted > FULL else wanted, integral=integral, landed=True, approach=())


def after_hold(state: Controller) -> Controller:
    """Begin again after a hold, more carefully."""
    return replace(state, integral=AFTER_HOLD * state.integral, landed=True, approach=(), latest=())


def _listen(state: Controller, celsius: float) -> Controller:
    """How noisy is the sensor?"""
    noise = state.noise
    if len(state.latest) == 2:
        first, second = state.latest
        noise += NOISE_SHARE * ((celsius - 2 * second + first) ** 2 / 6 - noise)
    coldest = min(state.coldest, celsius)
    return replace(state, coldest=coldest, latest=(*state.latest[-1:], celsius), noise=noise)


def _landing(approach: tuple[tuple[float, float], ...], coldest: float, target: float) -> float:
    """The duty that a first-order device surely bears at the target, from its approach at full duty; 0 where unknown.

    At full duty it heads for a temperature T1, with a slope of (T1 - T) / time constant. At rest it heads for one no
    higher than the coldest ever seen, T0. It bears (target - T0) / (T1 - T0). T1 and the time constant come from the
    slopes of the two halves of the approach, each taken at the unfavourable end of its error.
    """
    if len(approach) < FEWEST_SAMPLES:
        return 0.0
    middle = len(approach) // 2
    early, late = _line(approach[:middle]), _line(approach[middle:])
    error = SURE * (early.error**2 + late.error**2) ** 0.5
    slowing = early.slope - late.slope - error
    constant_s = (late.mean - early.mean) / slowing if slowing > 0 else SLOWEST_S
    constant_s = min(SLOWEST_S, max(0.0, constant_s))
    final = late.mean + max(0.0, late.slope + SURE * late.error) * constant_s
    return 1.0 if final <= target else MODESTY * max(0.0, target - coldest) / (final - coldest)


@dataclass(frozen=True)
class _Line:
    mean: float
    slope: float
    error: float  # standard error of the slope


def _line(points: tuple[tuple[float, float], ...]) -> _Line:
    """Least squares."""
    count = len(points)
    mean_s = sum(time_s for time_s, _ in points) / count
    mean = sum(value for _, value in points) / count
    spread = sum((time_s - mean_s) ** 2 for time_s, _ in points)
    if spread == 0:
        return _Line(mean, 0.0, math.inf)
    slope = sum((time_s - mean_s) * (value - mean) for time_s, value in points) / spread
    residual = sum((value - mean - slope * (time_s - mean_s)) ** 2 for time_s, value in points) / (count - 2)
    return _Line(mean, slope, (max(residual, ROUNDING_VARIANCE) / spread) ** 0.5)
