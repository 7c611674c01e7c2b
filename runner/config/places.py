"""Where a wrong value of a sweep comes from, and what is wrong with it, in words."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from runner.config import axes
from runner.config.settings import PREFIX, environment_names
from runner.config.words import with_value
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
    return Problem(place=place, message=with_value(issue), fix=advice(model, location))


def advice(model: type[BaseModel], location: Location) -> str:
    """A field's description, which says what it takes."""
    *parents, name = location or ("",)
    inner = model_at(model, parents)
    field = inner.model_fields.get(str(name)) if inner else None
    return f"{name}: {field.description}" if field and field.description else ""


def model_at(model: type[BaseModel], location: Iterable[str | int]) -> type[BaseModel] | None:
    """The model of a block at a place, None where there is none."""
    current: type[BaseModel] | None = model
    for part in location:
        field = current.model_fields.get(str(part)) if current else None
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        for annotation in list(candidates):  # look inside Annotated members of a union
            candidates += getattr(annotation, "__args__", ())
        current = next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
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
    variable = PREFIX + "__".join(map(str, location)).upper()
    for name in environment_names():
        if location and (name.upper() == variable or variable.startswith(name.upper() + "__")):
            return f"environment: {name}"
    if location[:1] == ("grid",) and len(location) > 1:  # the file may spell the axis in its other way
        spellings = (location[1], axes.setting(str(location[1])))
        location = next((one for name in spellings if (one := ("grid", name, *location[2:])) in file.lines), location)
    if location == ("tracking", "mlflow", "uri") and location not in file.lines:
        return "environment: MLFLOW_TRACKING_URI"
    return file.place(location)
