"""The gate of one trial: duty, silence, and a thread that follows."""

import dataclasses
import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.thermal import gate as gates
from runner.thermal.gate import Follower, ThermalGate
from runner.thermal.local_gate import LocalGovernor
from runner.thermal.monitor import Published
from runner.thermal.policy import Level
from runner.thermal.reading import Channel
from runner.thermal.spec import ThermalSpec
from tests.runner.thermal.standins import Clock, Settable
from tests.waiting import PATIENCE_S
from trainables.training.gate import Action

SPEC = ThermalSpec()


def news(clock: Clock, level: Level = Level.NORMAL, duty: float = 1.0, celsius: float | None = 50.0) -> Published:
    return Published(clock.now, level, duty, 1.0, celsius, "because")


@dataclass
class Sleep:
    """`time.sleep` that turns a clock."""

    clock: Clock

    def __call__(self, seconds: float) -> None:
        self.clock.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gates.time, "sleep", Sleep(clock))
    return clock


@pytest.mark.parametrize(
    ("level", "action"),
    [
        (Level.NORMAL, Action.RUN),
        (Level.HOLD, Action.HOLD),
        (Level.RELEASE, Action.RELEASE),
        (Level.STOP, Action.STOP),
    ],
)
def test_it_says_what_was_published(clock: Clock, level: Level, action: Action) -> None:
    gate = ThermalGate(SPEC, clock)
    gate.take(news(clock, level))
    assert gate.check() is action


def test_before_any_word_it_holds_and_then_stops(clock: Clock) -> None:
    gate = ThermalGate(SPEC, clock)
    assert gate.check() is Action.HOLD
    clock.now += 119
    assert gate.check() is Action.HOLD
    clock.now += 2
    assert gate.check() is Action.STOP
    assert "no word from the governor" in gate.reason


def test_old_news_hold_and_then_stop_and_fresh_news_go_on(clock: Clock) -> None:
    gate = ThermalGate(SPEC, clock)
    gate.take(news(clock))
    clock.now += 4.9
    assert gate.check() is Action.RUN
    clock.now += 0.2
    assert gate.check() is Action.HOLD
    stale = Published(clock.now - 60, Level.NORMAL, 1.0, 1.0, 50.0, "")
    gate.take(stale)
    assert gate.check() is Action.HOLD, "a governor that repeats an old sample is a hung one"
    gate.take(news(clock))
    assert gate.check() is Action.RUN
    clock.now += 121
    assert gate.check() is Action.STOP


def test_held_time_is_all_that_was_asked_for_or_less_when_the_hold_ends(clock: Clock) -> None:
    gate = ThermalGate(SPEC, clock)
    gate.take(news(clock, Level.HOLD))
    assert gate.wait(1.0) == 1.0
    ends = clock.now + 0.3
    sleep = gates.time.sleep

    def turn(seconds: float) -> None:
        sleep(seconds)
        if clock.now >= ends:
            gate.take(news(clock))

    gates.time.sleep = turn
    assert 0.3 <= gate.wait(1.0) < 1.0


@given(
    duty=st.floats(0.05, 0.95),
    step_s=st.floats(0.005, 7.0),
    period_s=st.sampled_from([0.5, 1.0, 4.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_duty_is_kept_for_steps_of_any_length(duty: float, step_s: float, period_s: float) -> None:
    clock = Clock(1000.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates.time, "sleep", Sleep(clock))
        gate = ThermalGate(ThermalSpec(unknown_hold_s=1e6, unknown_stop_s=2e6), clock)
        gate.take(Published(clock.now, Level.THROTTLE, duty, period_s, 80.0, ""))
        worked = rested = 0.0
        began = clock.now
        while clock.now - began < max(30.0, 40 * step_s / duty):
            if gate.check() is Action.THROTTLE:
                waited = gate.wait(1.0)
                rested += waited
                if waited >= 1.0:
                    continue
            clock.now += step_s
            worked += step_s
        assert worked / (worked + rested) == pytest.approx(duty, abs=0.06)


def test_trials_on_one_device_rest_together(clock: Clock) -> None:
    """Two gates with short steps of different length are open at the same moments."""
    both = [ThermalGate(SPEC, clock) for _ in range(2)]
    clock.now = 1000.0
    for gate in both:
        gate.take(Published(clock.now, Level.THROTTLE, 0.5, 1.0, 80.0, ""))
    seen = []
    for _ in range(40):
        clock.now += 0.0999
        seen.append({gate.check() for gate in both})
    assert all(len(one) == 1 for one in seen)
    assert {Action.RUN} in seen
    assert {Action.THROTTLE} in seen


def test_the_highest_temperature_is_that_of_the_trial(clock: Clock) -> None:
    gate = ThermalGate(SPEC, clock)
    gate.begin()
    assert gate.readings() == {}
    for celsius in (50.0, 70.0, None, 60.0):
        gate.take(news(clock, celsius=celsius))
    assert gate.readings() == {"celsius": 60.0, "max_celsius": 70.0}
    gate.begin()
    gate.take(news(clock, celsius=55.0))
    assert gate.readings()["max_celsius"] == 55.0


def test_the_energy_is_that_of_the_device_while_the_trial_ran(clock: Clock) -> None:
    gate = ThermalGate(SPEC, clock)
    gate.begin()
    for watts, passed_s in ((400.0, 2.0), (100.0, 3.0), (None, 5.0), (200.0, 1.0)):
        clock.now += passed_s
        gate.take(dataclasses.replace(news(clock), watts=watts))
    assert gate.readings()["watts"] == 200.0
    assert gate.readings()["joules"] == pytest.approx(3 * 100 + 200), "nothing is known of the time before the first"
    gate.take(dataclasses.replace(news(clock), watts=200.0))
    assert gate.readings()["joules"] == pytest.approx(500), "the same reading again"
    gate.begin()
    assert "joules" not in gate.readings()


def test_a_follower_survives_failures() -> None:
    gate = ThermalGate(SPEC)
    asked = threading.Event()
    answers = iter([OSError("gone"), Published(time.monotonic(), Level.NORMAL, 1.0, 1.0, 50.0, "")])

    def ask() -> Published:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        asked.set()
        return answer

    follower = Follower(gate, ask, 0.01, "test")
    assert asked.wait(PATIENCE_S)
    follower.close()
    assert gate.check() is Action.RUN


def test_debug_mode_samples_in_a_thread() -> None:
    channel = Channel("cpu", "cpu")
    sensor = Settable(channel)
    governor = LocalGovernor(ThermalSpec(interval_s=0.02, unknown_hold_s=1.0, unknown_stop_s=60), sensor, "cpu")

    def becomes(action: Action) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while governor.gate.check() is not action and time.monotonic() < deadline:
            time.sleep(0.01)
        return governor.gate.check() is action

    assert becomes(Action.RUN)
    sensor.show(cpu=93.0)
    assert becomes(Action.HOLD)
    sensor.readings = RuntimeError("gone")
    sensor.show(cpu=97.0)
    assert becomes(Action.STOP)
    governor.close()
