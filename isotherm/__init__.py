"""Isotherm's public names. Importing this loads neither torch nor Ray; each name is fetched when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api.fit import fit
    from runner.api.probe import Probe
    from runner.api.run import Run, Trial, open_run
    from runner.api.sweep import Sweep
    from runner.api.thermal import Governor, thermal_gate
    from runner.scaling import FitOptions
    from trainables.errors import ConfigError, InfeasibleError, InputError, IsothermError, ThermalStopError
    from trainables.models.registry import architecture
    from trainables.models.shapes import AttentionBlocks, Blocks, Shape
    from trainables.parts import PartConfig
    from trainables.schema import DataShape
    from trainables.tasks.registry import task
    from trainables.training.loss_registry import loss

_HOMES = {
    "AttentionBlocks": "trainables.models.shapes",
    "Blocks": "trainables.models.shapes",
    "ConfigError": "trainables.errors",
    "DataShape": "trainables.schema",
    "FitOptions": "runner.scaling",
    "Governor": "runner.api.thermal",
    "InfeasibleError": "trainables.errors",
    "InputError": "trainables.errors",
    "IsothermError": "trainables.errors",
    "PartConfig": "trainables.parts",
    "Probe": "runner.api.probe",
    "Run": "runner.api.run",
    "Shape": "trainables.models.shapes",
    "Sweep": "runner.api.sweep",
    "ThermalStopError": "trainables.errors",
    "Trial": "runner.api.run",
    "architecture": "trainables.models.registry",
    "fit": "runner.api.fit",
    "loss": "trainables.training.loss_registry",
    "open_run": "runner.api.run",
    "thermal_gate": "runner.api.thermal",
    "task": "trainables.tasks.registry",
}

__all__ = [
    "AttentionBlocks",
    "Blocks",
    "ConfigError",
    "DataShape",
    "FitOptions",
    "Governor",
    "InfeasibleError",
    "InputError",
    "IsothermError",
    "PartConfig",
    "Probe",
    "Run",
    "Shape",
    "Sweep",
    "ThermalStopError",
    "Trial",
    "architecture",
    "fit",
    "loss",
    "open_run",
    "task",
    "thermal_gate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
