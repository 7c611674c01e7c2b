"""Why a trial failed, by the types of what its worker raised, as Ray brings it and Tune keeps it."""

import pickle
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayTaskError

from runner.tune.failures import DIED, Failure, FailureClassifier
from runner.tune.memory import word_of
from trainables.errors import DataError, Problem
from trainables.tune_trainable import IsothermTrial


class Life:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __next__(self) -> None:
        raise self.error


def failure(error: Exception, folder: Path) -> Failure:
    """What the driver gets to know of an error that a trial's step raised."""
    trial = IsothermTrial.__new__(IsothermTrial)
    trial._life = Life(error)
    try:
        trial.step()
    except Exception as raised:
        brought = RayTaskError("train", traceback.format_exc(), raised).as_instanceof_cause()
    return kept(brought, folder)


def kept(brought: Exception, folder: Path) -> Failure:
    """As Tune's `Trial.handle_error` writes it."""
    (folder / "error.txt").write_text(f"Failure # 1 (occurred at 2026-01-01_00-00-00)\n{brought}\n")
    (folder / "error.pkl").write_bytes(cloudpickle.dumps(brought))
    return Failure.of(
        SimpleNamespace(error_file=str(folder / "error.txt"), pickled_error_file=str(folder / "error.pkl"))
    )


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later."),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_a_lack_of_memory_reaches_the_driver_as_a_type(error: Exception, tmp_path: Path) -> None:
    found = failure(error, tmp_path)
    reason = FailureClassifier(lambda: 0).out_of_memory(found, tmp_path / "key")
    first = (str(error).splitlines() or [""])[0]
    assert reason == f"{type(error).__name__}: {first}"


def test_an_error_that_quotes_the_words_is_none(tmp_path: Path) -> None:
    found = failure(ValueError("OutOfMemoryError: CUDA out of memory, said the log; the actor died"), tmp_path)
    assert FailureClassifier(lambda: 1).out_of_memory(found, tmp_path / "key") == ""
    assert not found.died


def test_a_death_is_a_lack_of_memory_where_the_kernels_count_rose(tmp_path: Path) -> None:
    kills = [5]
    classifier = FailureClassifier(lambda: kills[0])
    died, folder = kept(ActorDiedError(), tmp_path), tmp_path / "key"
    assert died.died
    assert classifier.out_of_memory(died, folder) == "", "Ray always names the OOM killer as a possible cause"
    kills[0] = 6
    assert classifier.out_of_memory(failure(ValueError("no"), tmp_path), folder) == "", "that process did not die"
    assert "killed by the kernel" in classifier.out_of_memory(died, folder)
    assert classifier.out_of_memory(died, folder) == "", "each kill explains one death"


def test_the_word_of_a_guard_is_used_once(tmp_path: Path) -> None:
    died, folder = kept(ActorDiedError(), tmp_path), tmp_path / "key"
    word_of(folder).write_text("the host had 0.01 GB left")
    classifier = FailureClassifier(lambda: 0)
    assert classifier.out_of_memory(died, folder).endswith("guard: the host had 0.01 GB left")
    assert classifier.out_of_memory(died, folder) == ""


class UnpicklableError(Exception):
    def __reduce__(self) -> str:
        raise pickle.PicklingError("no")


def test_the_words_of_a_failure_are_its_message_in_one_line(tmp_path: Path) -> None:
    problems = [Problem(place="a", message="is wrong", fix="do this"), Problem(place="b", message="is wrong, too")]
    assert failure(ValueError("no such thing"), tmp_path).words == "ValueError: no such thing"
    said = "trainables.errors.DataError: a: is wrong; fix: do this; b: is wrong, too"
    assert failure(DataError(problems), tmp_path).words == said
    assert failure(UnpicklableError("out of patience"), tmp_path).words.endswith("UnpicklableError: out of patience")
    assert kept(ActorDiedError(), tmp_path).words == DIED
    ended = SimpleNamespace(error_file=None, pickled_error_file=None, get_error=lambda: "ended by Tune\n")
    assert Failure.of(ended).words == "ended by Tune"
