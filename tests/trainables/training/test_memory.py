"""What says that memory ran out, in errors and in the text of a worker's failure."""

import pytest
import torch

from runner.tune.memory import FailureClassifier
from trainables.training.memory import is_out_of_memory

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
def test_probe_and_failure_classification_know_the_same_words(kind: type[Exception], text: str, tmp_path: str) -> None:
    error = kind(text)
    assert is_out_of_memory(error)
    traceback = f"Traceback (most recent call last):\n  File x\n{kind.__name__}: {text}\n"
    assert FailureClassifier(lambda: 0).out_of_memory(traceback, tmp_path / "key")  # type: ignore[operator]


@pytest.mark.parametrize("text", NOT)
def test_other_failures_are_no_lack_of_memory(text: str, tmp_path: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))
    assert not FailureClassifier(lambda: 0).out_of_memory(f"RuntimeError: {text}", tmp_path / "key")  # type: ignore[operator]


def test_classes_that_say_it_themselves_and_an_error_that_only_quotes_the_words() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(ValueError("the log says: CUDA out of memory"))
