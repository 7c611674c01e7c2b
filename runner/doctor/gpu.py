"""The NVIDIA driver, its management library (NVML), and whether PyTorch can use the GPU."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, Level, ok
from runner.host.cuda import cuda_visible_devices, hidden, mps_runs, needed_driver
from runner.thermal.sensors.base import SensorError

WHY_NVML = "the governor reads temperatures through it, and holds every trial that it cannot read"
WHY_NODES = "a container can lose its GPUs in mid-life, when systemd reloads or the driver is updated below it"
_RESTART = "restart the container (docker restart NAME; the sweep resumes)"
_FIXS = {
    "LibraryNotFound": "let the container have it: NVIDIA_DRIVER_CAPABILITIES=compute,utility; on a host: install the "
    "NVIDIA driver",
    "DriverNotLoaded": "modprobe nvidia; nvidia-smi says what is wrong",
    "LibRmVersionMismatch": "the driver was updated while its old kernel module runs: reboot, or reload the module",
    "NoPermission": f"{_RESTART}; on a host: add the user to the group of /dev/nvidia*",
    "GpuIsLost": "reboot; if it comes back, look at the power supply and the slot (dmesg | grep -i xid)",
}

# By a part of the card's name: the share of its default power at which it was measured to lose little, and by whom.
POWER_ADVICE = {
    "RTX 3090": (0.8, "280 of 350 W keep over 95 % of the speed of training (Kinghorn 2020, pugetsystems.com)"),
    "V100": (0.6, "150 of 250 W had little effect on the time of jobs (Zhao et al. 2024, arXiv 2402.18593)"),
}


@dataclass(frozen=True)
class TorchBuild:
    """What PyTorch says: the CUDA it was built for ('' for a CPU build), and whether it sees a device."""

    version: str
    cuda: str
    available: bool
    too_old: tuple[str, ...] = ()  # devices whose compute capability this build has no code for


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Look at the driver; on a host without NVIDIA GPUs there is nothing to find."""
    nodes = place.gpu_nodes
    if not nodes:
        if place.execution.device == "cuda":
            yield _no_gpu()
        else:
            yield ok("GPU", "no NVIDIA GPU on this host: trials run on the CPU")
        return
    denied = [f"{node} ({error})" for node in nodes if (error := _denied(node))]
    if denied:
        yield Diagnosis(
            check="GPU",
            level="error",
            what=f"device files cannot be opened: {', '.join(denied)}",
            why=WHY_NODES,
            fix=_RESTART + "; for good: nvidia-ctk system create-dev-char-symlinks --create-all on the host",
        )
    found = _nvml(place)
    yield found
    if found.level == "ok":
        yield from _power_limits(place.nvml())
        yield _mps(place)


def check_torch(place: HostContext, build: TorchBuild | None = None) -> Iterator[Diagnosis]:
    """Hold PyTorch against the driver. Imports torch."""
    build = build or torch_build()
    said = f"PyTorch {build.version}, built for {'CUDA ' + build.cuda if build.cuda else 'the CPU'}"
    asked = place.execution.device == "cuda"
    # A host with GPUs that trains on its CPU is not fit, unless it is meant to; a cluster's driver trains nothing.
    meant = place.execution.device == "cpu" or hidden(cuda_visible_devices())
    level: Level = "error" if asked or not place.cluster else "warn"
    if (build.available and not build.too_old) or not (place.gpu_nodes or asked):
        yield ok("PyTorch", said + (", sees the GPU" if build.available else ""))
    elif meant and not asked:
        yield ok("PyTorch", f"{said}; GPUs are not to be used (execution.device: cpu, or CUDA_VISIBLE_DEVICES)")
    elif build.too_old:
        yield Diagnosis(
            check="PyTorch",
            level="error" if asked else "warn",
            what=f"{said}, has no code for {', '.join(build.too_old)}",
            why="the first operation on such a GPU fails",
            fix="install a build of PyTorch for that GPU, or hide it with CUDA_VISIBLE_DEVICES",
        )
    elif not build.cuda:
        yield Diagnosis(
            check="PyTorch",
            level=level,
            what=f"{said}; this host has {len(place.gpu_nodes)} NVIDIA GPU(s)",
            why="trials would run on the CPU",
            fix="make image VARIANT=cuda; outside a container: reinstall torch from an index with CUDA builds",
        )
    else:
        yield Diagnosis(
            check="PyTorch",
            level=level,
            what=f"{said}, sees no GPU; {needed_driver(build.cuda)}; {_driver(place)}",
            why="trials would run on the CPU",
            fix="update the driver, look at CUDA_VISIBLE_DEVICES, or set execution.device: cpu to train there",
        )


def torch_build() -> TorchBuild:
    """Ask PyTorch."""
    import torch

    available = torch.cuda.is_available()
    supported = [int(name.rpartition("_")[2].rstrip("af")) for name in torch.cuda.get_arch_list()] if available else []
    too_old = []
    for index in range(torch.cuda.device_count() if available else 0):
        major, minor = torch.cuda.get_device_capability(index)
        if supported and 10 * major + minor < min(supported):
            too_old.append(f"{torch.cuda.get_device_name(index)} (compute capability {major}.{minor})")
    return TorchBuild(torch.__version__, torch.version.cuda or "", available, tuple(too_old))


def _no_gpu() -> Diagnosis:
    return Diagnosis(
        check="GPU",
        level="warn",  # PyTorch has the last word
        what="execution.device is cuda, and there is no NVIDIA device file (/dev/nvidia0)",
        why="no trial can start where PyTorch sees no GPU",
        fix="give the container its GPUs: --gpus all (docker), --device nvidia.com/gpu=all (podman); or set "
        "execution.device: auto",
    )


def _denied(node: Any) -> str:
    """Why a device file cannot be opened: the control group no longer allows it, or its owner does not."""
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _nvml(place: HostContext) -> Diagnosis:
    try:
        library = place.nvml()
    except SensorError as error:
        return Diagnosis(
            check="NVML",
            level="error" if place.thermal.require_sensors else "warn",
            what=str(error).partition("; ")[0],
            why=WHY_NVML,
            fix=str(error).partition("; ")[2],
        )
    try:
        library.nvmlInit()
        try:
            count = library.nvmlDeviceGetCount()
            driver = library.nvmlSystemGetDriverVersion()
        finally:
            library.nvmlShutdown()
    except (library.NVMLError, OSError) as error:
        kind = type(error).__name__.removeprefix("NVMLError_")
        return Diagnosis(
            check="NVML",
            level="error" if place.thermal.require_sensors else "warn",
            what=f"the driver's management library does not answer: {error}",
            why=WHY_NVML,
            fix=_FIXS.get(kind, f"nvidia-smi says what is wrong; in a container: {_RESTART}"),
        )
    if count < len(place.gpu_nodes):
        return Diagnosis(
            check="NVML",
            level="warn",
            what=f"NVML sees {count} of {len(place.gpu_nodes)} GPUs",
            why="the others are lost or not given to this container",
            fix="dmesg | grep -i xid on the host; then reset or reboot",
        )
    return ok("NVML", f"driver {driver}, {count} GPU(s)")


def _power_limits(library: Any) -> Iterator[Diagnosis]:
    """What each kind of card may take, and what is advised for it."""
    said: set[str] = set()
    library.nvmlInit()
    try:
        for index in range(library.nvmlDeviceGetCount()):
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                name = library.nvmlDeviceGetName(handle)
                now = library.nvmlDeviceGetPowerManagementLimit(handle) / 1000
                usual = library.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000
            except (library.NVMLError, OSError):  # not every card says so
                continue
            share, why = next((advice for part, advice in POWER_ADVICE.items() if part in name), (1.0, ""))
            words = f"{name} may take {now:.0f} W, {usual:.0f} W by default"
            if now > share * usual:
                words += f"; to run cooler: nvidia-smi -pl {share * usual:.0f}, as {why}"
            said.add(words)
    finally:
        library.nvmlShutdown()
    yield from (ok("power limit", words) for words in sorted(said))


def _mps(place: HostContext) -> Diagnosis:
    if mps_runs(place.root):
        return ok("CUDA MPS", "runs: trials that share a GPU compute at the same time")
    return ok("CUDA MPS", "does not run: trials that share a GPU take turns; nvidia-cuda-mps-control -d starts it")


def _driver(place: HostContext) -> str:
    """The driver that is here, and the newest CUDA that it supports."""
    try:
        library = place.nvml()
    except SensorError as error:
        return str(error)
    try:
        library.nvmlInit()
        try:
            number, driver = int(library.nvmlSystemGetCudaDriverVersion()), library.nvmlSystemGetDriverVersion()
        finally:
            library.nvmlShutdown()
    except (library.NVMLError, OSError):
        return "the driver does not say its version"
    return f"the driver is {driver}, for CUDA up to {number // 1000}.{number % 1000 // 10}"
