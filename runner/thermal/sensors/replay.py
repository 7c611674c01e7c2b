"""A recorded trace, played back in real time from the moment of opening."""

import csv
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from runner.thermal.reading import ANY_DEVICE, MISSING, Channel, Reading
from runner.thermal.sensors.base import Sensor, SensorError, SensorHost, sensor
from trainables.parts import PartConfig

CHANNEL = Channel(device=ANY_DEVICE, part="gpu", quantum=1.0)


class ReplaySensor:
    """Rows of ``time_s, celsius`` and optionally ``power_watts, utilisation``; an empty cell is no answer.

    Each row holds until the next one; the last one holds for ever.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file and begin.

        Raises:
            SensorError: the file cannot be read or is no trace.
        """
        self.name = "replay"
        self.channels = (CHANNEL,)
        self._clock = clock
        try:
            with path.open(newline="", encoding="utf-8") as handle:
                self._rows = [_row(path, number, cells) for number, cells in enumerate(csv.DictReader(handle), 2)]
        except OSError as error:
            raise SensorError(f"{path}: cannot be read ({error.strerror})") from error
        if not self._rows:
            raise SensorError(f"{path}: no rows below a header time_s,celsius")
        if any(later[0] <= earlier[0] for earlier, later in zip(self._rows, self._rows[1:], strict=False)):
            raise SensorError(f"{path}: time_s must ascend")
        self._began = clock()

    def read(self, load: float) -> Mapping[Channel, Reading]:
        """The row of this moment."""
        elapsed = self._clock() - self._began
        reading = MISSING
        for time_s, recorded in self._rows:
            if time_s > elapsed:
                break
            reading = recorded
        return {CHANNEL: reading}

    def close(self) -> None:
        """Nothing is open."""


def _row(path: Path, number: int, cells: Mapping[str, str | None]) -> tuple[float, Reading]:
    try:
        time_s, celsius = _number(cells["time_s"]), _number(cells["celsius"])
        others = (_number(cells.get("power_watts")), _number(cells.get("utilisation")))
    except KeyError as error:
        raise SensorError(f"{path}: the column {error} is missing; the columns are {list(cells)}") from error
    except ValueError as error:
        raise SensorError(f"{path}:{number}: {error}") from error
    if time_s is None or not math.isfinite(time_s):
        raise SensorError(f"{path}:{number}: time_s is missing")
    return time_s, Reading(celsius, *others)


def _number(text: str | None) -> float | None:
    return float(text) if text and text.strip() else None


@sensor("replay")
def replay(config: PartConfig, host: SensorHost) -> Sensor:
    """A recorded trace: the file `thermal.replay`."""
    assert host.thermal.replay is not None, "ThermalSpec refuses this"
    return ReplaySensor(Path(host.thermal.replay))
