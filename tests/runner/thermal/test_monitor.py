"""One host's governor without Ray: devices apart, failures of the sensor, stops."""

import dataclasses
import math

import pytest

from runner.thermal.monitor import Published, ThermalMonitor, together
from runner.thermal.policy import Level
from runner.thermal.reading import ANY_DEVICE, MISSING, Channel, Reading
from runner.thermal.sensors import SensorError
from runner.thermal.sensors.nvml import NvmlSensor
from runner.thermal.spec import GpuLimits, ThermalSpec
from tests.runner.thermal.standins import Clock, Nvml, Settable

SPEC = ThermalSpec()
ONE, TWO = Channel("one", "gpu"), Channel("two", "gpu")


def sample(station: ThermalMonitor, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 1
        station.sample()


def make(*channels: Channel, spec: ThermalSpec = SPEC) -> tuple[ThermalMonitor, Settable, Clock]:
    sensor, clock = Settable(*channels), Clock()
    return ThermalMonitor(spec, sensor, clock=clock), sensor, clock


def test_heat_on_one_device_leaves_the_other_alone() -> None:
    station, sensor, clock = make(ONE, TWO)
    sample(station, clock)
    sensor.show(one=87.0, two=50.0)
    sample(station, clock)
    assert station.published("one").level is Level.HOLD
    assert station.published("two").level is Level.NORMAL
    sensor.show(one=95.0, two=50.0)
    sample(station, clock)
    assert station.published("one").level is Level.STOP
    assert station.published("two").level is Level.NORMAL


def test_a_device_is_as_hot_as_its_worst_channel() -> None:
    die, memory = Channel("one", "gpu"), Channel("one", "memory")
    station, sensor, clock = make(die, memory)
    sensor.readings = {die: Reading(50.0), memory: Reading(93.0)}
    sample(station, clock)
    published = station.published("one")
    assert published.level is Level.HOLD
    assert published.duty == 0
    assert published.celsius == 50.0
    assert "93" in published.reason


BROKEN = {
    "raises": RuntimeError("the driver is gone"),
    "minus one": Reading(-1.0),
    "nan": Reading(math.nan),
    "three hundred": Reading(300.0),
    "no answer": MISSING,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_every_failure_of_a_sensor_holds_and_then_stops(broken: Reading | Exception) -> None:
    station, sensor, clock = make(ONE)
    sample(station, clock)
    assert station.published("one").level is Level.NORMAL
    sensor.readings = broken if isinstance(broken, Exception) else {ONE: broken}
    sample(station, clock, 5)
    assert station.published("one").level is Level.HOLD
    sample(station, clock, 114)
    assert station.published("one").level is Level.HOLD
    sample(station, clock)
    assert station.published("one").level is Level.STOP
    sensor.show(one=40.0)
    sample(station, clock, 100)
    assert station.published("one").level is Level.STOP, "for as long as the governor lives"


def test_nvml_that_is_lost_in_mid_run_holds_and_then_stops() -> None:
    library, clock = Nvml({"uuid": "GPU-1", "celsius": 60}, {"uuid": "GPU-2", "celsius": 60}), Clock()
    station = ThermalMonitor(SPEC, NvmlSensor(library), clock=clock)
    sample(station, clock)
    library.devices.pop()  # the driver counts fewer devices
    sample(station, clock, 6)
    assert station.published("GPU-1").level is Level.NORMAL
    assert station.published("GPU-2").level is Level.HOLD
    library.lost = True
    sample(station, clock, 6)
    assert station.published("GPU-1").level is Level.HOLD
    sample(station, clock, 120)
    assert {station.published(one).level for one in ("GPU-1", "GPU-2")} == {Level.STOP}


def test_a_device_that_nobody_watches_is_unknown() -> None:
    station, _, clock = make(ONE)
    sample(station, clock)
    published = station.published("other")
    assert published.level is Level.HOLD
    assert published.sampled_at_s < 0
    assert "not watched" in published.reason


def test_a_simulated_temperature_stands_for_every_device() -> None:
    station, _, clock = make(Channel(ANY_DEVICE, "gpu"))
    sample(station, clock)
    assert station.published("cpu").level is Level.NORMAL
    assert station.published("GPU-1").level is Level.NORMAL


def test_a_successor_knows_what_was_stopped() -> None:
    clock = Clock()
    station = ThermalMonitor(SPEC, Settable(ONE, TWO), stopped=frozenset({"one"}), clock=clock)
    sample(station, clock, 3)
    assert station.published("one").level is Level.STOP
    assert station.published("two").level is Level.NORMAL


def test_the_load_is_the_duty_while_a_trial_is_there() -> None:
    station, sensor, clock = make(ONE)
    loads: list[float] = []
    read = sensor.read
    sensor.read = lambda load: (loads.append(load), read(load))[1]  # type: ignore[method-assign,assignment]
    sample(station, clock, 2)
    station.published("one", "trial")
    sample(station, clock, 10)
    assert loads[:2] == [0.0, 0.0]
    assert loads[2] == 1.0
    assert loads[-1] == 0.0, "it has not asked for long"


def test_telemetry_is_numbered_and_complete() -> None:
    station, sensor, clock = make(ONE, TWO)
    sample(station, clock, 3)
    everything = station.samples_after(-1)
    assert [one.seq for one in everything] == list(range(6))
    assert [one.seq for one in station.samples_after(3)] == [4, 5]
    assert {one.state for one in everything} == {"normal"}
    sensor.show(one=-1.0, two=50.0)
    sample(station, clock)
    assert station.samples_after(5)[0].celsius is None, "an absurd reading is no temperature"


def test_headroom_without_a_threshold_is_refused() -> None:
    spec = ThermalSpec(gpu=GpuLimits(scale="headroom", target=10, hold=6, resume=15, stop=2))
    with pytest.raises(SensorError, match=r"thermal\.gpu, device one"):
        make(ONE, spec=spec)
    station, sensor, clock = make(Channel("one", "gpu", slowdown_celsius=90.0), spec=spec)
    sensor.show(one=87.0)
    sample(station, clock)
    assert station.published("one").level is Level.HOLD


def test_the_hottest_of_a_trials_devices_decides() -> None:
    cool = Published(10.0, Level.NORMAL, 1.0, 2.0, 50.0, "", watts=100.0)
    warm = Published(10.0, Level.THROTTLE, 0.5, 2.0, 80.0, "warm", watts=300.0)
    assert together([cool, warm]) == together([warm, cool])
    both = together([cool, warm])
    assert (both.level, both.duty, both.celsius, both.watts) == (Level.THROTTLE, 0.5, 80.0, 400.0)
    assert together([cool, dataclasses.replace(warm, watts=None)]).watts is None
    assert together([cool]) == cool
