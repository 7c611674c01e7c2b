"""From a sweep file and command-line overrides to settings, with every problem reported together and in its place."""

import difflib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from runner.configfile import ConfigFile, Location, read
from runner.settings import PREFIX, SweepSettings, UserSettings, environment_names
from trainables.errors import ConfigError, Problem
from trainables.schema import (
    SELECTION,
    DataSpec,
    ModelSpec,
    Spec,
    TaskSpec,
    TrainingSpec,
    chooses_epoch,
    parse_budget,
)

# Grid axes with names of their own, and the setting that each stands for.
AXIS_ALIASES = {"horizon": "task.horizon", "seed": "training.seed", "data_fraction": "data.fraction"}
AXIS_BLOCKS: dict[str, type[Spec]] = {"data": DataSpec, "task": TaskSpec, "model": ModelSpec, "training": TrainingSpec}
MAX_CELLS = 10_000  # what one ledger and one driver are meant for


@dataclass(frozen=True)
class Variant:
    """The four blocks that define a trial, with one choice from every grid axis applied.

    `axes` holds the chosen values under the axes' own names, budget included.
    """

    axes: dict[str, Any]
    data: DataSpec
    task: TaskSpec
    model: ModelSpec
    training: TrainingSpec


@dataclass(frozen=True)
class Sweep:
    """A sweep as understood."""

    settings: SweepSettings
    file: ConfigFile
    variants: tuple[Variant, ...]


def load(path: Path, overrides: Sequence[str] = (), *, tracking: bool = True) -> Sweep:
    """Read a sweep file with ``a.b=c`` overrides.

    Args:
        path: the sweep file.
        overrides: as given to `--set`.
        tracking: False turns both trackers off.

    Raises:
        ConfigError: all problems, each with file, line and key.
    """
    file = read(path)
    given = _overrides(overrides)
    if not tracking:
        given["tracking"] = {"mlflow": None, "wandb": None}
    problems = list(_unknown_environment())
    try:
        sources: dict[str, Any] = {"overrides": given, "file": file.values}
        settings = SweepSettings(**sources)
    except ValidationError as error:
        problems += [_problem(file, given, SweepSettings, issue) for issue in error.errors(include_url=False)]
        raise ConfigError(sorted(problems, key=_by_line)) from error
    except SettingsError as error:
        raise ConfigError([*problems, Problem(place="environment or .env", message=str(error))]) from error
    variants: list[Variant] = []
    for found in _variants(settings, file, given):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            variants.append(found)
    if problems:
        raise ConfigError(problems)
    return Sweep(settings=settings, file=file, variants=_with_selection(variants))


def _by_line(problem: Problem) -> tuple[str, int]:
    file, _, rest = problem.place.partition(":")
    line = rest.partition(":")[0]
    return file, int(line) if line.isdigit() else 0


# ---- overrides and environment -----------------------------------------------------------------------------------


def _overrides(texts: Sequence[str]) -> dict[str, Any]:
    """``a.b=c`` texts as nested dictionaries; values are read as YAML, keys below ``grid.`` are axes."""
    nested: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in texts:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".", 1) if key.strip().startswith("grid.") else key.strip().split(".")
        if not equals or not all(parts):
            problems.append(Problem(place=f"--set {text}", message="not of the form key=value", mend="--set a.b=c"))
            continue
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            problems.append(Problem(place=f"--set {text}", message="the value cannot be read", mend="quote the value"))
            continue
        target = nested
        for part in parts[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                problems.append(Problem(place=f"--set {text}", message="contradicts another --set"))
                break
        else:
            target[parts[-1]] = parsed
    if problems:
        raise ConfigError(problems)
    return nested


def _unknown_environment() -> Iterator[Problem]:
    known = [PREFIX + name.upper() for name in (*SweepSettings.model_fields, *UserSettings.model_fields)]
    for name in environment_names():
        head = name.upper().split("__")[0]
        if head not in known:
            yield Problem(place=f"environment: {name}", message="unknown setting", mend=_nearest(head, known))


# ---- problems ----------------------------------------------------------------------------------------------------


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near and len(names) > 12:  # a long list would hide the answer
        return f"did you mean {near[0]!r}?"
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(names)}"


def _problem(file: ConfigFile, given: dict[str, Any], model: type[BaseModel], issue: Any) -> Problem:
    """A pydantic error as a problem, placed where the value came from."""
    location: Location = tuple(part for part in issue["loc"] if not str(part).startswith("<"))
    place = _place(file, given, location)
    if issue["type"] == "extra_forbidden":
        name = str(location[-1])
        return Problem(place=place, message=f"unknown key {name!r}", mend=_nearest(name, _fields(model, location[:-1])))
    if issue["type"] == "missing":
        return Problem(place=place, message=f"the key {str(location[-1])!r} is missing", mend="add it")
    message = str(issue["msg"]).removeprefix("Value error, ")
    shown = repr(issue["input"])
    got = f" (got {shown})" if len(shown) <= 60 and issue["type"] != "value_error" else ""
    return Problem(place=place, message=f"{message}{got}", mend=_advice(model, location))


def _advice(model: type[BaseModel], location: Location) -> str:
    """A field's description, which says what it takes."""
    *parents, name = location or ("",)
    inner = _model_at(model, parents)
    field = inner.model_fields.get(str(name)) if inner else None
    return f"{name}: {field.description}" if field and field.description else ""


def _model_at(model: type[BaseModel], location: Iterable[str | int]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        field = current.model_fields.get(str(part)) if current else None
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        for annotation in list(candidates):  # look inside Annotated members of a union
            candidates += getattr(annotation, "__args__", ())
        current = next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
    return current


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    inner = _model_at(model, location)
    return list(inner.model_fields) if inner else []


def _place(file: ConfigFile, given: dict[str, Any], location: Location) -> str:
    inner: Any = given
    for part in location:
        inner = inner.get(part) if isinstance(inner, dict) else None
    dotted = ".".join(map(str, location))
    if inner is not None:
        return f"--set {dotted}"
    variable = PREFIX + "__".join(map(str, location)).upper()
    for name in environment_names():
        if location and (name.upper() == variable or variable.startswith(name.upper() + "__")):
            return f"environment: {name}"
    return file.place(location)


# ---- grid --------------------------------------------------------------------------------------------------------


def _variants(settings: SweepSettings, file: ConfigFile, given: dict[str, Any]) -> Iterator[Variant | Problem]:
    """Every combination of the axes, or what is wrong with them."""
    wrong = list(_axis_problems(settings, file, given))
    if wrong:
        yield from wrong
        return
    axes = settings.grid
    seen: set[str] = set()
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        blocks = {name: getattr(settings, name).model_dump() for name in AXIS_BLOCKS}
        for axis, value in chosen.items():
            if axis != "budget":
                _set(blocks, AXIS_ALIASES.get(axis, axis), value)
        try:
            built = {name: model.model_validate(blocks[name]) for name, model in AXIS_BLOCKS.items()}
            _check_together(**built)  # type: ignore[arg-type]
        except ValidationError as error:
            found = _in_combination(file, given, chosen, str(error.errors()[0]["msg"]).removeprefix("Value error, "))
        except ValueError as error:
            found = _in_combination(file, given, chosen, str(error))
        else:
            yield Variant(axes=chosen, **built)  # type: ignore[arg-type]
            continue
        if found.message not in seen:
            seen.add(found.message)
            yield found


def _in_combination(file: ConfigFile, given: dict[str, Any], chosen: dict[str, Any], message: str) -> Problem:
    labels = ", ".join(f"{axis} {value}" for axis, value in chosen.items())
    return Problem(place=_place(file, given, ("grid",)), message=message, mend=f"first seen at {labels}")


def _check_together(data: DataSpec, task: TaskSpec, model: ModelSpec, training: TrainingSpec) -> None:
    if data.splits.selection == 0 and chooses_epoch(training):
        raise ValueError(
            "training.judged_epoch: best and training.early_stopping choose an epoch on a part of validation that "
            "judges nothing; data.splits.selection, its share, must be above 0"
        )
    if model.name == "patchtst" and task.context % model.patch:
        divisors = [str(size) for size in range(1, task.context + 1) if task.context % size == 0]
        raise ValueError(
            f"model.patch {model.patch} does not divide task.context {task.context}; use one of {', '.join(divisors)}"
        )


def _with_selection(variants: list[Variant]) -> tuple[Variant, ...]:
    """Fill in `data.splits.selection` where it is not given, so that one sweep's trials are judged on equal windows."""
    share = SELECTION if any(chooses_epoch(variant.training) for variant in variants) else 0.0
    return tuple(
        variant
        if variant.data.splits.selection is not None
        else replace(
            variant,
            data=variant.data.model_copy(
                update={"splits": variant.data.splits.model_copy(update={"selection": share})}
            ),
        )
        for variant in variants
    )


def _axis_problems(settings: SweepSettings, file: ConfigFile, given: dict[str, Any]) -> Iterator[Problem]:
    cells = 1
    for axis, values in settings.grid.items():
        cells *= len(values)
        place = _place(file, given, ("grid", axis))
        if axis == "budget":
            yield from _budget_problems(values, place)
            continue
        block, _, rest = AXIS_ALIASES.get(axis, axis).partition(".")
        if block not in AXIS_BLOCKS or not _has_field(AXIS_BLOCKS[block], rest):
            names = ["budget", *AXIS_ALIASES, *(f"{one}.{field}" for one in AXIS_BLOCKS for field in _keys(one))]
            yield Problem(place=place, message=f"no axis {axis!r}", mend=_nearest(axis, names))
            continue
        for index, value in enumerate(values):
            yield from _value_problems(settings, file, given, (axis, index, value), (block, rest))
    if cells > MAX_CELLS:
        yield Problem(
            place=_place(file, given, ("grid",)), message=f"{cells} cells are more than {MAX_CELLS}", mend="split it"
        )


def _budget_problems(values: list[Any], place: str) -> Iterator[Problem]:
    numbers: dict[int, Any] = {}
    for value in values:
        try:
            number = parse_budget(value)
        except ValueError as error:
            yield Problem(place=place, message=str(error))
            continue
        if number in numbers:
            yield Problem(
                place=place, message=f"{value!r} and {numbers[number]!r} are the same budget", mend="drop one"
            )
        numbers[number] = value


def _value_problems(
    settings: SweepSettings,
    file: ConfigFile,
    given: dict[str, Any],
    choice: tuple[str, int, Any],
    setting: tuple[str, str],
) -> Iterator[Problem]:
    (axis, index, value), (block, rest) = choice, setting
    blocks = {block: getattr(settings, block).model_dump()}
    _set(blocks, f"{block}.{rest}", value)
    try:
        AXIS_BLOCKS[block].model_validate(blocks[block])
    except ValidationError as error:
        for issue in error.errors(include_url=False):
            message = str(issue["msg"]).removeprefix("Value error, ")
            mend = _advice(AXIS_BLOCKS[block], tuple(rest.split(".")))
            yield Problem(
                place=_place(file, given, ("grid", axis, index)), message=f"{message} (got {value!r})", mend=mend
            )


def _set(blocks: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, name = dotted.split(".")
    target = blocks
    for part in parents:
        target = target[part]
    target[name] = value


def _has_field(model: type[BaseModel], dotted: str) -> bool:
    *parents, name = dotted.split(".")
    inner = _model_at(model, parents)
    return bool(name) and inner is not None and name in inner.model_fields


def _keys(block: str) -> list[str]:
    return list(AXIS_BLOCKS[block].model_fields)
