"""The device that a sweep's trials run on, and the dtype that follows from it."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from runner.probe.limits import usable_cores
from trainables.errors import ConfigError, Problem
from trainables.schema import Dtype, ExecutionSpec


@dataclass(frozen=True)
class Device:
    """What trials run on: `count` GPUs of one kind, or the CPU with `count` usable cores."""

    kind: Literal["cpu", "cuda"]
    name: str
    count: int


def _cpu_name() -> str:
    """The processor's model where the system says it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def resolve(execution: ExecutionSpec) -> tuple[Device, Dtype]:
    """Find the device and dtype that ``auto`` stands for.

    Raises:
        ConfigError: CUDA or bf16 is asked for on a host that has no CUDA device.
    """
    has_cuda = torch.cuda.is_available()
    if execution.device == "cuda" and not has_cuda:
        build = torch.version.cuda or "a CPU build"
        raise ConfigError(
            Problem(
                place="execution.device",
                message=f"cuda is asked for, but PyTorch sees no CUDA device (its CUDA: {build})",
                mend="set execution.device to auto or cpu, or mend the driver or the PyTorch build",
            )
        )
    if execution.device == "cpu" or not has_cuda:
        if execution.dtype == "bf16":
            raise ConfigError(
                Problem(
                    place="execution.dtype",
                    message="bf16 needs a CUDA device, and trials would run on the CPU",
                    mend="set execution.dtype to auto or fp32",
                )
            )
        return Device("cpu", _cpu_name(), usable_cores()), "fp32"
    device = Device("cuda", torch.cuda.get_device_name(0), torch.cuda.device_count())
    return device, "fp32" if execution.dtype == "fp32" else "bf16"
