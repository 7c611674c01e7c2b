"""Grid axes: the one table of their names, and which source of settings decides an axis.

A setting from a stronger source than the grid's axis of that setting replaces the axis: the grid then has this one
value, and a notice says so. Two contradicting values in one source are a problem; in a sweep file, where a base value
may remain from before, the axis counts and a notice says that the value has no effect.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import Problem

# Axes with a short name, and the setting that each stands for. Both spellings mean the same everywhere.
ALIASES = {
    "horizon": "task.horizon",
    "seed": "training.seed",
    "data_fraction": "data.fraction",
    "compute": "training.length.flops",
}
_SHORT = {setting: alias for alias, setting in ALIASES.items()}


@dataclass(frozen=True)
class Layer:
    """What one source of settings says: nested values, and how a message names the source."""

    place: str
    values: Mapping[str, Any]
    is_file: bool = False


@dataclass(frozen=True)
class Resolved:
    """The axes of all sources together, one name each.

    Attributes:
        grid: values as given, before validation.
        replaced: axes that a stronger source replaces by one value, which the settings hold.
        notices: what has no effect, and what replaces what.
        problems: contradictions.
    """

    grid: dict[str, Any]
    replaced: tuple[str, ...]
    notices: tuple[str, ...]
    problems: tuple[Problem, ...]


def canonical(axis: str) -> str:
    """The name of an axis that is used everywhere: the short one where there is one."""
    return _SHORT.get(axis, axis)


def setting(axis: str) -> str:
    """The dotted setting that an axis varies."""
    return ALIASES.get(axis, axis)


def resolve(layers: list[Layer]) -> Resolved:
    """Bring the axes of all sources together.

    Args:
        layers: the strongest source first.
    """
    grid: dict[str, Any] = {}
    origin: dict[str, Layer] = {}
    notices: list[str] = []
    problems: list[Problem] = []
    for layer in reversed(layers):
        spelled: dict[str, str] = {}
        for name, values in _axes(layer).items():
            axis = canonical(name)
            if axis in spelled:
                fix = f"keep one of grid.{spelled[axis]} and grid.{name}"
                problems.append(Problem(place=layer.place, message=f"the axis {axis!r} is named twice", fix=fix))
            spelled[axis] = name
            grid[axis], origin[axis] = values, layer
    problems += _overlaps(grid, origin)
    replaced = []
    for axis, decided in origin.items():
        rank = layers.index(decided)
        stronger = next((layer for layer in layers[:rank] if _gives(layer, axis)), None)
        if stronger is not None:
            replaced.append(axis)
            was = f"the grid's axis {axis} {grid[axis]} from {decided.place}"
            notices.append(f"{setting(axis)} from {stronger.place} replaces {was}")
        elif not _gives(decided, axis):
            continue
        elif decided.is_file:
            why = f"the grid has the axis {axis} {grid[axis]}"
            notices.append(f"{setting(axis)} in {decided.place} has no effect: {why}")
        else:
            message = f"{setting(axis)} and grid.{axis} contradict each other"
            problems.append(Problem(place=decided.place, message=message, fix="give one of the two"))
    return Resolved(grid, tuple(replaced), tuple(notices), tuple(problems))


def _axes(layer: Layer) -> Mapping[str, Any]:
    grid = layer.values.get("grid")
    return {str(name): values for name, values in grid.items()} if isinstance(grid, Mapping) else {}


def _overlaps(grid: Mapping[str, Any], origin: Mapping[str, Layer]) -> Iterator[Problem]:
    """Axes of which one varies a part of the other."""
    for part in grid:
        for whole in grid:
            if setting(part).startswith(f"{setting(whole)}."):
                message = f"the axes {whole!r} and {part!r} both set {setting(part)}"
                yield Problem(place=origin[part].place, message=message, fix="drop one of them")


def _gives(layer: Layer, axis: str) -> bool:
    """Whether a source says something about the setting of an axis, in whole or in part."""
    value: Any = layer.values
    for part in setting(axis).split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True
