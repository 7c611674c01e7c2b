"""All temperatures of this host, with what the policy would say. Nothing is throttled."""

from dataclasses import dataclass
from typing import Any

from runner.host.cuda import cuda_visible_devices
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
    return {"sensors": [_row(one) for one in read(watched)], "missing": list(watched.missing)}


def read(watched: Watched) -> list[Sample]:
    """Read every sensor once."""
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
