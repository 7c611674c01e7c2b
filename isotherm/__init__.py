"""Isotherm's public names. Importing this loads neither torch nor Ray; each name is fetched when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.models.registry import architecture
    from trainables.models.shapes import AttentionBlocks, Blocks, Shape
    from trainables.parts import PartConfig
    from trainables.schema import DataShape
    from trainables.training.loss_registry import loss

_HOMES = {
    "AttentionBlocks": "trainables.models.shapes",
    "Blocks": "trainables.models.shapes",
    "DataShape": "trainables.schema",
    "PartConfig": "trainables.parts",
    "Shape": "trainables.models.shapes",
    "architecture": "trainables.models.registry",
    "loss": "trainables.training.loss_registry",
}

__all__ = ["AttentionBlocks", "Blocks", "DataShape", "PartConfig", "Shape", "architecture", "loss"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
