"""Stand-ins at the boundary of libraries whose hardware is not here, and a clock that tests turn."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from runner.thermal.reading import Channel, Reading


class Clock:
    """Seconds, turned by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class NvmlError(Exception):
    """As `pynvml.NVMLError`."""


class Nvml:
    """The functions of `pynvml` that are used, over devices that are plain dictionaries.

    A device has ``uuid, name, celsius`` and may have ``memory, margin, slowdown, memory_max, watts, joules, used,
    limit, usual, least, reasons``; what it has not is answered as by NVML: not supported. ``lost`` breaks every call,
    ``permitted`` is the right to set power limits.
    """

    NVMLError = NvmlError
    NVML_SUCCESS = 0
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVML_TEMPERATURE_THRESHOLD_MEM_MAX = 2
    NVML_FI_DEV_MEMORY_TEMP = 82
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSwPowerCap = 0x4

    def __init__(self, *devices: dict[str, Any], starts: bool = True) -> None:
        self.devices = list(devices)
        self.starts = starts
        self.permitted = True
        self.lost = False
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.starts:
            raise NvmlError("NVML Shared Library Not Found")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.lost:
            raise NvmlError("Unknown Error")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        return self.devices[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:  # noqa: N802
        return next(device for device in self.devices if device["uuid"] == uuid)

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> str:  # noqa: N802
        return str(self._get(handle, "uuid"))

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> str:  # noqa: N802
        return str(handle.get("name", "GPU"))

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], sensor: int) -> int:  # noqa: N802
        return int(self._get(handle, "celsius"))

    def nvmlDeviceGetMarginTemperature(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return int(self._get(handle, "margin"))

    def nvmlDeviceGetTemperatureThreshold(self, handle: dict[str, Any], kind: int) -> int:  # noqa: N802
        return int(self._get(handle, {1: "slowdown", 2: "memory_max"}[kind]))

    def nvmlDeviceGetFieldValues(self, handle: dict[str, Any], fields: list[int]) -> list[Any]:  # noqa: N802
        self._get(handle, "uuid")
        code = 0 if "memory" in handle else 3
        return [SimpleNamespace(nvmlReturn=code, value=SimpleNamespace(uiVal=handle.get("memory", 0)))]

    def nvmlDeviceGetPowerUsage(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return int(1000 * self._get(handle, "watts"))

    def nvmlDeviceGetPowerManagementLimit(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return int(1000 * self._get(handle, "limit"))

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return int(1000 * self._get(handle, "usual"))

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: dict[str, Any]) -> list[int]:  # noqa: N802
        return [int(1000 * self._get(handle, "least")), int(1000 * self._get(handle, "usual"))]

    def nvmlDeviceSetPowerManagementLimit(self, handle: dict[str, Any], milliwatts: int) -> None:  # noqa: N802
        if not self.permitted:
            raise NvmlError("Insufficient Permissions")
        least, usual = self.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        if not least <= milliwatts <= usual:
            raise NvmlError("Invalid Argument")
        handle["limit"] = milliwatts / 1000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return int(1000 * self._get(handle, "joules"))

    def nvmlDeviceGetUtilizationRates(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self._get(handle, "used"))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return int(self._get(handle, "reasons"))

    def _get(self, handle: dict[str, Any], name: str) -> Any:
        if self.lost or handle.get("gone"):
            raise NvmlError("GPU is lost")
        if name not in handle:
            raise NvmlError("Not Supported")
        return handle[name]


class Monitors:
    """`psutil.sensors_temperatures`, over chips that are plain lists of (label, Celsius)."""

    def __init__(self, **chips: Sequence[tuple[str, float]]) -> None:
        self.chips = dict(chips)

    def sensors_temperatures(self) -> Mapping[str, Sequence[Any]]:
        return {
            chip: [SimpleNamespace(label=label, current=celsius) for label, celsius in entries]
            for chip, entries in self.chips.items()
        }


class Settable:
    """A sensor whose readings a test sets; an exception is raised."""

    name = "settable"

    def __init__(self, *channels: Channel, celsius: float = 50.0) -> None:
        self.channels = channels
        self.readings: dict[Channel, Reading] | Exception = {channel: Reading(celsius) for channel in channels}

    def show(self, **by_device: float | None) -> None:
        self.readings = {channel: Reading(by_device[channel.device]) for channel in self.channels}

    def read(self, load: float) -> Mapping[Channel, Reading]:
        if isinstance(self.readings, Exception):
            raise self.readings
        return self.readings

    def close(self) -> None:
        pass
