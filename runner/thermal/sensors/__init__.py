"""Temperature sensors behind one protocol, one module each."""

from runner.thermal.sensors.base import SENSORS, Sensor, SensorError, SensorHost, sensor
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError

__all__ = ["SENSORS", "Sensor", "SensorError", "SensorHost", "check", "open_sensor", "sensor"]


def open_sensor(spec: ThermalSpec, device: str, visible: str | None = None) -> Sensor:
    """Open the sensor that the settings name.

    Args:
        spec: the settings.
        device: what trials run on, ``cuda`` or ``cpu``.
        visible: CUDA_VISIBLE_DEVICES as it is set, None where it is not.

    Raises:
        SensorError: there is none, or it gives no temperature.
    """
    try:
        part = SENSORS.get(spec.sensor.name, "thermal.sensor")
        config = part.configure(part.own(spec.sensor.config), "thermal.sensor")
    except ConfigError as error:
        raise SensorError(error.problems[0].message) from error
    try:
        return part.target(config, SensorHost(device, visible, spec))
    except SensorError:
        raise
    except Exception as error:  # code of somebody else: a sensor that does not open is no sensor
        raise SensorError(f"the sensor {part.name!r} cannot be opened: {type(error).__name__}: {error}") from error


def check(spec: ThermalSpec, device: str, visible: str | None = None) -> str:
    """Why no temperature can be read here, in words; empty where one can. Opens the sensor, reads once, closes it."""
    try:
        opened = open_sensor(spec, device, visible)
    except SensorError as error:
        return str(error)
    try:
        opened.read(0.0)
    except Exception as error:  # whatever its library raises
        return str(error) or type(error).__name__
    finally:
        opened.close()
    return ""
