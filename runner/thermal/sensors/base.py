"""What every sensor is."""

from collections.abc import Mapping
from typing import Protocol

from runner.thermal.reading import Channel, Reading
from trainables.errors import IsothermError


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
