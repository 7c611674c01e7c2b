"""The policy: thresholds, times, and properties that hold for every sequence of readings."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.thermal import policy
from runner.thermal.policy import Level, Limits, Rules, State
from runner.thermal.reading import MISSING, Reading
from runner.thermal.sensors.replay import ReplaySensor
from runner.thermal.simulation.plant import Plant
from runner.thermal.spec import GpuLimits, PlantSpec, ThermalSpec

RULES = Rules(Limits(target=80, hold=83, resume=75, stop=89))
BAD: tuple[Reading, ...] = (
    MISSING,
    *map(Reading, (-1.0, 0.0, math.nan, math.inf, -math.inf, 300.0, 150.5, -273.15)),
)
readings = st.one_of(
    st.floats(20, 100).map(Reading), st.sampled_from(BAD), st.integers(70, 90).map(lambda value: Reading(float(value)))
)


def follow(shown: Sequence[Reading | float], state: State | None = None, rules: Rules = RULES) -> list[State]:
    """States after each reading, one a second."""
    state = state or policy.begin(0.0)
    states = []
    for one in shown:
        reading = one if isinstance(one, Reading) else Reading(one)
        state = policy.advance(rules, state, reading, state.time_s + 1)
        states.append(state)
    return states


def levels(shown: Sequence[Reading | float], rules: Rules = RULES) -> list[Level]:
    return [state.level for state in follow(shown, rules=rules)]


def test_it_holds_until_the_first_good_reading() -> None:
    assert policy.begin(0.0).level is Level.HOLD
    assert levels([MISSING, MISSING, 50.0]) == [Level.HOLD, Level.HOLD, Level.NORMAL]


def test_three_readings_at_hold_hold_and_two_do_not() -> None:
    assert max(levels([50, 83, 83, 82, 83, 83, 82])) < Level.HOLD
    assert levels([50, 83, 83, 83])[-1] is Level.HOLD


def test_one_reading_halfway_to_stop_holds_at_once() -> None:
    assert levels([50, 86])[-1] is Level.HOLD
    assert levels([50, 85.9])[-1] < Level.HOLD


def test_one_reading_at_stop_stops() -> None:
    assert levels([50, 89])[-1] is Level.STOP


def test_a_hold_ends_after_its_shortest_time_and_three_cool_readings() -> None:
    states = follow([50, 86] + [75.0] * 20)
    held = [state.time_s for state in states if state.level is Level.HOLD]
    assert held[-1] - held[0] == pytest.approx(RULES.min_hold_s - 1)
    warm = levels([50, 86] + [76.0] * 100)
    assert set(warm[1:]) == {Level.HOLD}, "between resume and hold nothing changes"
    flicker = levels([50, 86] + [75.0, 75.0, 76.0] * 30)
    assert set(flicker[1:]) == {Level.HOLD}


def test_a_long_hold_releases_and_comes_back() -> None:
    states = follow([50, 86] + [84.0] * 300 + [70.0] * 3)
    assert states[300].level is Level.HOLD
    assert states[301].level is Level.RELEASE
    assert states[-1].level <= Level.THROTTLE


@pytest.mark.parametrize("bad", BAD, ids=lambda reading: str(reading.celsius))
def test_no_bad_reading_is_ever_normal(bad: Reading) -> None:
    states = follow([50.0] + [bad] * 200)
    by_time = {state.time_s - 1: state.level for state in states}
    assert by_time[4] <= Level.THROTTLE
    assert by_time[5] is Level.HOLD
    assert by_time[119] is Level.HOLD
    assert by_time[120] is Level.STOP
    assert states[-1].level is Level.STOP


def test_a_start_without_any_reading_stops_in_time() -> None:
    states = follow([MISSING] * 120)
    assert [state.level for state in states[:119]] == [Level.HOLD] * 119
    assert states[-1].level is Level.STOP


@given(st.lists(st.sampled_from(BAD), min_size=125, max_size=140), st.floats(20, 79))
@settings(max_examples=50, deadline=None)
def test_bad_readings_fail_closed_in_every_order(bad: list[Reading], before: float) -> None:
    found = levels([before, *bad])
    assert found[5:120] == [Level.HOLD] * 115
    assert found[-1] is Level.STOP


@given(st.lists(readings, max_size=60), st.floats(20, 100), st.floats(0, 40))
@settings(max_examples=300, deadline=None)
def test_a_hotter_reading_is_never_treated_more_mildly(past: list[Reading], celsius: float, more: float) -> None:
    state = follow(past)[-1] if past else policy.begin(0.0)
    cooler = policy.advance(RULES, state, Reading(celsius), state.time_s + 1)
    hotter = policy.advance(RULES, state, Reading(celsius + more), state.time_s + 1)
    assert hotter.level >= cooler.level
    if hotter.level == cooler.level and state.controller.landed:  # before landing, the approach is still measured
        assert hotter.duty <= cooler.duty + 1e-9


@given(st.lists(readings, max_size=50))
@settings(deadline=None)
def test_a_stop_is_absorbing(after: list[Reading]) -> None:
    states = follow([50.0, 90.0, *after])
    assert {state.level for state in states[1:]} == {Level.STOP}


@given(st.lists(readings, min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_hold_and_resume_do_not_chatter(shown: list[Reading]) -> None:
    """Every hold but the first wait for a reading lasts for its shortest time."""
    states = follow(shown)
    began: float | None = None
    for before, now in pairwise(states):
        if now.level is Level.HOLD and before.level < Level.HOLD:
            began = now.time_s
        if now.level < Level.HOLD <= before.level and began is not None:
            assert now.time_s - began >= RULES.min_hold_s


@given(st.lists(readings, max_size=150))
@settings(deadline=None)
def test_duty_and_level_agree(shown: list[Reading]) -> None:
    for state in follow(shown):
        assert 0 <= state.duty <= 1
        if state.level >= Level.HOLD:
            assert state.duty == 0
        if state.level is Level.NORMAL:
            assert state.duty == 1


def test_a_frozen_sensor_is_unknown_when_the_power_changes() -> None:
    """It follows its load for a while, then sticks while the load falls away: hold, then stop."""
    state = policy.begin(0.0)
    celsius, found = 30.0, []
    for second in range(600):
        load = 1.0 if second < 300 else 0.1
        if second < 300:
            celsius += (30 + 45 * load - celsius) / 30
        shown = Reading(round(celsius), power_watts=300 * load, utilisation=load)
        state = policy.advance(RULES, state, shown, second + 1.0)
        found.append(state.level)
    assert set(found[1:300]) <= {Level.NORMAL, Level.THROTTLE}
    assert found.index(Level.HOLD, 1) < 360
    assert found[-1] is Level.STOP
    assert found == found[:1] + sorted(found[1:], key=lambda level: level >= Level.HOLD)


@pytest.mark.parametrize(
    "rows", ["0,45\n15,87\n16,45", "0,45\n15,87\n18,45\n900,87\n901,45", "0,92\n1,45", "0,45\n15,20\n16,45"]
)
def test_a_few_wrong_readings_do_not_convict_a_constant_sensor(tmp_path: Path, rows: str) -> None:
    """Replayed: a cool device shows 45 C, and a jump to another temperature once or twice."""
    trace = tmp_path / "trace.csv"
    trace.write_text(f"time_s,celsius\n{rows}\n")
    rules = Rules(replace(RULES.limits, stop=95), frozen_after_s=300)
    now = 0.0
    sensor = ReplaySensor(trace, clock=lambda: now)
    state, unknown = policy.begin(0.0), []
    for second in range(1800):
        now = float(second)
        (shown,) = sensor.read(1.0).values()
        state = policy.advance(rules, state, shown, second + 1.0)
        if state.cause == "unknown" or state.liveness.dead(state.time_s):
            unknown.append(second)
    assert not unknown
    assert state.level is Level.NORMAL
    assert state.liveness.gain == 0, "nothing has moved but for the wrong readings"


def test_a_constant_reading_is_tested_by_a_dip() -> None:
    """A device that answers goes on; a sensor that does not is held."""
    rules = Rules(RULES.limits, frozen_after_s=300)
    for answers in (True, False):
        state = policy.begin(0.0)
        celsius, found, duties = 30.0, [], []
        for second in range(700):
            celsius += (30 + 45 * state.duty - celsius) / 20
            stuck = not answers and second > 200
            shown = Reading(75.0 if stuck else round(celsius), power_watts=round(300 * state.duty))
            state = policy.advance(rules, state, shown, second + 1.0)
            found.append(state.level)
            duties.append(state.duty)
        assert 0.5 in duties, "the dip"
        assert (Level.HOLD in found[1:]) is (not answers)


def stick(
    plant: PlantSpec, hours: float, *, stuck_at_s: float = math.inf, jitter_watts: float = 6.0, gap_s: float = 0.0
) -> list[State]:
    """States of a device that works for hours, with power that varies by the second; its sensor sticks at some time.

    `gap_s` is how long it rests after every 20 minutes.
    """
    rules = Rules(Limits(target=80, hold=83, resume=75, stop=89))
    device, random = Plant(plant), Random(0)
    state, shown, states = policy.begin(0.0), MISSING, []
    while device.time_s < hours * 3600:
        busy = device.time_s % 1200 >= gap_s
        reading = device.read()
        celsius = shown.celsius if device.time_s >= stuck_at_s else reading.celsius
        watts = None if reading.power_watts is None else reading.power_watts + random.uniform(0, jitter_watts)
        shown = replace(reading, celsius=celsius, power_watts=watts if jitter_watts else None)
        state = policy.advance(rules, state, shown, device.time_s + 1.0, busy=busy)
        device.run(1.0, state.duty * busy)
        states.append(state)
    return states


COOL = PlantSpec(ambient_celsius=25, resistance=0.1, power_watts=350, idle_power_watts=30, time_constant_s=40)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({"resistance": 0.05}, {}),  # 16 degrees between rest and work
        ({"time_constant_s": 120}, {}),
        ({}, {"gap_s": 10}),  # short trials
        ({}, {"jitter_watts": 0}),  # power is not measured
    ],
)
def test_a_sensor_that_sticks_after_hours_of_constant_load_is_found(
    changes: dict[str, float], options: dict[str, float]
) -> None:
    stuck_at_s = 2.5 * 3600
    states = stick(COOL.model_copy(update=changes), 3.2, stuck_at_s=stuck_at_s, **options)
    unknown = [state.time_s for state in states if state.cause == "unknown"]
    assert unknown, "found"
    assert stuck_at_s < unknown[0] < stuck_at_s + RULES.frozen_after_s + 300
    assert states[-1].level is Level.STOP


@pytest.mark.parametrize("changes", [{}, {"resistance": 0.05}, {"time_constant_s": 120}, {"resistance": 0.01}])
def test_a_sensor_that_works_at_constant_load_is_not_held(changes: dict[str, float]) -> None:
    """Its tests end as soon as it moves. One that never moved by 5 degrees is not tested."""
    states = stick(COOL.model_copy(update=changes), 4)
    assert {state.level for state in states} <= {Level.NORMAL, Level.THROTTLE}
    tested_s = sum(state.duty < 1 for state in states)
    assert tested_s <= 0.01 * len(states)
    assert (tested_s > 0) is (changes != {"resistance": 0.01})


def test_limits_as_headroom() -> None:
    spec = GpuLimits(scale="headroom", target=10, hold=6, resume=15, stop=2)
    limits = Limits.of(spec, 90.0)
    assert (limits.target, limits.hold, limits.resume, limits.stop) == (80, 84, 75, 88)
    with pytest.raises(ValueError, match="slowdown threshold"):
        Limits.of(spec, None)


def test_rules_follow_the_settings() -> None:
    spec = ThermalSpec(hold_samples=2, min_hold_s=1, hold_timeout_s=9, unknown_hold_s=4, unknown_stop_s=50)
    rules = Rules.of(spec, RULES.limits, 1.0)
    assert levels([50, 83, 83], rules)[-1] is Level.HOLD
    assert levels([50] + [MISSING] * 4, rules)[-1] is Level.HOLD
    assert levels([50] + [MISSING] * 50, rules)[-1] is Level.STOP
