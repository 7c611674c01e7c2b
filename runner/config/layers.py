"""The sources of a sweep's settings: which there are, what each says, and which one a value comes from.

A variable ``ISOTHERM_A__B`` of the environment or of ``.env`` gives the key ``a.b``. Lists, blocks and null are read as
YAML; anything else is text, which each key reads in its own way.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from runner.config.axes import Layer
from runner.config.settings import (
    PLUGINS,
    PREFIX,
    SweepSettings,
    UserSettings,
    readable_dotenv,
    tracking_of_environment,
)
from runner.config.yaml_lines import MAX_DEPTH, Location, read_value
from trainables.errors import Problem, nearest

DOTENV = Path(".env")


@dataclass(frozen=True)
class Variable:
    """One variable of ours, and how a message names its place."""

    name: str
    text: str
    place: str

    @property
    def location(self) -> tuple[str, ...]:
        """The key that it gives."""
        return tuple(self.name.lower().removeprefix(PREFIX.lower()).split("__"))

    @property
    def value(self) -> Any:
        """What it says."""
        try:
            found = read_value(self.text)
        except ValueError:
            return self.text
        return found if self.text and (found is None or isinstance(found, dict | list)) else self.text

    def gives(self, location: Location) -> bool:
        """Whether it holds the value at a place."""
        here = self.location
        inner = self.value if location[: len(here)] == here else {}
        for part in location[len(here) :]:
            if isinstance(inner, str):  # the short form of a block
                return True
            try:
                inner = inner[part]
            except (KeyError, IndexError, TypeError):
                return False
        return location[: len(here)] == here


def of_environment() -> list[Variable]:
    """The variables of this process."""
    return [Variable(name, text, f"environment: {name}") for name, text in sorted(os.environ.items()) if _is_ours(name)]


def of_dotenv() -> list[Variable]:
    """The variables in ``.env``.

    Raises:
        ConfigError: it cannot be read.
    """
    return [variable for variable in _dotenv() if _is_ours(variable.name)]


def place_of_name(name: str) -> str:
    """Where a variable that is no setting of ours is given."""
    given = [variable.place for variable in _dotenv() if variable.name == name and name not in os.environ]
    return given[0] if given else f"environment: {name}"


def _dotenv() -> list[Variable]:
    """All that is in ``.env``, of other programs, too."""
    with readable_dotenv():
        if not DOTENV.is_file():
            return []
        with DOTENV.open(encoding="utf-8") as handle:
            lines = {binding.key: binding.original.line for binding in parse_stream(handle)}
        values = dotenv_values(DOTENV, encoding="utf-8")
    return [
        Variable(name, text, f"{DOTENV}:{lines[name]}: {name}") for name, text in values.items() if text is not None
    ]


def problems() -> Iterator[Problem]:
    """Variables whose names are no settings, or that have no effect where they are."""
    users = [f"{PREFIX}{name.upper()}" for name in UserSettings.model_fields]
    known = [PLUGINS, *users, *(PREFIX + name.upper() for name in SweepSettings.model_fields)]
    for variable in (*of_environment(), *of_dotenv()):
        if len(variable.location) > MAX_DEPTH:
            message = f"a name of {len(variable.location)} parts; the deepest that there are have 4"
            yield Problem(place=variable.place[:60] + "...", message=message, fix=f"{PREFIX}TRAINING__EPOCHS")
        elif variable.location[0] not in SweepSettings.model_fields and variable.name.upper() not in (PLUGINS, *users):
            head = variable.name.upper().split("__")[0]
            yield Problem(place=variable.place, message="unknown setting", fix=nearest(head, known))


def layers(overrides: Layer, file: Layer) -> list[Layer]:
    """What each source of a sweep's settings says, the strongest first.

    Args:
        overrides: nested values of the command line, or of a caller in Python.
        file: values of the sweep file.

    Raises:
        ConfigError: ``.env`` cannot be read.
    """
    return [
        overrides,
        Layer("the environment", _nested(of_environment())),
        Layer(".env", _nested(of_dotenv())),
        file,
        Layer("the trackers' own variables", {"tracking": tracking_of_environment()}),
    ]


def merged(sources: Sequence[Layer]) -> dict[str, Any]:
    """The values of all sources; the strongest comes first and wins, mappings are merged key by key."""
    result: dict[str, Any] = {}
    for layer in reversed(sources):
        result = merged_values(result, layer.values)
    return result


def merged_values(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """Values of two sources; those of `strong` win, mappings are merged key by key."""
    result = dict(weak)
    for name, value in strong.items():
        known = result.get(name)
        if isinstance(known, str) and isinstance(value, Mapping):
            known = {"name": known}  # the short form of a block that names a part
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            result[name] = merged_values(known, value)
        else:
            result[name] = value
    return result


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX)


def _nested(variables: Sequence[Variable]) -> dict[str, Any]:
    """Variables as nested values; the one with the longer name wins."""
    result: dict[str, Any] = {}
    for variable in sorted(variables, key=lambda one: len(one.location)):
        if variable.location[0] in SweepSettings.model_fields and len(variable.location) <= MAX_DEPTH:
            value = variable.value
            for part in reversed(variable.location):
                value = {part: value}
            result = merged_values(result, value)
    return result
