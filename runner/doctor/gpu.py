"""The NVIDIA driver, its management library (NVML), and whether PyTorch can use the GPU."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.config.settings import cuda_visible_devices
from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, Level, ok
from runner.host.cuda import hidden, needed_driver

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
    yield _nvml(place)


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
    library = place.nvml()
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


def _driver(place: HostContext) -> str:
    """The driver that is here, and the newest CUDA that it supports."""
    library = place.nvml()
    try:
        library.nvmlInit()
        try:
            number, driver = int(library.nvmlSystemGetCudaDriverVersion()), library.nvmlSystemGetDriverVersion()
        finally:
            library.nvmlShutdown()
    except (library.NVMLError, OSError):
        return "the driver does not say its version"
    return f"the driver is {driver}, for CUDA up to {number // 1000}.{number % 1000 // 10}"
