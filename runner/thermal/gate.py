"""The gate of one trial: it follows what a governor published, and fails closed when that grows old. No Ray here."""

import contextlib
import threading
import time
from collections.abc import Callable

from runner.thermal.monitor import Published
from runner.thermal.policy import Level
from runner.thermal.spec import ThermalSpec
from trainables.training.gate import Action

SLICE_S = 0.05  # a waiting trial looks at its gate so often
SHORTEST_S = 1e-4  # no sleep is shorter
_ACTIONS = {
    Level.NORMAL: Action.RUN,
    Level.THROTTLE: Action.THROTTLE,
    Level.HOLD: Action.HOLD,
    Level.RELEASE: Action.RELEASE,
    Level.STOP: Action.STOP,
}


class ThermalGate:
    """A `StepGate`. Another thread calls `take` with news; the trainer's thread calls the rest.

    `check` compares the clock with one number and reads one attribute: below a microsecond while the device is cool.
    While throttled, work and rest follow the published periods. A step that outlasts its part of a period works when it
    should rest; that time is owed, and rested afterwards, so that the duty is kept for steps of any length.
    """

    def __init__(self, spec: ThermalSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._hold_after_s, self._stop_after_s = spec.unknown_hold_s, spec.unknown_stop_s
        self._clock = clock
        self._published: Published | None = None
        self._action = Action.HOLD
        self._good_s = clock()  # of the latest news; before the first, of the start
        self._fresh_until_s = self._good_s
        self._stopped = ""
        self._lock = threading.Lock()
        self._max_celsius: float | None = None
        self._joules: float | None = None
        self._limited_s = 0.0
        self._worked_from_s: float | None = None  # start of the step under way, while throttled
        self._owed_s = 0.0

    # ---- from the follower ---------------------------------------------------------------------------------------

    def take(self, published: Published) -> None:
        """Take in what holds now."""
        with self._lock:
            if self._published is not None:
                passed_s = max(0.0, published.sampled_at_s - self._published.sampled_at_s)
                self._limited_s += passed_s * self._published.limited
                if published.watts is not None:
                    self._joules = (self._joules or 0.0) + published.watts * passed_s
            self._published = published
            self._good_s = max(self._good_s, published.sampled_at_s)
            self._fresh_until_s = published.sampled_at_s + self._hold_after_s
            self._action = _ACTIONS[published.level]
            if published.level is Level.STOP:
                self._stopped = published.reason
            if published.level is not Level.THROTTLE:
                self._worked_from_s, self._owed_s = None, 0.0
            if published.celsius is not None:
                self._max_celsius = max(published.celsius, self._max_celsius or published.celsius)

    # ---- from the trial ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start for a new trial: forget the last one's maximum and energy. A stop lasts only while its cause does."""
        with self._lock:
            self._stopped = ""
            self._max_celsius = self._joules = None
            self._limited_s = 0.0
            self._worked_from_s, self._owed_s = None, 0.0

    def readings(self) -> dict[str, float]:
        """As far as known: ``celsius`` and ``watts`` now; since `begin` ``max_celsius``, the device's ``joules`` and,
        where there were any, ``limited_seconds`` under a lowered power limit.
        """
        published = self._published
        values = {"max_celsius": self._max_celsius, "joules": self._joules, "limited_seconds": self._limited_s or None}
        if published is not None:
            values |= {"celsius": published.celsius, "watts": published.watts}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def reason(self) -> str:
        """Why the gate is as it is."""
        silent_s = self._clock() - self._good_s
        if self._stopped:
            return self._stopped
        if silent_s >= self._hold_after_s:
            return f"no word from the governor for {silent_s:.0f} s"
        return "waiting for the governor" if self._published is None else self._published.reason

    def check(self) -> Action:
        """See `StepGate.check`."""
        if self._clock() >= self._fresh_until_s:
            return self._stale()
        action = self._action
        if action is Action.THROTTLE:
            return Action.THROTTLE if self._rest_s() > 0 else Action.RUN
        return action

    def wait(self, max_seconds: float) -> float:
        """See `StepGate.wait`."""
        began = now = self._clock()
        while (left_s := began + max_seconds - now) > 0:
            action = self.check()
            if action is Action.RUN:
                break
            rest_s = self._rest_s() if action is Action.THROTTLE else SLICE_S
            part_s = max(min(left_s, rest_s, SLICE_S), SHORTEST_S)
            time.sleep(part_s)
            before, now = now, self._clock()
            if action is Action.THROTTLE:
                self._repay(before, now)
        else:
            return max_seconds
        return min(now - began, max_seconds * (1 - 1e-9))

    # ---- the duty cycle ------------------------------------------------------------------------------------------

    def _rest_s(self) -> float:
        """Seconds to rest from now; at 0 a step begins, and its time is watched."""
        published = self._published
        assert published is not None
        now = self._clock()
        if self._worked_from_s is not None:  # the step since the last check is over
            self._owed_s += _resting_s(published, self._worked_from_s, now)
            self._worked_from_s = None
        phase_s = now % published.period_s
        until_work_s = published.period_s - phase_s if phase_s >= published.duty * published.period_s else 0.0
        rest_s = until_work_s + self._owed_s
        if rest_s <= 0:
            self._worked_from_s = now
        return rest_s

    def _repay(self, start_s: float, end_s: float) -> None:
        """Rest that fell into working time pays back what is owed."""
        published = self._published
        assert published is not None
        self._owed_s = max(0.0, self._owed_s - (end_s - start_s - _resting_s(published, start_s, end_s)))

    # ---- silence -------------------------------------------------------------------------------------------------

    def _stale(self) -> Action:
        if self._stopped:
            return Action.STOP
        silent_s = self._clock() - self._good_s
        if silent_s >= self._stop_after_s:
            self._stopped = f"no word from the governor for {silent_s:.0f} s"
            return Action.STOP
        return Action.HOLD


def _resting_s(published: Published, start_s: float, end_s: float) -> float:
    """How much of a span lies in the resting parts of the published periods."""
    period_s, work_s = published.period_s, published.duty * published.period_s
    whole, rest = divmod(end_s - start_s, period_s)
    resting = whole * (period_s - work_s)
    phase_s = (start_s + whole * period_s) % period_s
    stop_s = phase_s + rest
    for offset in (0.0, period_s):
        resting += max(0.0, min(stop_s, offset + period_s) - max(phase_s, offset + work_s))
    return resting


class Follower:
    """A daemon thread that brings news to a gate every `interval_s`; failures are silence, which the gate notices."""

    def __init__(self, gate: ThermalGate, news: Callable[[], Published], interval_s: float, name: str) -> None:
        self._gate, self._news, self._interval_s = gate, news, interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, or leave it where it hangs."""
        self._over.set()
        self._thread.join(timeout=2.0)

    def _follow(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(Exception):  # a dead governor: the gate's own clock fails closed
                self._gate.take(self._news())
            self._over.wait(self._interval_s)
