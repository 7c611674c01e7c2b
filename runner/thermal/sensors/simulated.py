"""The simulated plant in real time: it heats while trials work and cools while they rest."""

import time
from collections.abc import Callable, Mapping

from runner.thermal.reading import ANY_DEVICE, Channel, Reading
from runner.thermal.sensors.base import Sensor, SensorHost, sensor
from runner.thermal.simulation.plant import Plant
from runner.thermal.spec import PlantSpec
from trainables.parts import PartConfig


class PlantSensor:
    """A plant that runs from the moment of opening, at the load that trials were allowed."""

    def __init__(self, spec: PlantSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = "plant"
        self._channel = Channel(device=ANY_DEVICE, part="gpu", quantum=spec.quantum_celsius)
        self.channels = (self._channel,)
        self._plant = Plant(spec)
        self._clock = clock
        self._began = clock()

    def read(self, load: float) -> Mapping[Channel, Reading]:
        """Let the plant run up to now at the load, and read it."""
        self._plant.run(self._clock() - self._began - self._plant.time_s, load)
        return {self._channel: self._plant.read()}

    def close(self) -> None:
        """Nothing is open."""


@sensor("plant")
def plant(config: PartConfig, host: SensorHost) -> Sensor:
    """A simulated device: `thermal.plant`."""
    return PlantSensor(host.thermal.plant)
