"""Isotherm's public names. Importing this loads neither torch nor Ray; each name is fetched when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api.fit import fit
    from runner.api.probe import Probe
    from runner.api.run import Run, Trial, open_run
    from runner.api.sweep import Sweep
    from runner.api.thermal import Governor, thermal_gate
    from runner.config.trackers import tracker
    from runner.rundir.ledger import LedgerView
    from runner.rundir.paths import RunPaths
    from runner.scaling import FitOptions
    from runner.thermal.reading import Channel, Reading
    from runner.thermal.sensors.base import SensorError, SensorHost, sensor
    from trainables.baseline_registry import baseline
    from trainables.baselines import SplitWindows
    from trainables.data.source_registry import source
    from trainables.data.tier_registry import AssetBars, Feature, feature_tier
    from trainables.errors import (
        ConfigError,
        InfeasibleError,
        InputError,
        IsothermError,
        Problem,
        ThermalStopError,
    )
    from trainables.models.parametrization import Scale
    from trainables.models.registry import architecture
    from trainables.models.shapes import AttentionBlocks, Blocks, Shape
    from trainables.parts import PartConfig
    from trainables.schema import DataShape
    from trainables.tasks.registry import task
    from trainables.training.loss_registry import loss
    from trainables.training.metric_registry import metric

_HOMES = {
    "AssetBars": "trainables.data.tier_registry",
    "AttentionBlocks": "trainables.models.shapes",
    "Blocks": "trainables.models.shapes",
    "Channel": "runner.thermal.reading",
    "ConfigError": "trainables.errors",
    "DataShape": "trainables.schema",
    "Feature": "trainables.data.tier_registry",
    "FitOptions": "runner.scaling",
    "Governor": "runner.api.thermal",
    "InfeasibleError": "trainables.errors",
    "InputError": "trainables.errors",
    "IsothermError": "trainables.errors",
    "LedgerView": "runner.rundir.ledger",
    "PartConfig": "trainables.parts",
    "Probe": "runner.api.probe",
    "Problem": "trainables.errors",
    "Reading": "runner.thermal.reading",
    "Run": "runner.api.run",
    "RunPaths": "runner.rundir.paths",
    "Scale": "trainables.models.parametrization",
    "SensorError": "runner.thermal.sensors.base",
    "SensorHost": "runner.thermal.sensors.base",
    "Shape": "trainables.models.shapes",
    "SplitWindows": "trainables.baselines",
    "Sweep": "runner.api.sweep",
    "ThermalStopError": "trainables.errors",
    "Trial": "runner.api.run",
    "architecture": "trainables.models.registry",
    "baseline": "trainables.baseline_registry",
    "feature_tier": "trainables.data.tier_registry",
    "fit": "runner.api.fit",
    "loss": "trainables.training.loss_registry",
    "metric": "trainables.training.metric_registry",
    "open_run": "runner.api.run",
    "sensor": "runner.thermal.sensors.base",
    "source": "trainables.data.source_registry",
    "task": "trainables.tasks.registry",
    "thermal_gate": "runner.api.thermal",
    "tracker": "runner.config.trackers",
}

__all__ = [
    "AssetBars",
    "AttentionBlocks",
    "Blocks",
    "Channel",
    "ConfigError",
    "DataShape",
    "Feature",
    "FitOptions",
    "Governor",
    "InfeasibleError",
    "InputError",
    "IsothermError",
    "LedgerView",
    "PartConfig",
    "Probe",
    "Problem",
    "Reading",
    "Run",
    "RunPaths",
    "Scale",
    "SensorError",
    "SensorHost",
    "Shape",
    "SplitWindows",
    "Sweep",
    "ThermalStopError",
    "Trial",
    "architecture",
    "baseline",
    "feature_tier",
    "fit",
    "loss",
    "metric",
    "open_run",
    "sensor",
    "source",
    "task",
    "thermal_gate",
    "tracker",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
