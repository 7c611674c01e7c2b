"""Sensor and policy in threads of this process: temperature protection without Ray, for debug mode and any loop."""

import threading
from collections.abc import Callable

from runner.host.cuda import cuda_visible_devices
from runner.thermal.gate import Follower, ThermalGate
from runner.thermal.monitor import ThermalMonitor
from runner.thermal.sensors import Sensor, SensorError, open_sensor
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError, Problem

TRIAL = "this process"


class LocalGovernor:
    """Samples in a daemon thread; `gate` is for the one trial of this process."""

    def __init__(self, spec: ThermalSpec, sensor: Sensor, device: str) -> None:
        """Begin.

        Args:
            spec: limits and times.
            sensor: owned from now on.
            device: what the trial runs on: ``cpu`` or a GPU's UUID.

        Raises:
            SensorError: limits as headroom, for a device without a threshold.
        """
        self.station = ThermalMonitor(spec, sensor)
        self.gate = ThermalGate(spec)
        self._spec = spec
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="thermal-sampler", daemon=True)
        self._sampler.start()
        self._follower = Follower(
            self.gate, lambda: self.station.published(device, TRIAL), spec.interval_s / 2, "thermal-follower"
        )

    @classmethod
    def open(cls, spec: ThermalSpec, device: str, say: Callable[[str], None]) -> "LocalGovernor | None":
        """Open the sensor for ``cuda`` or ``cpu``; None, in so many words, where the settings allow to go without.

        Raises:
            ConfigError: no temperature can be read, and the settings require it.
            SensorError: limits as headroom, for a device without a threshold.
        """
        try:
            sensor = open_sensor(spec, device, cuda_visible_devices())
        except SensorError as error:
            if spec.require_sensors:
                raise ConfigError(
                    Problem(
                        place="thermal.require_sensors",
                        message=f"no temperature can be read: {error}",
                        fix="repair the sensor, or set thermal.require_sensors: false to run without protection",
                    )
                ) from error
            say(f"without temperature protection: {error}")
            return None
        governor = cls(spec, sensor, cuda_uuid() if device == "cuda" else "cpu")
        for note in governor.station.notes:
            say(note)
        return governor

    def close(self) -> None:
        """End the threads and let go of the sensor."""
        self._over.set()
        self._follower.close()
        self._sampler.join(timeout=2.0)  # or leave it where it hangs

    def _sample(self) -> None:
        while not self._over.is_set():
            self.station.sample()
            self._over.wait(self._spec.interval_s)
        self.station.sensor.close()


def cuda_uuid(index: int = 0) -> str:
    """UUID of a CUDA device as CUDA itself counts them, in NVML's spelling. Nothing is allocated on the device."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"
