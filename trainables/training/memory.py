"""Peak memory of one trial: the CUDA allocator's on a GPU, the process's resident size on a CPU."""

import logging
import re
import resource
import sys
from pathlib import Path

import torch

from trainables.errors import OutOfMemoryError

log = logging.getLogger(__name__)

_STATUS = Path("/proc/self/status")
MOST_WORDS = 500
# What is said where memory ran out; the only list of such words. Errors with classes of their own need none.
_NO_MEMORY = (
    *("CUDA out of memory", "HIP out of memory"),  # torch's caching allocators (c10/cuda/CUDACachingAllocator.cpp)
    *("CUDA error: out of memory", "HIP error: out of memory"),  # torch.AcceleratorError: a call beyond the allocator
    *("CUDA_ERROR_OUT_OF_MEMORY", "[CUDA]: out of memory"),  # the driver's interface, and Triton's words for it
    *("can't allocate memory", "not enough memory", "Cannot allocate memory"),  # c10/core/impl/alloc_cpu.cpp; ENOMEM
    # cuBLAS makes its handle, and cuDNN its workspace, at the first use: with a full device that is where it ends.
    # Their documentations name a failed allocation as the cause of each.
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"),
    *("HIPBLAS_STATUS_ALLOC_FAILED", "HIPBLAS_STATUS_NOT_INITIALIZED"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    *("CUSOLVER_STATUS_ALLOC_FAILED", "CUSPARSE_STATUS_ALLOC_FAILED"),
)


def reset_peak(device: torch.device) -> None:
    """Start a new peak, so that a worker that ran a larger trial before does not report that one's.

    Where the kernel does not offer it (no Linux), the peak stays that of the whole process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return


def peak_bytes(device: torch.device) -> int:
    """Bytes at the peak since the last reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # VmHWM rather than getrusage, whose figure starts at the parent's size and is never reset.
    if _STATUS.exists() and (match := re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())):
        return int(match[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cap_device(device: torch.device, share: float) -> None:
    """Let this process take at most `share` of the GPU's memory: packed trials cannot harm each other.

    A reused worker gets the cap of the trial that it runs now. Nothing happens on a CPU.
    """
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), torch.cuda.current_device())


def give_back(device: torch.device) -> None:
    """Give unused memory of a GPU back to its other users. Nothing happens on a CPU."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:  # after a CUDA graph whose capture failed, PyTorch's allocator refuses it
        log.warning("unused memory of the GPU is not given back: %s", str(error).strip().splitlines()[0])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: the device's, the CPU allocator's, Python's.

    Words count in errors of the runtime and the system alone: an error of another class may quote them.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and _says_out_of_memory(str(error))


def typed(error: Exception) -> Exception:
    """An `OutOfMemoryError` in place of whatever says that memory ran out; any other error as it is."""
    if not is_out_of_memory(error):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if _says_out_of_memory(line)), lines[0] if lines else "")
    return OutOfMemoryError(f"{type(error).__name__}: {said[:MOST_WORDS]}")


def _says_out_of_memory(text: str) -> bool:
    return any(words in text for words in _NO_MEMORY)
