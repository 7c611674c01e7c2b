"""Peak memory of one trial: the CUDA allocator's on a GPU, the process's resident size on a CPU."""

import re
import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
# What torch's CPU allocator (c10/core/impl/alloc_cpu.cpp) and the CUDA libraries say where they raise no error class.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory")


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: CUDA's, the CPU allocator's, Python's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
