"""What says that memory ran out."""

import pytest
import torch

from trainables.errors import OutOfMemoryError
from trainables.training.memory import is_out_of_memory, typed

SAID = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
    "HIP out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "HIP error: out of memory",
    "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
    "Triton Error [CUDA]: out of memory",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    "[enforce fail at alloc_cpu.cpp:74] . DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
    "unable to mmap 8 bytes from file </dev/shm/x>: Cannot allocate memory (12)",
]
NOT = [
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: device-side assert triggered",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "the actor died unexpectedly: (1) The process is killed by SIGKILL by OOM killer due to high memory usage",
    "mat1 and mat2 shapes cannot be multiplied",
]


@pytest.mark.parametrize("text", SAID)
@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError, torch.OutOfMemoryError])
def test_what_says_that_memory_ran_out(kind: type[Exception], text: str) -> None:
    error = kind(text)
    assert is_out_of_memory(error)
    assert isinstance(typed(error), OutOfMemoryError)


@pytest.mark.parametrize("text", NOT)
def test_other_failures_are_no_lack_of_memory(text: str) -> None:
    error = RuntimeError(text)
    assert typed(error) is error


def test_classes_that_say_it_themselves_and_an_error_that_only_quotes_the_words() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(ValueError("the log says: CUDA out of memory"))
