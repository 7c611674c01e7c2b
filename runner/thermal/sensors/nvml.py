"""NVIDIA GPUs through NVML. Everything goes through a library object with the functions of `pynvml`.

Devices are known by UUID: NVML counts them in PCI order, CUDA by default the fastest first. An index means two things.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.thermal.power_limit import PowerLimits
from runner.thermal.reading import Channel, Part, Reading
from runner.thermal.sensors.base import Sensor, SensorError, SensorHost, sensor
from trainables.parts import PartConfig

MILLI = 1e-3
_REASONS = {
    "HwThermalSlowdown": "hardware thermal slowdown",
    "SwThermalSlowdown": "software thermal slowdown",
    "HwPowerBrakeSlowdown": "power brake",
    "HwSlowdown": "hardware slowdown",
    "SwPowerCap": "power cap",
}


_NEWEST = ("nvmlDeviceGetMarginTemperature", "nvmlDeviceGetCurrentClocksEventReasons")  # of what is called here


def load_library() -> Any:
    """`pynvml`, from nvidia-ml-py.

    Raises:
        SensorError: another package or file of that name is in its place.
    """
    import pynvml

    if missing := [name for name in _NEWEST if not hasattr(pynvml, name)]:
        raise SensorError(
            f"the module pynvml is not nvidia-ml-py's: {pynvml.__file__} has no {missing[0]}; "
            "pip uninstall -y pynvml && pip install --force-reinstall nvidia-ml-py, or rename it where it is yours"
        )
    return pynvml


@dataclass
class _Device:
    """One GPU. `energy` is (time in s, joules used since the driver was loaded), as of the read before."""

    uuid: str
    handle: Any
    threshold: float | None
    energy: tuple[float, float] | None = None


class NvmlSensor:
    """Die and memory temperatures of the visible GPUs.

    Newer boards give no thresholds but a margin: the degrees left until they slow down (T.Limit). Then the channel's
    slowdown threshold is what temperature and margin added up to when the sensor was opened.
    """

    def __init__(
        self,
        library: Any,
        visible: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        min_power_limit: float | None = None,
    ) -> None:
        """Open NVML.

        Args:
            library: `pynvml`.
            visible: CUDA_VISIBLE_DEVICES, None where it is not set.
            clock: seconds, monotonic.
            min_power_limit: see `ThermalSpec`.

        Raises:
            SensorError: there is no NVML or no GPU, or `visible` (CUDA_VISIBLE_DEVICES) names none that is here.
        """
        self.name = "nvml"
        self._nvml = library
        self._clock = clock
        self.power_limits: PowerLimits | None = None
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise SensorError(f"NVML does not start: {error}") from error
        except OSError as error:
            raise SensorError(f"NVML cannot be loaded: {error}") from error
        try:
            self._devices = [self._open(uuid) for uuid in _visible_uuids(library, visible)]
            if not self._devices:
                raise SensorError("NVML sees no GPU")
            self.channels = tuple(channel for device in self._devices for channel in self._channels_of(device))
            handles = {device.uuid: device.handle for device in self._devices}
            self.power_limits = PowerLimits(library, handles, min_power_limit) if min_power_limit else None
        except library.NVMLError as error:
            self.close()
            raise SensorError(f"NVML: {error}") from error
        except SensorError:
            self.close()
            raise

    def read(self, load: float) -> Mapping[Channel, Reading]:
        """Read all GPUs. One that is lost has no reading; where the driver counts fewer GPUs, its index is not trusted.

        Raises:
            SensorError: NVML itself is gone.
        """
        found: dict[Channel, Reading] = {}
        present = {_uuid(self._nvml, index) for index in range(self._count())}
        for device in self._devices:
            if device.uuid not in present:
                continue
            power, utilisation, slowed = self._power(device), self._utilisation(device), self._slowed_by(device)
            for channel in self.channels:
                if channel.device == device.uuid:
                    celsius = self._celsius(device, channel.part)
                    found[channel] = Reading(celsius, power, utilisation, slowed)
        return found

    def close(self) -> None:
        """Set power limits again as they were, and shut NVML down."""
        if self.power_limits is not None:
            self.power_limits.close()
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return

    # ---- opening -------------------------------------------------------------------------------------------------

    def _open(self, uuid: str) -> _Device:
        handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        margin = self._maybe(self._nvml.nvmlDeviceGetMarginTemperature, handle)
        threshold = self._maybe(
            self._nvml.nvmlDeviceGetTemperatureThreshold, handle, self._nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        )
        celsius = self._die(handle)
        if celsius is None:
            raise SensorError(f"{uuid} gives no temperature")
        if threshold is None and margin is not None:
            threshold = celsius + margin
        return _Device(uuid, handle, threshold)

    def _channels_of(self, device: _Device) -> list[Channel]:
        channels = [Channel(device.uuid, "gpu", slowdown_celsius=device.threshold)]
        if self._memory(device.handle) is not None:
            limit = self._maybe(
                self._nvml.nvmlDeviceGetTemperatureThreshold,
                device.handle,
                self._nvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
            )
            channels.append(Channel(device.uuid, "memory", slowdown_celsius=limit))
        return channels

    # ---- reading -------------------------------------------------------------------------------------------------

    def _count(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            raise SensorError(f"NVML is lost: {error}") from error

    def _celsius(self, device: _Device, part: Part) -> float | None:
        return self._memory(device.handle) if part == "memory" else self._die(device.handle)

    def _die(self, handle: Any) -> float | None:
        return self._maybe(self._nvml.nvmlDeviceGetTemperature, handle, self._nvml.NVML_TEMPERATURE_GPU)

    def _memory(self, handle: Any) -> float | None:
        try:
            [value] = self._nvml.nvmlDeviceGetFieldValues(handle, [self._nvml.NVML_FI_DEV_MEMORY_TEMP])
        except self._nvml.NVMLError:
            return None
        # A board without the sensor answers with an error code, or with 0.
        return float(value.value.uiVal) or None if value.nvmlReturn == self._nvml.NVML_SUCCESS else None

    def _power(self, device: _Device) -> float | None:
        """Mean watts since the read before, from the energy counter: a single look would alias with the duty cycle."""
        millijoules = self._maybe(self._nvml.nvmlDeviceGetTotalEnergyConsumption, device.handle)
        if millijoules is not None:
            before, device.energy = device.energy, (self._clock(), millijoules * MILLI)
            if before is not None and device.energy[0] > before[0]:
                return (device.energy[1] - before[1]) / (device.energy[0] - before[0])
        milliwatts = self._maybe(self._nvml.nvmlDeviceGetPowerUsage, device.handle)
        return None if milliwatts is None else milliwatts * MILLI

    def _utilisation(self, device: _Device) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(device.handle).gpu) / 100
        except self._nvml.NVMLError:
            return None

    def _slowed_by(self, device: _Device) -> str:
        mask = self._maybe(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, device.handle)
        names = [
            words
            for name, words in _REASONS.items()
            if mask is not None and int(mask) & getattr(self._nvml, f"nvmlClocksEventReason{name}")
        ]
        return ", ".join(names)

    def _maybe(self, call: Any, *arguments: Any) -> float | None:
        """A number, or None where the device cannot say it."""
        try:
            return float(call(*arguments))
        except self._nvml.NVMLError:
            return None


def _uuid(library: Any, index: int) -> str:
    """UUID by NVML's own count; empty where that device does not answer."""
    try:
        return _text(library.nvmlDeviceGetUUID(library.nvmlDeviceGetHandleByIndex(index)))
    except library.NVMLError:
        return ""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _visible_uuids(library: Any, visible: str | None) -> list[str]:
    """UUIDs of the GPUs that CUDA_VISIBLE_DEVICES leaves; all where it is not set."""
    # One that is lost or not permitted has no UUID; CUDA has no use of it either.
    everything = [_uuid(library, index) for index in range(library.nvmlDeviceGetCount())]
    if visible is None:
        return [uuid for uuid in everything if uuid]
    chosen: list[str] = []
    for name in filter(None, (part.strip() for part in visible.split(","))):
        if name.startswith("MIG-"):
            raise SensorError(
                f"CUDA_VISIBLE_DEVICES names {name}: the slices of one GPU share its temperature, and NVML gives none "
                "for a slice; name the whole GPU, or watch it from outside"
            )
        if name.lstrip("-").isdigit():
            if int(name) < 0:
                break  # as CUDA does: what follows -1 is invisible
            chosen.append(_by_index(library, int(name), everything))
        else:
            chosen.append(_by_prefix(name, everything))
    return chosen


def _handle(library: Any, index: int) -> Any:
    return library.nvmlDeviceGetHandleByIndex(index)


def _by_index(library: Any, index: int, everything: list[str]) -> str:
    if index >= len(everything):
        raise SensorError(f"CUDA_VISIBLE_DEVICES names GPU {index}, and NVML sees {len(everything)}")
    if not all(everything):
        raise SensorError(
            f"CUDA_VISIBLE_DEVICES names GPU {index} by number, and {everything.count('')} of {len(everything)} GPUs "
            "do not answer, so CUDA may count differently; name it by UUID (nvidia-smi -L)"
        )
    names = {_text(library.nvmlDeviceGetName(_handle(library, one))) for one in range(len(everything))}
    if len(names) > 1:
        raise SensorError(
            f"CUDA_VISIBLE_DEVICES names GPU {index} by number, and this host has different GPUs ({sorted(names)}), "
            "which CUDA and NVML may count differently; name them by UUID (nvidia-smi -L)"
        )
    return everything[index]


def _by_prefix(name: str, everything: list[str]) -> str:
    """CUDA accepts an unambiguous beginning of a UUID."""
    matching = [uuid for uuid in everything if uuid and uuid.startswith(name)]
    if len(matching) != 1:
        raise SensorError(f"CUDA_VISIBLE_DEVICES names {name}; {len(matching)} of {everything} match")
    return matching[0]


@sensor("nvml")
def nvml(config: PartConfig, host: SensorHost) -> Sensor:
    """NVIDIA GPUs."""
    return NvmlSensor(load_library(), host.visible, min_power_limit=host.thermal.min_power_limit)
