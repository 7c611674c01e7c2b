"""A temperature sensor of one's own: a file that another program writes, such as a baseboard's monitor.

    isotherm run configs/sweeps/quickstart.yaml --plugin examples/my_sensor.py \
        --set "thermal.sensor={name: file, path: /run/cpu_celsius}"

The file holds one number, in Celsius. A file that is gone or says nothing is no temperature: trials then hold.
"""

from pathlib import Path

from pydantic import Field

import isotherm

CHANNEL = isotherm.Channel(device="cpu", part="cpu", quantum=0.0)


@isotherm.sensor("file", version=1)
class FileSensor:
    """One number in a file."""

    class Config(isotherm.PartConfig):
        """Keys in `thermal.sensor`."""

        path: Path = Field(description="file with a temperature in Celsius")

    name = "file"
    channels = (CHANNEL,)

    def __init__(self, config: Config, host: isotherm.SensorHost) -> None:
        self._path = config.path
        if not self._path.is_file():
            raise isotherm.SensorError(f"{self._path}: there is no such file")

    def read(self, load: float) -> dict[isotherm.Channel, isotherm.Reading]:
        """The number that the file holds now; whatever is raised counts as no answer."""
        return {CHANNEL: isotherm.Reading(celsius=float(self._path.read_text()))}

    def close(self) -> None:
        """Nothing is open."""
