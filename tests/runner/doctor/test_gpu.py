"""The driver through a stand-in at the binding's boundary, with device files that are plain files."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.doctor import gpu, temperature
from runner.doctor.gpu import TorchBuild
from runner.host import cuda
from runner.thermal.sensors.nvml import load_library
from tests.runner.thermal.standins import Nvml, NvmlError
from trainables.schema import ExecutionSpec

CUDA = ExecutionSpec(device="cuda")
CPU_BUILD = TorchBuild("2.13.0+cpu", "", False)
CUDA_BUILD = TorchBuild("2.13.0", "13.0", False)


class Driver(Nvml):
    """As `Nvml`, with a driver's version."""

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.86"

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return 12080


# Named as pynvml names it.
Mismatch = type("NVMLError_LibRmVersionMismatch", (NvmlError,), {})


@pytest.fixture
def old_pynvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The package `pynvml` of before nvidia-ml-py, found first: it lacks newer functions."""
    folder = tmp_path / "site"
    (folder / "pynvml").mkdir(parents=True)
    source = "class NVMLError(Exception): pass\ndef nvmlInit(): pass\n"
    (folder / "pynvml" / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    return str(folder / "pynvml")


def test_an_old_pynvml_is_named_with_the_fix(place: Any, one: Any, old_pynvml: str) -> None:
    node(place.root)
    found = one(gpu.check, "NVML", nvml=load_library)
    assert old_pynvml in found.what
    assert "has no nvmlDeviceGetMarginTemperature" in found.what
    assert "pip uninstall -y pynvml" in found.fix
    [said] = [one for one in temperature.check(dataclasses.replace(place, nvml=load_library)) if one.level != "ok"]
    assert old_pynvml in said.what
    [build] = gpu.check_torch(dataclasses.replace(place, nvml=load_library), CUDA_BUILD)
    assert old_pynvml in build.what


def node(root: Path, number: int = 0) -> None:
    (root / "dev" / f"nvidia{number}").write_text("")


def gpus(*numbers: int, **options: Any) -> Driver:
    return Driver(*({"uuid": f"GPU-{number}", "celsius": 40} for number in numbers), **options)


def test_no_gpu_is_fine_unless_one_is_asked_for(place: Any, one: Any) -> None:
    assert one(gpu.check, "GPU").level == "ok"
    found = one(gpu.check, "GPU", execution=CUDA)
    assert found.level == "warn"
    assert "--gpus all" in found.fix
    here = dataclasses.replace(place, execution=CUDA)
    assert [found.level for found in gpu.check_torch(here, CPU_BUILD)] == ["error"]
    assert [found.level for found in gpu.check_torch(place, CPU_BUILD)] == ["ok"]


def test_the_gpu_of_wsl(place: Any, one: Any) -> None:
    (place.root / "dev" / "dxg").write_text("")
    assert one(gpu.check, "NVML", nvml=lambda: gpus(0)).level == "ok"


def test_a_driver_that_answers(place: Any, one: Any) -> None:
    node(place.root)
    library = gpus(0)
    found = one(gpu.check, "NVML", nvml=lambda: library)
    assert found.level == "ok"
    assert "570.86, 1 GPU" in found.what
    assert library.opened == 0, "it is closed again"


def test_the_power_limit_that_was_measured_for_a_card_is_advised(place: Any) -> None:
    for number in range(3):
        node(place.root, number)
    cards = [
        {"uuid": "a", "name": "NVIDIA GeForce RTX 3090", "limit": 350, "usual": 350},
        {"uuid": "b", "name": "NVIDIA H100 80GB HBM3", "limit": 700, "usual": 700},
        {"uuid": "c", "name": "NVIDIA T4"},
    ]
    said = [one for one in gpu.check(dataclasses.replace(place, nvml=lambda: Driver(*cards))) if one.level == "ok"]
    advised, plain = (one.what for one in said if one.check == "power limit")
    assert "nvidia-smi -pl 280" in advised
    assert "Kinghorn 2020" in advised
    assert plain == "NVIDIA H100 80GB HBM3 may take 700 W, 700 W by default"
    [of_mps] = [one.what for one in said if one.check == "CUDA MPS"]
    assert of_mps.startswith("does not run")
    (place.root / "proc/77").mkdir()
    (place.root / "proc/77/comm").write_text("nvidia-cuda-mps\n")
    assert cuda.mps_runs(place.root)


def test_a_driver_updated_below_a_container(place: Any, one: Any) -> None:
    node(place.root)
    library = gpus(0)

    def mismatch() -> None:
        raise Mismatch("Driver/library version mismatch")

    library.nvmlInit = mismatch  # type: ignore[method-assign]
    found = one(gpu.check, "NVML", nvml=lambda: library)
    assert found.level == "error"
    assert "reload the module" in found.fix
    unprotected = place.thermal.model_copy(update={"require_sensors": False})
    assert one(gpu.check, "NVML", nvml=lambda: library, thermal=unprotected).level == "warn"


def test_nvml_lost_in_mid_life(place: Any, one: Any) -> None:
    node(place.root)
    library = gpus(0)
    library.lost = True
    found = one(gpu.check, "NVML", nvml=lambda: library)
    assert found.level == "error"
    assert "restart the container" in found.fix


def test_the_real_library_on_a_host_without_one(place: Any, one: Any) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this host has a driver")
    node(place.root)
    found = one(gpu.check, "NVML")
    assert found.level == "error"
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in found.fix


def test_one_of_two_gpus_fell_off(place: Any, one: Any) -> None:
    node(place.root, 0)
    node(place.root, 1)
    found = one(gpu.check, "NVML", nvml=lambda: gpus(0))
    assert found.level == "warn"
    assert "1 of 2" in found.what


def test_a_device_file_that_cannot_be_opened(place: Any, one: Any) -> None:
    (place.root / "dev" / "nvidia0").mkdir()  # no one can open a folder for writing, root included
    found = one(gpu.check, "GPU", nvml=lambda: gpus(0))
    assert found.level == "error"
    assert os.strerror(21) in found.what
    assert "create-dev-char-symlinks" in found.fix


@pytest.mark.parametrize(
    ("build", "level", "words"),
    [
        (TorchBuild("2.13.0", "12.8", True), "ok", "sees the GPU"),
        (CPU_BUILD, "error", "VARIANT=cuda"),
        (CUDA_BUILD, "error", "CUDA 13.0 needs driver 580 or newer; the driver is 570.86, for CUDA up to 12.8"),
        (TorchBuild("2.13.0", "13.0", True, ("Tesla K80 (compute capability 3.7)",)), "warn", "Tesla K80"),
    ],
)
def test_pytorch_against_the_driver(place: Any, build: TorchBuild, level: str, words: str) -> None:
    node(place.root)
    here = dataclasses.replace(place, nvml=lambda: gpus(0))
    [found] = gpu.check_torch(here, build)
    assert found.level == level
    assert words in f"{found.what} {found.fix}"
    [found] = gpu.check_torch(dataclasses.replace(here, execution=CUDA), build)
    assert found.level == ("ok" if level == "ok" else "error")


@pytest.mark.parametrize("build", [CPU_BUILD, CUDA_BUILD])
def test_gpus_that_are_not_to_be_used_are_no_fault(
    build: TorchBuild, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node(place.root)
    here = dataclasses.replace(place, nvml=lambda: gpus(0))
    [found] = gpu.check_torch(dataclasses.replace(here, execution=ExecutionSpec(device="cpu")), build)
    assert found.level == "ok"
    for value in ("", "-1", "-1,0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert [found.level for found in gpu.check_torch(here, build)] == ["ok"], value
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [found.level for found in gpu.check_torch(here, build)] == ["error"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    driver = dataclasses.replace(here, cluster=True)
    assert [found.level for found in gpu.check_torch(driver, build)] == ["warn"], "its nodes train"


def test_the_build_that_is_installed(place: Any) -> None:
    import torch

    [found] = gpu.check_torch(place)
    assert torch.__version__ in found.what
