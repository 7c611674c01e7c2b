"""The device that is chosen, and the word where GPUs are left out."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runner.config import sweep_file as sweepfile
from runner.host import device
from runner.planning import plan as planning
from trainables.errors import ConfigError
from trainables.schema import ExecutionSpec
from trainables.training import precision

NODES = [Path("/dev/nvidia0"), Path("/dev/nvidia1")]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch sees a GPU here")


@no_gpu
def test_a_host_whose_gpus_pytorch_does_not_see_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = device.unused_gpus(ExecutionSpec(), NODES)
    assert "this host has 2 NVIDIA GPU(s)" in said
    assert "sees none: this PyTorch is a build for the CPU" in said
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "CUDA 13.0 needs driver 580 or newer" in device.unused_gpus(ExecutionSpec(), NODES)
    assert device.unused_gpus(ExecutionSpec(), []) == ""
    assert device.unused_gpus(ExecutionSpec(device="cpu"), NODES) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.unused_gpus(ExecutionSpec(), NODES) == ""


@no_gpu
def test_the_plan_says_that_gpus_are_left_out(sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = sweepfile.load(sweep_file(), ("execution.device=auto",))
    assert "GPU" not in {finding.gate for finding in planning.build(loaded).findings}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "gpu_nodes", lambda: NODES)
    found = {finding.gate: finding for finding in planning.build(loaded).findings}["GPU"]
    assert found.level == "warn"
    assert "trials run on the CPU: this host has 2 NVIDIA GPU(s)" in found.message
    assert "execution.device: cpu" in found.fix
    pinned = sweepfile.load(sweep_file(), ("execution.device=cpu",))
    assert "GPU" not in {finding.gate for finding in planning.build(pinned).findings}


def see_gpus(patch: pytest.MonkeyPatch, *cards: tuple[str, int]) -> None:
    """Have CUDA see these cards, each with its name and GiB."""
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: len(cards))
    patch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(name=cards[index][0], total_memory=int(cards[index][1] * 2**30 * 0.99)),
    )
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


def test_gpus_of_several_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that differ in memory alone, such as an A100 with 40 and one with 80 GB."""
    see_gpus(monkeypatch, ("A100", 80), ("A100", 80))
    assert device.resolve(ExecutionSpec())[0] == device.Device("cuda", "A100", 2)
    see_gpus(monkeypatch, ("A100", 80), ("A100", 40), ("A100", 80))
    with pytest.raises(ConfigError, match=r"of several kinds \(A100 with 79 GiB: \[0, 2\]; A100 with 40 GiB: \[1\]\)"):
        device.resolve(ExecutionSpec())


@pytest.mark.parametrize(
    ("emulated", "asked", "dtype"), [(True, "auto", "fp32"), (False, "auto", "bf16"), (True, "bf16", "bf16")]
)
def test_bf16_is_chosen_where_the_card_has_it(
    emulated: bool, asked: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    see_gpus(monkeypatch, ("Tesla V100", 32))
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: not emulated or including_emulation
    )
    assert device.resolve(ExecutionSpec.model_validate({"dtype": asked}))[1] == dtype


def test_bf16_on_a_cpu_is_for_processors_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ExecutionSpec(device="cpu", dtype="bf16")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert device.resolve(here)[1] == "bf16"
    assert device.resolve(ExecutionSpec(device="cpu"))[1] == "fp32", "keys of a CPU's trials stay"
    with pytest.raises(ConfigError, match="on one host a processor with AVX512-BF16"):
        device.resolve(here, device.Device("cpu", "x", 8))
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    with pytest.raises(ConfigError, match="bf16 needs a CUDA device"):
        device.resolve(here)
