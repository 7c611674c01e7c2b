"""Where a wrong value of a sweep comes from, and what is wrong with it, in words."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from runner.config import axes, layers
from runner.config.words import block_of, fix_of, with_value
from runner.config.yaml_lines import ConfigFile, Location
from trainables.errors import Problem, nearest


def problem_of(file: ConfigFile, given: dict[str, Any], model: type[BaseModel], issue: Any) -> Problem:
    """A pydantic error as a problem, placed where the value came from."""
    location: Location = tuple(part for part in issue["loc"] if not str(part).startswith("<"))
    place = place_of(file, given, location)
    if issue["type"] == "extra_forbidden":
        name = str(location[-1])
        return Problem(place=place, message=f"unknown key {name!r}", fix=nearest(name, fields(model, location[:-1])))
    if issue["type"] == "missing":
        return Problem(place=place, message=f"the key {str(location[-1])!r} is missing", fix="add it")
    return Problem(place=place, message=with_value(issue), fix=fix_of(issue, model, location))


def model_at(model: type[BaseModel], location: Iterable[str | int]) -> type[BaseModel] | None:
    """The model of a block at a place, None where there is none."""
    current: type[BaseModel] | None = model
    for part in location:
        field = current.model_fields.get(str(part)) if current else None
        current = block_of(field.annotation) if field else None
    return current


def fields(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that a block at a place has."""
    inner = model_at(model, location)
    return list(inner.model_fields) if inner else []


def place_of(file: ConfigFile, given: dict[str, Any], location: Location) -> str:
    """Where a value was given: the command line, a variable, or file and line."""
    inner: Any = given
    for part in location:
        inner = inner.get(part) if isinstance(inner, dict) else None
    dotted = ".".join(map(str, location))
    if inner is not None:
        return f"{file.overrides}{dotted}"
    for variable in (*layers.of_environment(), *layers.of_dotenv()):
        if variable.gives(location):
            return variable.place
    if location[:1] == ("grid",) and len(location) > 1:  # the file may spell the axis in its other way
        spellings = (location[1], axes.setting(str(location[1])))
        location = next((one for name in spellings if (one := ("grid", name, *location[2:])) in file.lines), location)
    if location == ("tracking", "mlflow", "uri") and location not in file.lines:
        return layers.place_of_name("MLFLOW_TRACKING_URI")
    return file.place(location)
