"""Parts as a sweep uses them: plugins that were named, which part a block chooses, and the part's own keys there."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runner.config.settings import SweepSettings, plugin_paths
from trainables.errors import ConfigError, Problem, nearest
from trainables.models.registry import ARCHITECTURES, Architecture
from trainables.parts import Part, Registry, plugins
from trainables.schema import DataShape, ModelSpec, PartBlock, TaskSpec

log = logging.getLogger(__name__)

Place = Callable[[tuple[str | int, ...]], str]


@dataclass(frozen=True)
class Choice:
    """A key of a sweep file that names a part; the part's own keys are in the same block."""

    block: str
    key: str
    registry: Registry[Any]

    @property
    def axis(self) -> str:
        """The grid axis that varies it."""
        return f"{self.block}.{self.key}"


CHOICES = (Choice("model", "name", ARCHITECTURES),)
REGISTRIES: tuple[Registry[Any], ...] = (ARCHITECTURES,)


def load_plugins(paths: Sequence[Path] = ()) -> None:
    """Load the plugins of ``ISOTHERM_PLUGINS`` and those named here, in this order.

    Raises:
        ConfigError: one cannot be read or fails.
    """
    plugins.load([plugins.read(path) for path in (*plugin_paths(), *paths)])


# ---- keys of parts in the blocks of a sweep file -------------------------------------------------------------------


def problems(settings: SweepSettings, place: Place) -> Iterator[Problem]:
    """What is wrong with the parts that a sweep names and with their keys, values on grid axes aside."""
    for block in dict.fromkeys(choice.block for choice in CHOICES):
        unknown = list(_unknown_names(settings, block, place))
        yield from unknown or _key_problems(settings, block, place)


def _unknown_names(settings: SweepSettings, block: str, place: Place) -> Iterator[Problem]:
    for choice in (one for one in CHOICES if one.block == block):
        names: dict[tuple[str | int, ...], Any] = {
            ("grid", choice.axis, index): name for index, name in enumerate(settings.grid.get(choice.axis, ()))
        }
        for location, name in (names or {(block, choice.key): getattr(getattr(settings, block), choice.key)}).items():
            try:
                choice.registry.get(str(name), place(location))
            except ConfigError as error:
                yield from error.problems


def _key_problems(settings: SweepSettings, block: str, place: Place) -> Iterator[Problem]:
    given: PartBlock = getattr(settings, block)
    used = chosen(settings, block)
    on_axes = {axis.removeprefix(f"{block}.") for axis in settings.grid if axis.startswith(f"{block}.")}
    for key in given.config:
        if any(key in part.config_type.model_fields for part in used):
            continue
        if _has_owner(block, key):  # so that one file serves several architectures
            names = ", ".join(part.name for part in used)
            log.warning("%s: %s has no such key; it is ignored", place((block, key)), names)
            continue
        known = [*type(given).model_fields, *keys(settings, block)]
        yield Problem(place=place((block, key)), message=f"unknown key {key!r}", fix=nearest(key, known))
    found: dict[str, Problem] = {}
    for part in used:
        for issue in _issues(part, given.config):
            if (not issue["loc"] and on_axes) or (issue["loc"] and issue["loc"][0] in on_axes):
                continue  # checked with every value of the axes
            where = place((block, *issue["loc"]))
            found.setdefault(where, Problem(place=where, message=_message(issue), fix=_advice(part, issue)))
    yield from found.values()


def chosen(settings: SweepSettings, block: str) -> list[Part[Any]]:
    """The parts that a block names, on grid axes, too."""
    parts = []
    for choice in (one for one in CHOICES if one.block == block):
        names = settings.grid.get(choice.axis) or [getattr(getattr(settings, block), choice.key)]
        parts += [choice.registry.get(str(name)) for name in names]
    return parts


def keys(settings: SweepSettings, block: str) -> list[str]:
    """The keys that a block's parts add to it."""
    return list(dict.fromkeys(key for part in chosen(settings, block) for key in part.config_type.model_fields))


def value_problems(settings: SweepSettings, block: str, key: str, value: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with a value of a part's key: message and advice."""
    given: PartBlock = getattr(settings, block)
    found: dict[str, str] = {}
    for part in chosen(settings, block):
        if key in part.config_type.model_fields:
            for issue in _issues(part, {**given.config, key: value}):
                if issue["loc"] and issue["loc"][0] == key:
                    found.setdefault(_message(issue), _advice(part, issue))
    yield from found.items()


def check(model: ModelSpec, task: TaskSpec) -> None:
    """Return if a combination of a grid can be meant, as far as that is known without data.

    Raises:
        ConfigError: a part's config is wrong, or does not suit the window.
    """
    Architecture.of(model, DataShape(n_features=1, context=task.context))


def _issues(part: Part[Any], values: dict[str, Any]) -> list[ErrorDetails]:
    own = {key: value for key, value in values.items() if key in part.config_type.model_fields}
    try:
        part.config_type.model_validate(own)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _message(issue: ErrorDetails) -> str:
    if issue["type"] == "missing":
        return f"the key {str(issue['loc'][-1])!r} is missing"
    shown = repr(issue["input"])
    got = f" (got {shown})" if len(shown) <= 60 and issue["type"] != "value_error" else ""
    return str(issue["msg"]).removeprefix("Value error, ") + got


def _advice(part: Part[Any], issue: ErrorDetails) -> str:
    field = part.config_type.model_fields.get(str(issue["loc"][0])) if issue["loc"] else None
    return f"{issue['loc'][0]}: {field.description}" if field and field.description else ""


def _has_owner(block: str, key: str) -> bool:
    return any(key in part.config_type.model_fields for one in CHOICES if one.block == block for part in one.registry)
