"""Checks of parts of one's own, each one line in a test, such as ``check_architecture("mine")``."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.thermal.conformance import check_sensor
    from runner.tracking.conformance import check_tracker
    from trainables.baseline_conformance import check_baseline
    from trainables.data.conformance import check_tier
    from trainables.data.source_conformance import check_source
    from trainables.models.conformance import check_architecture
    from trainables.tasks.conformance import check_task
    from trainables.training.conformance import check_loss
    from trainables.training.metric_conformance import check_metric

_HOMES = {
    "check_architecture": "trainables.models.conformance",
    "check_baseline": "trainables.baseline_conformance",
    "check_loss": "trainables.training.conformance",
    "check_metric": "trainables.training.metric_conformance",
    "check_sensor": "runner.thermal.conformance",
    "check_source": "trainables.data.source_conformance",
    "check_task": "trainables.tasks.conformance",
    "check_tier": "trainables.data.conformance",
    "check_tracker": "runner.tracking.conformance",
}

__all__ = [
    "check_architecture",
    "check_baseline",
    "check_loss",
    "check_metric",
    "check_sensor",
    "check_source",
    "check_task",
    "check_tier",
    "check_tracker",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
