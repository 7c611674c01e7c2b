"""The device that a sweep's trials run on, and the dtype that follows from it."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from runner.host.cuda import cuda_visible_devices, gpu_nodes, hidden, needed_driver
from runner.host.memory_limits import usable_cores
from trainables.errors import ConfigError, Problem
from trainables.schema import Dtype, ExecutionSpec
from trainables.training import precision


@dataclass(frozen=True)
class Device:
    """What trials run on: `count` GPUs, or the CPU with `count` usable cores.

    `accelerators` are a cluster's kinds of GPU, in Ray's words; empty on one host, where all GPUs are of one kind.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    count: int
    accelerators: tuple[str, ...] = ()


def unused_gpus(execution: ExecutionSpec, nodes: Sequence[Path] | None = None) -> str:
    """Why trials run on the CPU of a host that has GPUs; empty where it has none, they are used, or that is meant.

    `nodes` are the device files of its GPUs; None = look for them.
    """
    nodes = gpu_nodes() if nodes is None else nodes
    if not nodes or execution.device != "auto" or hidden(cuda_visible_devices()) or torch.cuda.is_available():
        return ""
    cuda = torch.version.cuda
    why = needed_driver(cuda) if cuda else "this PyTorch is a build for the CPU"
    return f"this host has {len(nodes)} NVIDIA GPU(s), and PyTorch {torch.__version__} sees none: {why}"


@dataclass(frozen=True)
class Site:
    """Where trials will run, if not on this host.

    `no_sensor` says why no temperature can be read there; empty where one can.
    """

    device: Device
    no_sensor: str = ""


def _cpu_name() -> str:
    """The processor's model where the system says it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> Device:
    """The visible GPUs, which trials are shared out to and one measurement is made for: all must be alike.

    Raises:
        ConfigError: they are of several kinds.
    """
    kinds: dict[tuple[str, int], list[int]] = {}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        kinds.setdefault((properties.name, round(properties.total_memory / 2**30)), []).append(index)
    if len(kinds) > 1:
        listed = "; ".join(f"{name} with {gib} GiB: {indexes}" for (name, gib), indexes in kinds.items())
        raise ConfigError(
            Problem(
                place="execution.device",
                message=f"the visible GPUs are of several kinds ({listed}), and what is measured on one kind does not "
                "hold on another",
                fix="name the GPUs of one kind in CUDA_VISIBLE_DEVICES, by UUID (nvidia-smi -L)",
            )
        )
    [(name, _)] = kinds
    return Device("cuda", name, torch.cuda.device_count())


def resolve(execution: ExecutionSpec, elsewhere: Device | None = None) -> tuple[Device, Dtype]:
    """Find the device and dtype that ``auto`` stands for, on this host or on the device that trials will run on.

    Raises:
        ConfigError: CUDA or bf16 is asked for where there is none; this host's GPUs are of several kinds.
    """
    has_cuda = torch.cuda.is_available() if elsewhere is None else elsewhere.kind == "cuda"
    if execution.device == "cuda" and not has_cuda:
        build = torch.version.cuda or "a CPU build"
        raise ConfigError(
            Problem(
                place="execution.device",
                message=f"cuda is asked for, but PyTorch sees no CUDA device (its CUDA: {build})",
                fix="set execution.device to auto or cpu, or repair the driver or the PyTorch build",
            )
        )
    if execution.device == "cpu" or not has_cuda:
        asked = execution.dtype == "bf16"
        if asked and (elsewhere is not None or not precision.cpu_has_bf16()):  # a cluster's processors are not known
            raise ConfigError(
                Problem(
                    place="execution.dtype",
                    message="bf16 needs a CUDA device, or on one host a processor with AVX512-BF16 or AMX-BF16",
                    fix="set execution.dtype to auto or fp32",
                )
            )
        return elsewhere or Device("cpu", _cpu_name(), usable_cores()), "bf16" if asked else "fp32"
    device = elsewhere or _gpus()
    # Cards before Ampere emulate bf16, which is slower than fp32. A cluster's cards are not here to ask.
    emulated = elsewhere is None and not torch.cuda.is_bf16_supported(including_emulation=False)
    return device, "fp32" if execution.dtype == "fp32" or (execution.dtype == "auto" and emulated) else "bf16"
