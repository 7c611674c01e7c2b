"""All temperatures of this host, live, with what the policy would say. Nothing is throttled."""

import time
from dataclasses import dataclass
from typing import Any

from rich.live import Live
from rich.table import Table

from runner.config.settings import cuda_visible_devices
from runner.terminal.console import Console
from runner.thermal.monitor import Sample, ThermalMonitor
from runner.thermal.sensors import SensorError, open_sensor
from runner.thermal.spec import ThermalSpec


@dataclass(frozen=True)
class Watched:
    """Stations that read, and why others cannot."""

    spec: ThermalSpec
    stations: tuple[ThermalMonitor, ...]
    missing: tuple[str, ...]


def open_all(spec: ThermalSpec | None) -> Watched:
    """Open every sensor of this host, or those that a sweep file names."""
    spec = spec or ThermalSpec()
    devices = ("cuda", "cpu") if spec.sensor.name == "auto" else ("cpu",)
    stations, missing = [], []
    for device in devices:
        try:
            stations.append(ThermalMonitor(spec, open_sensor(spec, device, cuda_visible_devices())))
        except SensorError as error:
            missing.append(str(error))
    return Watched(spec, tuple(stations), tuple(missing))


def first(watched: Watched) -> dict[str, Any]:
    """The first readings as plain values."""
    return {"sensors": [_row(sample) for sample in _sample(watched)], "missing": list(watched.missing)}


def show(watched: Watched, console: Console, seconds: float | None) -> None:
    """Draw a live table until the time is over or Ctrl-C; where the output is no terminal, the last one is printed."""
    for why in watched.missing:
        console.print(f"not read: {why}", highlight=False, markup=False)
    if not watched.stations:
        return
    began = time.monotonic()
    with Live(_table(_sample(watched)), console=console, auto_refresh=False) as live:
        try:
            while seconds is None or time.monotonic() - began < seconds:
                time.sleep(watched.spec.interval_s)
                live.update(_table(_sample(watched)), refresh=True)
        except KeyboardInterrupt:
            return


def _sample(watched: Watched) -> list[Sample]:
    samples = []
    for station in watched.stations:
        known = station.samples_after(-1)
        station.sample()
        samples += station.samples_after(known[-1].seq if known else -1)
    return samples


def _row(sample: Sample) -> dict[str, Any]:
    limits = {name: getattr(sample.limits, name) for name in ("target", "hold", "resume", "stop")}
    names = (
        "sensor",
        "device",
        "part",
        "celsius",
        "power_watts",
        "utilisation",
        "slowed_by",
        "state",
        "duty",
        "reason",
    )
    return {**{name: getattr(sample, name) for name in names}, **limits}


def _table(samples: list[Sample]) -> Table:
    table = Table("sensor", "device", "part")
    for name in ("Celsius", "target", "hold", "resume", "stop", "watts", "used"):
        table.add_column(name, justify="right")
    for name in ("slowed by", "the policy says"):
        table.add_column(name)
    for sample in samples:
        limits = sample.limits
        table.add_row(
            sample.sensor,
            sample.device,
            sample.part,
            _shown(sample.celsius),
            *(f"{value:g}" for value in (limits.target, limits.hold, limits.resume, limits.stop)),
            _shown(sample.power_watts),
            "-" if sample.utilisation is None else f"{sample.utilisation:.0%}",
            sample.slowed_by or "-",
            f"{sample.state}, duty {sample.duty:.0%}" + (f" ({sample.reason})" if sample.reason else ""),
        )
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
