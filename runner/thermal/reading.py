"""What a sensor says: channels and their readings."""

import math
from dataclasses import dataclass
from typing import Literal

from runner.thermal.spec import MAX_CELSIUS

Part = Literal["gpu", "memory", "cpu"]
ANY_DEVICE = "simulated"  # a replayed or simulated temperature stands for whatever device trials run on


@dataclass(frozen=True)
class Channel:
    """One temperature of one device.

    Attributes:
        device: the device's identity: a GPU's UUID, ``cpu``, or `ANY_DEVICE`.
        part: whose limits apply.
        quantum: smallest step between two readings, in degrees; 0 = none.
        slowdown_celsius: where the device itself begins to slow down, if it says so.
    """

    device: str
    part: Part
    quantum: float = 1.0
    slowdown_celsius: float | None = None


@dataclass(frozen=True)
class Reading:
    """What a channel shows; None is no answer.

    Attributes:
        celsius: temperature.
        power_watts: of the whole device.
        utilisation: share of the time in which the device worked.
        slowed_by: why the device runs below its clock, as far as it says so.
    """

    celsius: float | None
    power_watts: float | None = None
    utilisation: float | None = None
    slowed_by: str = ""

    @property
    def good(self) -> bool:
        """Whether this can be the temperature of a running chip."""
        return self.celsius is not None and math.isfinite(self.celsius) and 0 < self.celsius <= MAX_CELSIUS


MISSING = Reading(None)
