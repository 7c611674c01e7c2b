"""Every sensor keeps the same promises; NVML and hwmon at their libraries' boundary."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.thermal.reading import ANY_DEVICE
from runner.thermal.sensors import Sensor, SensorError, check, open_sensor
from runner.thermal.sensors.hwmon import HwmonSensor
from runner.thermal.sensors.nvml import NvmlSensor
from runner.thermal.sensors.replay import ReplaySensor
from runner.thermal.sensors.simulated import PlantSensor
from runner.thermal.spec import HwmonSpec, PlantSpec, ThermalSpec
from tests.runner.thermal.standins import Clock, Monitors, Nvml

A100 = {"uuid": "GPU-aaaa-1", "name": "A100", "celsius": 61, "memory": 70, "watts": 250}
A100 |= {"slowdown": 89, "memory_max": 95}
H100 = {"uuid": "GPU-bbbb-2", "name": "H100", "celsius": 50, "margin": 37, "joules": 100.0, "used": 90, "reasons": 0x44}


def nvml(_: Path) -> Sensor:
    return NvmlSensor(Nvml(dict(A100), dict(H100)))


def hwmon(_: Path) -> Sensor:
    return HwmonSensor(HwmonSpec(), Monitors(coretemp=[("Package id 0", 55.0), ("Core 0", 57.0)], nvme=[("", 80.0)]))


def replay(folder: Path) -> Sensor:
    path = folder / "trace.csv"
    path.write_text("time_s,celsius\n0,50\n60,60\n")
    return ReplaySensor(path)


def plant(_: Path) -> Sensor:
    return PlantSensor(PlantSpec())


@pytest.fixture(params=[nvml, hwmon, replay, plant], ids=lambda make: make.__name__)
def sensor(request: pytest.FixtureRequest, tmp_path: Path) -> Sensor:
    make: Callable[[Path], Sensor] = request.param
    return make(tmp_path)


class TestConformance:
    def test_it_has_a_name_and_distinct_channels(self, sensor: Sensor) -> None:
        assert sensor.name
        assert sensor.channels
        assert len(set(sensor.channels)) == len(sensor.channels)

    def test_every_channel_gives_a_plausible_temperature(self, sensor: Sensor) -> None:
        found = sensor.read(1.0)
        assert set(found) == set(sensor.channels)
        assert all(reading.good for reading in found.values())

    def test_reading_does_not_change_the_channels(self, sensor: Sensor) -> None:
        before = sensor.channels
        for _ in range(3):
            sensor.read(0.5)
        assert sensor.channels == before

    def test_power_and_use_are_sensible_where_given(self, sensor: Sensor) -> None:
        for reading in sensor.read(1.0).values():
            assert reading.power_watts is None or reading.power_watts >= 0
            assert reading.utilisation is None or 0 <= reading.utilisation <= 1

    def test_it_closes_twice(self, sensor: Sensor) -> None:
        sensor.close()
        sensor.close()


class TestNvml:
    def test_channels_are_die_and_memory_where_there_is_one(self) -> None:
        sensor = NvmlSensor(Nvml(dict(A100), dict(H100)))
        assert [(one.device, one.part, one.slowdown_celsius) for one in sensor.channels] == [
            ("GPU-aaaa-1", "gpu", 89.0),
            ("GPU-aaaa-1", "memory", 95.0),
            ("GPU-bbbb-2", "gpu", 87.0),  # temperature and margin together
        ]

    def test_power_comes_from_the_energy_counter_where_there_is_one(self) -> None:
        device, clock = dict(H100), Clock()
        sensor = NvmlSensor(Nvml(dict(A100), device), clock=clock)
        sensor.read(1.0)
        clock.now += 2
        device["joules"] = 900.0
        watts = {channel.device: reading.power_watts for channel, reading in sensor.read(1.0).items()}
        assert watts == {"GPU-aaaa-1": 250.0, "GPU-bbbb-2": pytest.approx(400.0)}

    def test_reasons_for_a_lower_clock_are_named(self) -> None:
        [reading] = NvmlSensor(Nvml(dict(H100))).read(1.0).values()
        assert reading.slowed_by == "hardware thermal slowdown, power cap"
        assert reading.utilisation == 0.9

    @pytest.mark.parametrize(
        ("visible", "uuids"),
        [
            (None, {"GPU-aaaa-1", "GPU-bbbb-2"}),
            ("GPU-bbbb-2", {"GPU-bbbb-2"}),
            ("GPU-b", {"GPU-bbbb-2"}),
            ("GPU-bbbb-2,GPU-aaaa-1", {"GPU-aaaa-1", "GPU-bbbb-2"}),
        ],
    )
    def test_devices_are_chosen_by_uuid(self, visible: str | None, uuids: set[str]) -> None:
        sensor = NvmlSensor(Nvml(dict(A100), dict(H100)), visible)
        assert {channel.device for channel in sensor.channels} == uuids

    @pytest.mark.parametrize(("visible", "chosen"), [("1", "GPU-z"), ("1,-1,0", "GPU-z"), ("0", "GPU-aaaa-1")])
    def test_indices_count_where_all_gpus_are_alike(self, visible: str, chosen: str) -> None:
        sensor = NvmlSensor(Nvml(dict(A100), dict(A100) | {"uuid": "GPU-z"}), visible)
        assert {channel.device for channel in sensor.channels} == {chosen}

    @pytest.mark.parametrize(
        ("visible", "message"),
        [
            ("0", "name them by UUID"),
            ("7", "NVML sees 2"),
            ("GPU-x", "0 of"),
            ("GPU-", "2 of"),
            ("MIG-1234", "slices"),
            ("", "no GPU"),
            ("-1", "no GPU"),
        ],
    )
    def test_what_cannot_be_watched_is_refused(self, visible: str, message: str) -> None:
        library = Nvml(dict(A100), dict(H100))
        with pytest.raises(SensorError, match=message):
            NvmlSensor(library, visible)
        assert library.opened == 0, "NVML was shut down again"

    def test_no_driver_and_no_gpu(self) -> None:
        with pytest.raises(SensorError, match="does not start"):
            NvmlSensor(Nvml(starts=False))
        with pytest.raises(SensorError, match="no GPU"):
            NvmlSensor(Nvml())

    def test_nvml_that_is_lost_raises(self) -> None:
        library = Nvml(dict(A100))
        sensor = NvmlSensor(library)
        library.lost = True
        with pytest.raises(SensorError, match="lost"):
            sensor.read(1.0)

    def test_a_gpu_that_is_lost_or_no_longer_counted_has_no_reading(self) -> None:
        one, other = dict(A100), dict(H100)
        library = Nvml(one, other)
        sensor = NvmlSensor(library)
        library.devices.remove(other)
        assert {channel.device for channel in sensor.read(1.0)} == {"GPU-aaaa-1"}
        one["gone"] = True
        assert not any(reading.good for reading in sensor.read(1.0).values())

    def test_a_gpu_that_does_not_answer_leaves_the_others_watched(self) -> None:
        """What would run on it is held: it is on no channel."""
        lost, sound = dict(A100) | {"gone": True}, dict(A100) | {"uuid": "GPU-z"}
        assert {channel.device for channel in NvmlSensor(Nvml(lost, sound)).channels} == {"GPU-z"}
        assert {channel.device for channel in NvmlSensor(Nvml(lost, sound), "GPU-z").channels} == {"GPU-z"}
        with pytest.raises(SensorError, match="1 of 2 GPUs do not answer"):
            NvmlSensor(Nvml(lost, sound), "1")
        with pytest.raises(SensorError, match="no GPU"):
            NvmlSensor(Nvml(lost))

    def test_a_memory_temperature_that_goes_missing_is_no_reading(self) -> None:
        device = dict(A100)
        sensor = NvmlSensor(Nvml(device))
        del device["memory"]
        assert [reading.good for reading in sensor.read(1.0).values()] == [True, False]


class TestHwmon:
    def test_the_hottest_entry_of_the_cpu_counts(self) -> None:
        [reading] = hwmon(Path()).read(1.0).values()
        assert reading.celsius == 57.0

    def test_chip_and_label_can_be_chosen(self) -> None:
        monitors = Monitors(k10temp=[("Tctl", 70.0), ("Tccd1", 60.0)], nvme=[("Composite", 40.0)])
        chosen = HwmonSensor(HwmonSpec(label="Tccd1"), monitors)
        assert [reading.celsius for reading in chosen.read(1.0).values()] == [60.0]
        other = HwmonSensor(HwmonSpec(chip="nvme"), monitors)
        assert [reading.celsius for reading in other.read(1.0).values()] == [40.0]

    def test_what_is_not_there_is_refused_with_what_is(self) -> None:
        monitors = Monitors(nvme=[("Composite", 40.0)])
        with pytest.raises(SensorError, match=r"its chips are \['nvme'\]"):
            HwmonSensor(HwmonSpec(), monitors)
        with pytest.raises(SensorError, match=r"no hwmon chip 'x'.*nvme"):
            HwmonSensor(HwmonSpec(chip="x"), monitors)
        with pytest.raises(SensorError, match="Composite"):
            HwmonSensor(HwmonSpec(chip="nvme", label="x"), monitors)
        with pytest.raises(SensorError, match="no hardware monitors"):
            HwmonSensor(HwmonSpec(), Monitors())

    def test_entries_that_vanish_are_no_reading(self) -> None:
        monitors = Monitors(coretemp=[("Core 0", 50.0), ("Core 1", 90.0)])
        sensor = HwmonSensor(HwmonSpec(), monitors)
        monitors.chips["coretemp"] = [("Core 0", 50.0)]
        assert not sensor.read(1.0)


class TestReplay:
    def test_rows_hold_until_the_next_and_empty_cells_are_no_answer(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "trace.csv", Clock()
        path.write_text("time_s,celsius,power_watts\n1,50,100\n2,,\n3,nan,\n4,60,200\n")
        sensor = ReplaySensor(path, clock)
        shown = []
        for _ in range(6):
            [reading] = sensor.read(1.0).values()
            shown.append(reading.celsius)
            clock.now += 1
        assert shown[0] is None
        assert shown[1:3] == [50.0, None]
        assert math.isnan(shown[3])
        assert shown[4:] == [60.0, 60.0]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no rows"),
            ("time_s,celsius\n", "no rows"),
            ("time,celsius\n1,50\n", "'time_s' is missing"),
            ("time_s,celsius\n1,hot\n", "trace.csv:2"),
            ("time_s,celsius\n,50\n", "time_s is missing"),
            ("time_s,celsius\n2,50\n1,50\n", "ascend"),
        ],
    )
    def test_what_is_no_trace_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "trace.csv"
        path.write_text(text)
        with pytest.raises(SensorError, match=message):
            ReplaySensor(path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match="No such file"):
            ReplaySensor(tmp_path / "none.csv")


def test_the_plant_heats_under_load_and_cools_at_rest() -> None:
    clock = Clock()
    sensor = PlantSensor(PlantSpec(ambient_celsius=20, resistance=0.2, power_watts=300, time_constant_s=30), clock)
    clock.now += 300
    [hot] = sensor.read(1.0).values()
    clock.now += 300
    [cold] = sensor.read(0.0).values()
    assert (hot.celsius, hot.power_watts) == (80.0, 300.0)
    assert (cold.celsius, cold.power_watts) == (20.0, 0.0)
    assert sensor.channels[0].device == ANY_DEVICE


def test_the_settings_choose_the_sensor(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,celsius\n0,50\n")
    assert open_sensor(ThermalSpec(sensor="plant"), "cpu").name == "plant"
    assert open_sensor(ThermalSpec(sensor="replay", replay=str(trace)), "cuda").name == "replay"
    assert check(ThermalSpec(sensor="plant"), "cuda") == ""
    assert "none.csv" in check(ThermalSpec(sensor="replay", replay=str(tmp_path / "none.csv")), "cpu")
