"""The stages, in their order, with their budgets of seconds. What a stage imports is loaded when it runs."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where stages run, and at which sizes.

    Attributes:
        sizes: budgets, from small to large.
        small: budgets at which the host's launches bound a step, which packing is for.
        trained: budget of the stages that run a whole trial.
        heating: budget that heats the device.
        batch: global batch.
        copies: trials at once.
        span_s: about how long to time a thing.
        thermal_s: how long a trial runs into the limits of temperature.
    """

    device: Literal["cuda", "cpu"]
    sizes: tuple[str, ...] = ("2m", "20m", "200m", "2b")
    small: tuple[str, ...] = ("2m", "20m")
    trained: str = "2m"
    heating: str = "200m"
    batch: int = 256
    copies: tuple[int, ...] = (2, 4, 8)
    span_s: float = 2.0
    thermal_s: float = 24.0

    @classmethod
    def of(cls, device: Literal["cuda", "cpu"]) -> "Setting":
        """A GPU's sizes; on a CPU tiny ones, which only show that the stages work."""
        if device == "cuda":
            return cls(device)
        tiny = ("5k", "20k")
        return cls(device, tiny, tiny[:1], tiny[0], tiny[0], batch=32, copies=(2,), span_s=0.1, thermal_s=4.0)


@dataclass(frozen=True)
class Stage:
    """A function of a module of this package that yields rows, and its budget."""

    module: str
    function: str
    budget_s: float

    def run(self, setting: Setting) -> Iterator[Row]:
        """What it measures."""
        rows: Iterator[Row] = getattr(importlib.import_module(f"benchmarks.gpu.{self.module}"), self.function)(setting)
        yield from rows


STAGES = {
    "device": Stage("device", "device", 25),
    "parity": Stage("parity", "parity", 45),
    "trial": Stage("trainer", "trial", 25),
    "probe": Stage("probing", "probe", 110),
    "steps": Stage("speed", "steps", 55),
    "packed": Stage("probing", "packed", 50),
    "checkpoint": Stage("checkpoint", "checkpoint", 45),
    "thermal": Stage("trainer", "thermal", 30),
    "out_of_memory": Stage("trainer", "out_of_memory", 25),
}
