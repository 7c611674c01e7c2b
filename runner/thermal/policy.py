"""From readings to levels, for one channel: pure. State, reading and time go in, the next state comes out.

Throttle, hold, release, stop; unknown fails closed. All times are seconds on one monotonic clock.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

from runner.thermal import duty as duties
from runner.thermal import liveness
from runner.thermal.duty import Controller
from runner.thermal.liveness import DIP_DUTY, Liveness
from runner.thermal.reading import Reading
from runner.thermal.spec import LimitsSpec, ThermalSpec

Strategy = Literal["duty_cycle", "bang_bang"]


class Level(IntEnum):
    """How much a device is held back; a higher one is more severe."""

    NORMAL = 0
    THROTTLE = 1
    HOLD = 2
    RELEASE = 3
    STOP = 4

    @property
    def word(self) -> str:
        """As in telemetry and messages."""
        return self.name.lower()


@dataclass(frozen=True)
class Limits:
    """Limits in Celsius."""

    target: float
    hold: float
    resume: float
    stop: float

    @classmethod
    def of(cls, spec: LimitsSpec, slowdown_celsius: float | None) -> "Limits":
        """Limits of a sensor.

        Raises:
            ValueError: headroom is asked for, and the device names no slowdown threshold.
        """
        values = (spec.target, spec.hold, spec.resume, spec.stop)
        if spec.scale == "celsius":
            return cls(*values)
        if slowdown_celsius is None:
            raise ValueError("scale: headroom needs a slowdown threshold, and this device names none")
        return cls(*(slowdown_celsius - value for value in values))

    @property
    def at_once(self) -> float:
        """A single reading here or above starts a hold."""
        return (self.hold + self.stop) / 2


@dataclass(frozen=True)
class Rules:
    """What the policy of one channel goes by; the numbers are explained in `ThermalSpec`."""

    limits: Limits
    hold_samples: int = 3
    min_hold_s: float = 10.0
    hold_timeout_s: float = 300.0
    unknown_hold_s: float = 5.0
    unknown_stop_s: float = 120.0
    frozen_after_s: float = 1800.0
    quantum: float = 1.0
    strategy: Strategy = "duty_cycle"

    @classmethod
    def of(cls, spec: ThermalSpec, limits: Limits, quantum: float) -> "Rules":
        """The rules of a sweep's settings."""
        return cls(
            limits=limits,
            hold_samples=spec.hold_samples,
            min_hold_s=spec.min_hold_s,
            hold_timeout_s=spec.hold_timeout_s,
            unknown_hold_s=spec.unknown_hold_s,
            unknown_stop_s=spec.unknown_stop_s,
            frozen_after_s=spec.frozen_after_s,
            quantum=quantum,
        )


@dataclass(frozen=True)
class State:
    """The policy's memory; `level`, `duty` and `reason` are its decision.

    Attributes:
        level: what holds now.
        duty: share of the time that trials may work; 0 from HOLD on.
        reason: why, in words.
        time_s: of the latest step.
        good_s: of the latest good reading; before the first, of the start.
        cause: why there is a hold: ``start`` (no good reading yet), ``hot``, ``unknown``, or empty.
        held_since_s: when the hold began.
        hot: consecutive good readings at or above `hold`.
        cool: consecutive good readings at or below `resume`.
    """

    time_s: float
    good_s: float
    held_since_s: float
    level: Level = Level.HOLD
    duty: float = 0.0
    reason: str = "no reading yet"
    cause: Literal["start", "hot", "unknown", ""] = "start"
    hot: int = 0
    cool: int = 0
    controller: Controller = field(default_factory=Controller)
    liveness: Liveness = field(default_factory=Liveness)


def begin(time_s: float) -> State:
    """The state before the first reading: hold."""
    return State(time_s=time_s, good_s=time_s, held_since_s=time_s)


def advance(rules: Rules, state: State, reading: Reading, time_s: float, *, busy: bool = True) -> State:
    """Take in one reading, or that there was none, and decide.

    Args:
        rules: limits and times.
        state: the memory.
        reading: what the sensor says.
        time_s: now; never before the step before.
        busy: whether a trial works on the device.
    """
    if state.level is Level.STOP:
        return replace(state, time_s=time_s)
    step_s = max(0.0, time_s - state.time_s)
    state = replace(state, time_s=time_s)
    good = reading.good
    if good:
        state = _watch(rules, state, reading, step_s, busy)
        good = not state.liveness.dead(time_s)
    if good:
        assert reading.celsius is not None
        state = _judge(rules, replace(state, good_s=time_s), reading.celsius, step_s, busy)
    else:
        state = _unknown(rules, replace(state, cool=0), reading)
    if state.level is Level.HOLD and time_s - state.held_since_s >= rules.hold_timeout_s:
        reason = f"held for {rules.hold_timeout_s:g} s: memory is released; {state.reason}"
        state = replace(state, level=Level.RELEASE, reason=reason)
    return state


# ---- good readings -----------------------------------------------------------------------------------------------


def _watch(rules: Rules, state: State, reading: Reading, step_s: float, busy: bool) -> State:
    """Record a sign that the sensor works."""
    assert reading.celsius is not None
    working = busy and state.level < Level.HOLD
    live = liveness.advance(
        state.liveness,
        reading.celsius,
        reading.power_watts,
        state.duty,
        state.time_s,
        step_s,
        quantum=rules.quantum,
        busy=working,
    )
    return replace(state, liveness=liveness.dip(live, state.time_s, rules.frozen_after_s))


def _judge(rules: Rules, state: State, celsius: float, step_s: float, busy: bool) -> State:
    limits = rules.limits
    if celsius >= limits.stop:
        return stopped(state, f"{celsius:g} C, stop is {limits.stop:g}")
    hot = state.hot + 1 if celsius >= limits.hold else 0
    cool = state.cool + 1 if celsius <= limits.resume else 0
    state = replace(state, hot=hot, cool=cool)
    if hot >= rules.hold_samples or celsius >= limits.at_once:
        return _held(state, "hot", f"{celsius:g} C, hold is {limits.hold:g}")
    if state.level >= Level.HOLD and not _over(rules, state, celsius):
        return state
    return _running(rules, state, celsius, step_s, busy)


def _over(rules: Rules, state: State, celsius: float) -> bool:
    """Whether a hold ends."""
    if state.cause == "start":
        return celsius < rules.limits.hold
    return state.cool >= rules.hold_samples and state.time_s - state.held_since_s >= rules.min_hold_s


def _running(rules: Rules, state: State, celsius: float, step_s: float, busy: bool) -> State:
    controller = state.controller
    if state.level >= Level.HOLD and state.cause == "hot":
        controller = duties.after_hold(controller)
    dipping = state.time_s < state.liveness.dip_until_s
    if rules.strategy == "duty_cycle" and not dipping:
        controller = duties.advance(
            controller, celsius, rules.limits.target, state.time_s, step_s, quantum=rules.quantum, busy=busy
        )
    duty = controller.duty * (DIP_DUTY if dipping else 1.0)
    if dipping:
        reason = "the temperature has not changed for long: the sensor is tested"
    else:
        reason = "" if duty == 1 else f"{celsius:g} C, target is {rules.limits.target:g}"
    level = Level.NORMAL if duty == 1 else Level.THROTTLE
    return replace(state, level=level, duty=duty, reason=reason, cause="", controller=controller)


# ---- holds and stops ---------------------------------------------------------------------------------------------


def _unknown(rules: Rules, state: State, reading: Reading) -> State:
    silent_s = state.time_s - state.good_s
    what = "the reading does not follow the load" if reading.good else f"no good reading ({_shown(reading)})"
    if silent_s >= rules.unknown_stop_s:
        return stopped(state, f"{what} for {silent_s:.0f} s")
    if silent_s >= rules.unknown_hold_s:
        return _held(state, "unknown", f"{what} for {silent_s:.0f} s")
    return state


def _shown(reading: Reading) -> str:
    return "none" if reading.celsius is None else f"{reading.celsius:g}"


def _held(state: State, cause: Literal["hot", "unknown"], reason: str) -> State:
    if state.level is Level.RELEASE:
        return replace(state, cause=cause)
    since_s = state.held_since_s if state.level is Level.HOLD and state.cause != "start" else state.time_s
    if state.level is Level.HOLD and state.cause == "hot":
        cause = "hot"
    return replace(state, level=Level.HOLD, duty=0.0, reason=reason, cause=cause, held_since_s=since_s)


def stopped(state: State, reason: str) -> State:
    """The same state, stopped; nothing but a new beginning leads out of it."""
    return replace(state, level=Level.STOP, duty=0.0, reason=reason)
