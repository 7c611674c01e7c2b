"""The sensor for what trials run on."""

from runner.thermal.sensors.base import SENSORS, Sensor, SensorHost, sensor
from trainables.parts import PartConfig

_OF_DEVICE = {"cuda": "nvml", "cpu": "hwmon"}


@sensor("auto")
def auto(config: PartConfig, host: SensorHost) -> Sensor:
    """nvml for trials on a GPU, hwmon for trials on the CPU."""
    part = SENSORS.get(_OF_DEVICE[host.device])
    return part.target(part.configure({}), host)
