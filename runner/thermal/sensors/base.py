"""What every sensor is, and sensors by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from runner.thermal.reading import Channel, Reading
from runner.thermal.spec import SensorSpec, ThermalSpec
from trainables.errors import IsothermError
from trainables.parts import PartConfig, Registry


class SensorError(IsothermError):
    """A sensor that is not there, or does not answer."""


class Sensor(Protocol):
    """A source of readings. Used by one thread; a read may block, the caller watches its age."""

    name: str

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Fixed when it is opened: what is missing later is unknown, not forgotten."""
        ...

    def read(self, load: float) -> Mapping[Channel, Reading]:
        """Read all channels; one that does not answer is left out or is without a temperature.

        Args:
            load: share of the time that trials could work since the read before; only a simulation needs it.

        Raises:
            Exception: nothing could be read, whatever the library raised: all channels are unknown.
        """
        ...

    def close(self) -> None:
        """Let go of what was opened; never raises."""
        ...


@dataclass(frozen=True)
class SensorHost:
    """What a sensor is opened for.

    Attributes:
        device: what trials run on, ``cuda`` or ``cpu``.
        visible: CUDA_VISIBLE_DEVICES as it is set, None where it is not.
        thermal: the block `thermal` of the sweep file.
    """

    device: str
    visible: str | None
    thermal: ThermalSpec


class Opener(Protocol):
    """Opens a sensor: a function, or the sensor's class."""

    def __call__(self, config: Any, host: SensorHost) -> Sensor:
        """The open sensor.

        Raises:
            SensorError: there is none, or it gives no temperature.
        """


Target = TypeVar("Target", bound=Callable[..., Any])

SENSORS: Registry[Opener] = Registry(
    "sensor",
    group="isotherm.sensors",
    shipped=tuple(f"runner.thermal.sensors.{name}" for name in ("auto", "nvml", "hwmon", "replay", "simulated")),
    reserved=tuple(SensorSpec.model_fields),
    check=lambda target: "" if callable(target) else "not a class or function of config and host",
)


def sensor(name: str, *, version: int = 1, config: type[PartConfig] | None = None) -> Callable[[Target], Target]:
    """Register a sensor, to be chosen as ``thermal: {sensor: NAME}``: its class, or a function that opens it.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: raise it when it reads something else.
        config: its own keys in the block ``thermal.sensor``; default: a class's own ``Config``, else none.
    """
    return cast("Callable[[Target], Target]", SENSORS.register(name, version=version, config=config))
