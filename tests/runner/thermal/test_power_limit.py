"""Power limits, at NVML's boundary: set before trials rest, noted, and set again as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from runner.thermal import power_limit
from runner.thermal.gate import ThermalGate
from runner.thermal.monitor import ThermalMonitor
from runner.thermal.policy import Level
from runner.thermal.power_limit import STEP, PowerLimits, shared_out
from runner.thermal.sensors.nvml import NvmlSensor
from runner.thermal.spec import ThermalSpec
from tests.runner.thermal.standins import Clock, Nvml

SPEC = ThermalSpec(min_power_limit=0.6)


@pytest.fixture
def board() -> dict[str, Any]:
    return {"uuid": "GPU-1", "celsius": 50, "limit": 350.0, "usual": 400.0, "least": 100.0}


@pytest.fixture
def open_limits(board: dict[str, Any], tmp_path: Path) -> Callable[..., PowerLimits]:
    def start(library: Nvml, lowest: float = 0.6) -> PowerLimits:
        return PowerLimits(library, {"GPU-1": board}, lowest, tmp_path / "notes")

    return start


@settings(deadline=None)
@given(some.floats(0, 1), some.floats(0.3, 0.99))
def test_limit_and_rests_together_give_the_duty(duty: float, lowest: float) -> None:
    share, left = shared_out(duty, lowest)
    assert share * left == pytest.approx(duty)
    assert lowest <= share <= 1
    assert 0 <= left <= 1
    assert left == pytest.approx(1, abs=1.1 * STEP / lowest) or share == lowest, "no rest before the limit is lowest"


def test_the_limit_is_lowered_first_and_set_again(board: dict[str, Any], open_limits: Callable[..., Any]) -> None:
    limits = open_limits(Nvml(board))
    assert limits.apply("GPU-1", 1.0) == 1.0
    assert board["limit"] == 350.0, "what its user had set, not the default"
    assert limits.apply("GPU-1", 0.8) == pytest.approx(1.0)
    assert board["limit"] == pytest.approx(280.0)
    assert limits.apply("GPU-1", 0.3) == pytest.approx(0.5)
    assert board["limit"] == pytest.approx(210.0)
    assert limits.apply("GPU-1", 1.0) == 1.0
    assert board["limit"] == 350.0
    limits.apply("GPU-1", 0.7)
    limits.close()
    assert board["limit"] == 350.0


def test_what_a_killed_governor_left_is_set_again(board: dict[str, Any], open_limits: Callable[..., Any]) -> None:
    open_limits(Nvml(board)).apply("GPU-1", 0.6)  # and no more of it
    assert board["limit"] == pytest.approx(210.0)
    following = open_limits(Nvml(board))
    assert board["limit"] == 350.0
    following.apply("GPU-1", 0.8)
    assert board["limit"] == pytest.approx(280.0), "a share of what it was, not of what was left"


def test_a_board_does_not_go_below_what_it_allows(board: dict[str, Any], open_limits: Callable[..., Any]) -> None:
    board["least"] = 300.0
    assert open_limits(Nvml(board)).apply("GPU-1", 0.6) == pytest.approx(0.6 * 350 / 300)
    assert board["limit"] == pytest.approx(300.0)


def hot(board: dict[str, Any], clock: Clock, station: ThermalMonitor) -> None:
    for celsius in (*range(66, 81), 81, 81, 81):
        board["celsius"] = celsius
        clock.now += 1
        station.published("GPU-1", "trial")
        station.sample()


@pytest.fixture
def station(board: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(power_limit, "FOLDER", tmp_path)

    def start(library: Nvml, spec: ThermalSpec = SPEC) -> tuple[ThermalMonitor, Clock]:
        clock = Clock()
        sensor = NvmlSensor(library, clock=clock, min_power_limit=spec.min_power_limit)
        return ThermalMonitor(spec, sensor, clock=clock), clock

    return start


def test_a_warm_gpu_gets_less_power_and_less_rest(board: dict[str, Any], station: Callable[..., Any]) -> None:
    library = Nvml(board)
    plain, clock = station(library, ThermalSpec())
    hot(board, clock, plain)
    assert board["limit"] == 350.0, "off by default"
    asked = plain.published("GPU-1").duty
    assert 0 < asked < 1

    board["celsius"] = 50
    limited, clock = station(library)
    gate = ThermalGate(SPEC, clock)
    hot(board, clock, limited)
    published = limited.published("GPU-1")
    assert published.level is Level.THROTTLE
    assert published.duty * board["limit"] / 350 == pytest.approx(asked, abs=1e-3)
    assert published.duty > asked
    assert "power limit at" in published.reason
    gate.take(published)
    clock.now += 1
    limited.sample()
    gate.take(limited.published("GPU-1"))
    assert gate.readings()["limited_seconds"] == 1.0
    limited.sensor.close()
    assert board["limit"] == 350.0


def test_where_it_may_not_be_set_trials_rest_and_a_note_says_so(
    board: dict[str, Any], station: Callable[..., Any]
) -> None:
    library = Nvml(board)
    library.permitted = False
    one, clock = station(library)
    hot(board, clock, one)
    assert board["limit"] == 350.0
    assert 0 < one.published("GPU-1").duty < 1
    [note] = one.notes
    assert "GPU-1" in note
    assert "Insufficient Permissions" in note
    assert "trials rest instead" in note


def test_a_right_that_is_lost_on_the_way_is_noted(board: dict[str, Any], open_limits: Callable[..., Any]) -> None:
    library = Nvml(board)
    limits = open_limits(library)
    limits.apply("GPU-1", 0.8)
    library.permitted = False
    assert limits.apply("GPU-1", 0.7) == 0.7
    assert "Insufficient" in limits.refused["GPU-1"]
    assert limits.apply("GPU-1", 0.5) == 0.5
