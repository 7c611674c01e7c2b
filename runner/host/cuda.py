"""NVIDIA devices of this host, without a CUDA context: their files, memory in use by anyone, the driver."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Oldest driver for programs built for a major version of CUDA (NVIDIA, 'CUDA Toolkit Release Notes', the table on minor
# version compatibility).
OLDEST_DRIVERS = {11: "450", 12: "525", 13: "580"}


@dataclass(frozen=True)
class CudaMemory:
    """Memory of a device, whoever uses it, in bytes."""

    total: int
    used: int

    @property
    def free(self) -> int:
        """Free bytes."""
        return self.total - self.used


def cuda_memory(index: int = 0) -> CudaMemory:
    """Memory of a device. Asks NVML, which makes no CUDA context in this process.

    Raises:
        pynvml.NVMLError: no driver, or the device is not visible to NVML.
    """
    import pynvml
    import torch  # here: what only reads limits shall not load it

    pynvml.nvmlInit()
    try:
        # By UUID: CUDA counts visible devices, NVML counts all of them.
        uuid = str(torch.cuda.get_device_properties(index).uuid)
        info = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        return CudaMemory(total=int(info.total), used=int(info.used))
    finally:
        pynvml.nvmlShutdown()


def gpu_nodes(root: Path = Path("/")) -> list[Path]:
    """Device files of NVIDIA GPUs: the sign that this host or container was given some. WSL has one for all."""
    devices = root / "dev"
    return sorted(devices.glob("nvidia[0-9]*")) or sorted(devices.glob("dxg"))


def cuda_visible_devices() -> str | None:
    """CUDA_VISIBLE_DEVICES, None where it is not set."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def hidden(visible: str | None) -> bool:
    """Whether this value of CUDA_VISIBLE_DEVICES (None = not set) hides every GPU on purpose."""
    return visible is not None and visible.strip().split(",")[0] in ("", "-1", "NoDevFiles")


def needed_driver(cuda: str) -> str:
    """The oldest driver for PyTorch's CUDA, such as ``CUDA 13.0 needs driver 580 or newer``; empty if not known."""
    oldest = OLDEST_DRIVERS.get(int(cuda.partition(".")[0])) if cuda else None
    return f"CUDA {cuda} needs driver {oldest} or newer" if oldest else ""


def mps_runs(root: Path = Path("/")) -> bool:
    """Whether CUDA MPS serves this host: its control daemon is seen, or in a container its default pipe."""
    if (root / "tmp/nvidia-mps/control").exists():
        return True
    for name in (root / "proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it has ended
            if name.read_text().startswith("nvidia-cuda-mps"):  # the kernel keeps 15 characters
                return True
    return False


def driver_version() -> str:
    """Version of the NVIDIA driver; an empty text where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()
