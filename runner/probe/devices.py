"""What NVML says of the first visible CUDA device: memory in use by anyone, and the driver."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CudaMemory:
    """Memory of a device, whoever uses it, in bytes."""

    total: int
    used: int

    @property
    def free(self) -> int:
        """Bytes that nobody uses."""
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
