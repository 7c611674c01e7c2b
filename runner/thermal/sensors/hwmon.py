"""CPU temperatures from the kernel's hardware monitors, through psutil."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import psutil

from runner.thermal.reading import Channel, Reading
from runner.thermal.sensors.base import Sensor, SensorError, SensorHost, sensor
from runner.thermal.spec import HwmonSpec
from trainables.parts import PartConfig

# Kernel drivers of CPU temperatures: Intel, AMD (two), ARM boards, and a generic name of small systems.
CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")
CHANNEL = Channel(device="cpu", part="cpu", quantum=1.0)
_Table = Mapping[str, Sequence[Any]]


class Monitors(Protocol):
    """The part of psutil that is used."""

    def sensors_temperatures(self) -> Mapping[str, Sequence[Any]]:
        """By chip, entries with ``label`` and ``current`` in Celsius."""
        ...


class HwmonSensor:
    """The hottest matching entry of one chip."""

    def __init__(self, spec: HwmonSpec, monitors: Monitors | None = None) -> None:
        """Open it.

        Raises:
            SensorError: no such chip or label on this host.
        """
        self.name = "hwmon"
        self.channels = (CHANNEL,)
        self._monitors = monitors if monitors is not None else cast(Monitors, psutil)
        self._label = spec.label
        if not hasattr(self._monitors, "sensors_temperatures"):
            raise SensorError("this operating system gives no hardware monitors")
        table = self._monitors.sensors_temperatures()
        self._chip = self._choose(table, spec.chip)
        self._count = len(self._entries(table))
        if not self._count:
            labels = sorted({str(entry.label) for entry in table[self._chip]})
            raise SensorError(f"hwmon chip {self._chip} has no label {self._label!r}; it has {labels}")

    def read(self, load: float) -> Mapping[Channel, Reading]:
        """The hottest entry; fewer entries than at the start are no reading."""
        entries = self._entries(self._monitors.sensors_temperatures())
        if len(entries) < self._count:
            return {}
        return {CHANNEL: Reading(max(float(entry.current) for entry in entries))}

    def close(self) -> None:
        """Nothing is open."""

    def _choose(self, table: _Table, chip: str | None) -> str:
        if chip is not None:
            if chip not in table:
                raise SensorError(f"no hwmon chip {chip!r} on this host; it has {sorted(table) or 'none'}")
            return chip
        for known in CPU_CHIPS:
            if table.get(known):
                return known
        seen = f"its chips are {sorted(table)}" if table else "it has no hardware monitors"
        raise SensorError(f"no CPU temperature on this host: {seen}")

    def _entries(self, table: _Table) -> list[Any]:
        return [entry for entry in table.get(self._chip, ()) if self._label in (None, entry.label)]


@sensor("hwmon")
def hwmon(config: PartConfig, host: SensorHost) -> Sensor:
    """The CPU, through the kernel's hardware monitors; `thermal.hwmon` names one."""
    return HwmonSensor(host.thermal.hwmon)
