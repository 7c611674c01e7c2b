"""A conformance kit: holds a sensor against what the governor relies on."""

from typing import Any, get_args

from runner.host.cuda import cuda_visible_devices
from runner.thermal.reading import Channel, Part, Reading
from runner.thermal.sensors.base import SENSORS, Opener, Sensor, SensorHost
from runner.thermal.spec import ThermalSpec

READS = 3


def check_sensor(part: str | Opener, *, device: str = "cpu", thermal: ThermalSpec | None = None, **config: Any) -> None:
    """Return if a sensor keeps its contract, on this host.

    Checked: channels that are distinct, of known parts and the same after reading; readings of these channels alone, at
    least one of them a temperature; a `close` that can be called twice; and that it can be opened again.

    Args:
        part: the registered class or function, or its name.
        device: what trials would run on, ``cpu`` or ``cuda``.
        thermal: the block `thermal` of a sweep file; default: its defaults.
        config: keys of the sensor that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
        SensorError: this host has no such sensor.
    """
    found = SENSORS.find(part)
    values = found.configure(config)
    for _ in range(2):
        sensor = found.target(values, SensorHost(device, cuda_visible_devices(), thermal or ThermalSpec()))
        try:
            _check_readings(sensor)
        finally:
            sensor.close()
        sensor.close()


def _check_readings(sensor: Sensor) -> None:
    assert isinstance(sensor.name, str), "a sensor's name is a text"
    channels = sensor.channels
    assert channels, "a sensor needs a channel; where there is none, opening it raises isotherm.SensorError"
    assert all(isinstance(channel, Channel) for channel in channels), "channels are isotherm.Channel"
    assert len(set(channels)) == len(channels), "channels must be distinct"
    strays = sorted({channel.part for channel in channels} - set(get_args(Part)))
    assert not strays, f"parts are {', '.join(get_args(Part))}, which have limits; not {', '.join(strays)}"
    good = 0
    for _ in range(READS):
        readings = sensor.read(1.0)
        assert all(isinstance(one, Reading) for one in readings.values()), "readings are isotherm.Reading"
        unknown = set(readings) - set(channels)
        assert not unknown, f"a reading of a channel that was not announced: {unknown}"
        good += any(one.good for one in readings.values())
    assert good, "no channel showed a temperature above 0 and up to 150 Celsius"
    assert sensor.channels == channels, "channels must not change while the sensor is open"
