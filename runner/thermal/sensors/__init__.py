"""Temperature sensors behind one protocol, one module each."""

from pathlib import Path

from runner.thermal.sensors.base import Sensor, SensorError
from runner.thermal.spec import ThermalSpec

__all__ = ["Sensor", "SensorError", "check", "open_sensor"]


def open_sensor(spec: ThermalSpec, device: str, visible: str | None = None) -> Sensor:
    """Open the sensor that the settings name.

    Args:
        spec: the settings.
        device: what trials run on, ``cuda`` or ``cpu``: it decides what ``auto`` stands for.
        visible: CUDA_VISIBLE_DEVICES as it is set, None where it is not.

    Raises:
        SensorError: there is none, or it gives no temperature.
    """
    kind = ("nvml" if device == "cuda" else "hwmon") if spec.sensor == "auto" else spec.sensor
    if kind == "nvml":
        from runner.thermal.sensors.nvml import NvmlSensor, load_library

        return NvmlSensor(load_library(), visible)
    if kind == "hwmon":
        from runner.thermal.sensors.hwmon import HwmonSensor

        return HwmonSensor(spec.hwmon)
    if kind == "replay":
        from runner.thermal.sensors.replay import ReplaySensor

        assert spec.replay is not None, "ThermalSpec refuses this"
        return ReplaySensor(Path(spec.replay))
    from runner.thermal.sensors.simulated import PlantSensor

    return PlantSensor(spec.plant)


def check(spec: ThermalSpec, device: str, visible: str | None = None) -> str:
    """Why no temperature can be read here, in words; empty where one can. Opens the sensor, reads once, closes it."""
    try:
        sensor = open_sensor(spec, device, visible)
    except SensorError as error:
        return str(error)
    try:
        sensor.read(0.0)
    except SensorError as error:
        return str(error)
    finally:
        sensor.close()
    return ""
