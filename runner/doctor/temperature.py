"""The sensors that the governor would read, and the limits that it would hold."""

from collections.abc import Iterator

from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, ok
from runner.host.cuda import cuda_visible_devices
from runner.thermal.monitor import ThermalMonitor
from runner.thermal.sensors import Sensor, SensorError, open_sensor
from runner.thermal.sensors.nvml import NvmlSensor

NAME = "temperature"


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Open the sensor for the device that trials would run on, and read it once."""
    try:
        sensor = _open(place)
    except SensorError as error:
        yield _missing(place, str(error))
        return
    station = ThermalMonitor(place.thermal, sensor)
    try:
        station.sample()
        for sample in station.samples_after(-1):
            limits = sample.limits
            where = f"{sample.sensor}, {sample.device} {sample.part}"
            if sample.celsius is None:
                yield _missing(place, f"{where}: no reading ({sample.reason})")
                continue
            what = f"{where}: {sample.celsius:.0f} °C; holds at {limits.hold:g}, stops at {limits.stop:g}"
            if sample.celsius >= limits.hold:
                yield Diagnosis(
                    check=NAME,
                    level="warn",
                    what=what,
                    why="trials would wait from the first step on",
                    fix="let it cool, look at fans and dust, or raise the limits in thermal.*",
                )
            else:
                yield ok(NAME, what)
    finally:
        sensor.close()


def _open(place: HostContext) -> Sensor:
    device = "cpu" if place.execution.device == "cpu" or not place.gpu_nodes else "cuda"
    if device == "cuda" and place.thermal.sensor.name in ("auto", "nvml"):
        return NvmlSensor(place.nvml(), cuda_visible_devices())
    return open_sensor(place.thermal, device, cuda_visible_devices())


def _missing(place: HostContext, why: str) -> Diagnosis:
    return Diagnosis(
        check=NAME,
        level="error" if place.thermal.require_sensors else "warn",
        what=why,
        why="a temperature that cannot be read is treated as too hot: trials would hold, and stop after "
        f"{place.thermal.unknown_stop_s:g} s"
        if place.thermal.require_sensors
        else "trials run without temperature protection (thermal.require_sensors: false)",
        fix="isotherm thermal watch shows what can be read; repair the sensor, choose another (thermal.sensor), or set "
        "thermal.require_sensors: false",
    )
