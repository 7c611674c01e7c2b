"""From a sweep file and command-line overrides to settings, with every problem reported together and in its place."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from runner.config import axes, listed_parts, parts
from runner.config.axes import Layer
from runner.config.search import Around, Choices
from runner.config.settings import (
    PLUGINS,
    PREFIX,
    SweepSettings,
    UserSettings,
    dotenv_names,
    environment_names,
    layers,
    merged,
    merged_values,
)
from runner.config.yaml_lines import MAX_DEPTH, ConfigFile, Location, parse, read, read_value
from runner.rundir import comparable
from trainables.errors import ConfigError, Problem, nearest
from trainables.schema import (
    MAX_BATCH,
    SELECTION,
    DataSpec,
    LossSpec,
    ModelSpec,
    SizeRule,
    Spec,
    TaskSpec,
    TierSpec,
    TrainingSpec,
    chooses_epoch,
    parse_budget,
)

AXIS_BLOCKS: dict[str, type[Spec]] = {"data": DataSpec, "task": TaskSpec, "model": ModelSpec, "training": TrainingSpec}
Block = TypeVar("Block", ModelSpec, LossSpec, TaskSpec, TierSpec)
MAX_AXES = 20
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
    """A sweep as understood; `notices` say which given values replace an axis of the grid or have no effect."""

    settings: SweepSettings
    file: ConfigFile
    variants: tuple[Variant, ...]
    notices: tuple[str, ...] = ()


def load(path: Path, overrides: Sequence[str] = (), *, tracking: bool = True, plugins: Sequence[Path] = ()) -> Sweep:
    """Read a sweep file with ``a.b=c`` overrides.

    Args:
        path: the sweep file.
        overrides: as given to `--set`.
        tracking: False turns all trackers off.
        plugins: Python files whose parts the sweep may name, in addition to those of ISOTHERM_PLUGINS.

    Raises:
        ConfigError: all problems, each with file, line and key.
    """
    parts.load_plugins(plugins)
    given = _overrides(overrides)
    if not tracking:
        given["tracking"] = {"mlflow": None, "wandb": None, "others": []}
    return understand(read(path), given)


def data_of(overrides: Sequence[str]) -> DataSpec:
    """The block `data` alone, of overrides and the environment.

    Raises:
        ConfigError: an override is wrong.
    """
    file = parse("{name: data, grid: {budget: [50k]}}", None)
    return understand(file, _overrides(overrides)).settings.data


def understand(file: ConfigFile, given: dict[str, Any]) -> Sweep:
    """A sweep of a file's values and of nested values that are given over them.

    Raises:
        ConfigError: all problems, each with its place.
    """
    problems = list(_unknown_environment())
    try:
        over = Layer(file.overrides.rstrip(": ") or "keywords", given)
        sources = layers(over, Layer(str(file.path), file.values, is_file=True))
        resolved = axes.resolve(sources)
        problems += resolved.problems
        values = merged(sources)
        if isinstance(values.get("grid"), dict):
            values["grid"] = resolved.grid
        settings = SweepSettings(**values)
    except ValidationError as error:
        problems += [_problem(file, given, SweepSettings, issue) for issue in error.errors(include_url=False)]
        problems += parts.problems(_readable(file, given), lambda location: _place(file, given, location))
        raise ConfigError(sorted(problems, key=_by_line)) from error
    except SettingsError as error:
        raise ConfigError([*problems, Problem(place="environment or .env", message=str(error))]) from error
    except RecursionError as error:
        problem = Problem(place="environment or .env", message="a value is nested too deeply", fix="shorten it")
        raise ConfigError([*problems, problem]) from error
    known = settings.model_dump()
    problems += search_problems(settings, lambda location: _place(file, given, location))
    single = {axis: [comparable.setting(known, axes.setting(axis))] for axis in resolved.replaced}
    settings = settings.model_copy(update={"grid": settings.grid | single})
    problems += parts.problems(settings, lambda location: _place(file, given, location))
    problems += listed_parts.problems(settings, lambda location: _place(file, given, location))
    if problems:
        raise ConfigError(sorted(problems, key=_by_line))
    variants: list[Variant] = []
    for found in _variants(settings, file, given):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            variants.append(found)
    if problems:
        raise ConfigError(problems)
    return Sweep(settings=settings, file=file, variants=_with_selection(variants), notices=resolved.notices)


def _readable(file: ConfigFile, given: dict[str, Any]) -> SweepSettings:
    """What names parts, as far as it can be read where something else is wrong."""
    values = merged_values(file.values, given)
    loss = _mapping(values, "training").get("loss", {})
    if isinstance(loss, dict):  # keys of `training` may be given there, too
        loss = {key: value for key, value in loss.items() if key not in TrainingSpec.model_fields}
    training = TrainingSpec.model_construct(loss=_valid(LossSpec, loss))
    axes = {axis: values for axis, values in _mapping(values, "grid").items() if isinstance(values, list)}
    model, asked = _valid(ModelSpec, _mapping(values, "model")), _mapping(values, "task")
    task = _valid(TaskSpec, {key: value for key, value in asked.items() if key not in ("context", "horizon")})
    data = DataSpec.model_construct(tier=_valid(TierSpec, _mapping(values, "data").get("tier", {})))
    return SweepSettings.model_construct(data=data, model=model, task=task, training=training, grid=axes)


def _valid(block: type[Block], values: Any) -> Block:
    try:
        return block.model_validate(values)
    except ValidationError:
        return block()


def _mapping(values: dict[str, Any], block: str) -> dict[str, Any]:
    found = values.get(block)
    return found if isinstance(found, dict) else {}


def _by_line(problem: Problem) -> tuple[str, int]:
    file, _, rest = problem.place.partition(":")
    line = rest.partition(":")[0]
    return file, int(line) if line.isdigit() else 0


# ---- overrides and environment -----------------------------------------------------------------------------------


def _overrides(texts: Sequence[str]) -> dict[str, Any]:
    """``a.b=c`` texts as nested dictionaries; values are read as YAML, keys below ``grid.`` and
    ``search.space.`` are dotted keys themselves."""
    nested: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in texts:
        key, equals, value = text.partition("=")
        parts = _parts(key.strip())
        if not equals or not all(parts):
            problems.append(Problem(place=f"--set {text}", message="not of the form key=value", fix="--set a.b=c"))
            continue
        if len(parts) > MAX_DEPTH:
            message = f"a key of {len(parts)} parts; the deepest that there are have 4"
            problems.append(Problem(place=f"--set {text[:60]}...", message=message, fix="--set a.b=c"))
            continue
        try:
            parsed = read_value(value)
        except ValueError as error:
            problems.append(Problem(place=f"--set {text[:200]}", message=str(error), fix="quote the value"))
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


def _parts(key: str) -> list[str]:
    """A dotted key taken apart; what follows these blocks is one name."""
    for block in (["grid"], ["search", "space"]):
        prefix = ".".join(block) + "."
        if key.startswith(prefix):
            return [*block, key.removeprefix(prefix)]
    return key.split(".")


def _unknown_environment() -> Iterator[Problem]:
    known = [PLUGINS, *(PREFIX + name.upper() for name in (*SweepSettings.model_fields, *UserSettings.model_fields))]
    for place, names in (("environment", environment_names()), (".env", dotenv_names())):
        for name in names:
            head = name.upper().split("__")[0]
            if head not in known:
                yield Problem(place=f"{place}: {name}", message="unknown setting", fix=nearest(head, known))


# ---- problems ----------------------------------------------------------------------------------------------------


def _problem(file: ConfigFile, given: dict[str, Any], model: type[BaseModel], issue: Any) -> Problem:
    """A pydantic error as a problem, placed where the value came from."""
    location: Location = tuple(part for part in issue["loc"] if not str(part).startswith("<"))
    place = _place(file, given, location)
    if issue["type"] == "extra_forbidden":
        name = str(location[-1])
        return Problem(place=place, message=f"unknown key {name!r}", fix=nearest(name, _fields(model, location[:-1])))
    if issue["type"] == "missing":
        return Problem(place=place, message=f"the key {str(location[-1])!r} is missing", fix="add it")
    message = str(issue["msg"]).removeprefix("Value error, ")
    shown = repr(issue["input"])
    got = f" (got {shown})" if len(shown) <= 60 and issue["type"] != "value_error" else ""
    return Problem(place=place, message=f"{message}{got}", fix=_advice(model, location))


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


# ---- grid --------------------------------------------------------------------------------------------------------


def _variants(settings: SweepSettings, file: ConfigFile, given: dict[str, Any]) -> Iterator[Variant | Problem]:
    """Every combination of the axes, or what is wrong with them."""
    if (large := _size_problem(settings.grid, _place(file, given, ("grid",)))) is not None:
        yield large
        return
    wrong = list(_axis_problems(settings, file, given))
    if wrong:
        yield from wrong
        return
    grid = settings.grid
    seen: set[str] = set()
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        settled = {axes.setting(axis): value for axis, value in chosen.items() if axis != "budget"}
        try:
            variant = _variant(settings, chosen, settled)
        except ValidationError as error:
            found = _in_combination(file, given, chosen, str(error.errors()[0]["msg"]).removeprefix("Value error, "))
        except ConfigError as error:
            found = _in_combination(file, given, chosen, error.problems[0].message)
        except ValueError as error:
            found = _in_combination(file, given, chosen, str(error))
        else:
            yield variant
            continue
        if found.message not in seen:
            seen.add(found.message)
            yield found


def _variant(blocks_of: SweepSettings | Variant, chosen: dict[str, Any], values: Mapping[str, Any]) -> Variant:
    """The four blocks with some values set.

    Raises:
        ValueError: a value is wrong, by itself or with the others; pydantic's `ValidationError` is one.
        ConfigError: a part does not take it.
    """
    blocks = {name: getattr(blocks_of, name).model_dump() for name in AXIS_BLOCKS}
    for dotted, value in values.items():
        _set(blocks, dotted, value)
    built: dict[str, Any] = {name: model.model_validate(blocks[name]) for name, model in AXIS_BLOCKS.items()}
    parts.check(built["model"], built["task"], built["training"])
    _check_rules(built["training"], chosen["budget"])
    _check_choice(built["data"], built["training"])
    return Variant(axes=chosen, **built)


def with_values(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """A variant with other values of dotted keys; its axes stay.

    Raises:
        ValueError: see `_variant`.
        ConfigError: likewise.
    """
    return _variant(variant, variant.axes, values)


def _in_combination(file: ConfigFile, given: dict[str, Any], chosen: dict[str, Any], message: str) -> Problem:
    labels = ", ".join(f"{axis} {value}" for axis, value in chosen.items())
    return Problem(place=_place(file, given, ("grid",)), message=message, fix=f"first seen at {labels}")


def _check_rules(training: TrainingSpec, budget: Any) -> None:
    for rule in (training.lr, training.weight_decay, training.global_batch):
        if isinstance(rule, SizeRule) and rule.value(parse_budget(budget)) > MAX_BATCH:
            raise ValueError(f"a rule of the size gives {rule.value(parse_budget(budget)):g} at budget {budget}")


def _size_problem(grid: dict[str, list[Any]], place: str) -> Problem | None:
    """The size of a grid that is too large, before anything in it is looked at."""
    cells = math.prod(len(values) for values in grid.values())
    if len(grid) <= MAX_AXES and cells <= MAX_CELLS:
        return None
    size = f"{cells} cells" if cells < 10**12 else f"about 10^{round(math.log10(cells))} cells"
    message = f"{len(grid)} axes make {size}; {MAX_AXES} axes and {MAX_CELLS} cells are the most"
    return Problem(place=place, message=message, fix="split it into several sweeps")


def _check_choice(data: DataSpec, training: TrainingSpec) -> None:
    if data.splits.selection == 0 and chooses_epoch(training):
        raise ValueError(
            "training.judged_epoch: best and training.early_stopping choose an epoch on a part of validation that "
            "judges nothing; data.splits.selection, its share, must be above 0"
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
    for axis, values in settings.grid.items():
        place = _place(file, given, ("grid", axis))
        if axis == "budget":
            yield from _budget_problems(values, place)
            continue
        block, _, rest = axes.setting(axis).partition(".")
        known = block in AXIS_BLOCKS and (_has_field(AXIS_BLOCKS[block], rest) or rest in parts.keys(settings, block))
        if not known:
            fields = (f"{one}.{key}" for one in AXIS_BLOCKS for key in (*_keys(one), *parts.keys(settings, one)))
            names = ["budget", *axes.ALIASES, *fields]
            yield Problem(place=place, message=f"no axis {axis!r}", fix=nearest(axis, names))
            continue
        for index, value in enumerate(values):
            yield from _value_problems(settings, file, given, (axis, index, value), (block, rest))


def _budget_problems(values: list[Any], place: str) -> Iterator[Problem]:
    numbers: dict[int, Any] = {}
    for value in values:
        try:
            number = parse_budget(value)
        except ValueError as error:
            yield Problem(place=place, message=str(error))
            continue
        if number in numbers:
            yield Problem(place=place, message=f"{value!r} and {numbers[number]!r} are the same budget", fix="drop one")
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
    try:
        _set(blocks, f"{block}.{rest}", value)
        AXIS_BLOCKS[block].model_validate(blocks[block])
    except ValidationError as error:
        for issue in error.errors(include_url=False):
            message = str(issue["msg"]).removeprefix("Value error, ")
            fix = _advice(AXIS_BLOCKS[block], tuple(rest.split(".")))
            yield Problem(
                place=_place(file, given, ("grid", axis, index)), message=f"{message} (got {value!r})", fix=fix
            )
    except ValueError as error:
        yield Problem(place=_place(file, given, ("grid", axis, index)), message=str(error))
    for message, fix in parts.value_problems(settings, block, rest, value):
        yield Problem(place=_place(file, given, ("grid", axis, index)), message=message, fix=fix)


# ---- search ------------------------------------------------------------------------------------------------------


def search_problems(settings: SweepSettings, place: Callable[[Location], str]) -> Iterator[Problem]:
    """What is wrong with the block `search`, values in combination aside."""
    if (search := settings.search) is None:
        return
    seeds = settings.grid.get("seed", [settings.training.seed])
    if search.seed in seeds:
        message = f"search.seed {search.seed} is a seed that confirms; the search would choose by it"
        yield Problem(place=place(("search", "seed")), message=message, fix="give a number that grid.seed lacks")
    if search.metric == "selection_loss" and not settings.data.splits.selection:
        message = "metric selection_loss needs a part of validation that only chooses"
        yield Problem(
            place=place(("search", "metric")), message=message, fix="give data.splits.selection, such as 0.33"
        )
    for dotted, dimension in search.space.items():
        where = place(("search", "space", dotted))
        if (wrong := _space_problem(settings, dotted)) is not None:
            yield Problem(place=where, message=wrong[0], fix=wrong[1])
            continue
        if isinstance(dimension, Around):
            given = comparable.setting({block: getattr(settings, block).model_dump() for block in AXIS_BLOCKS}, dotted)
            if not (isinstance(given, dict) and "base" in given) and not (
                isinstance(given, int | float) and not isinstance(given, bool) and given > 0
            ):
                yield Problem(place=where, message=f"{dotted} has no value above 0 to search around", fix="give one")
            continue
        for value in dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high):
            try:
                _variant(settings, {"budget": settings.grid["budget"][0]}, {dotted: whole(value)})
            except ValidationError as error:
                message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
                yield Problem(place=where, message=f"{message} (got {value!r})")
            except ConfigError as error:
                yield Problem(place=where, message=f"{error.problems[0].message} (got {value!r})")
            except ValueError as error:
                yield Problem(place=where, message=f"{error} (got {value!r})")


def _space_problem(settings: SweepSettings, dotted: str) -> tuple[str, str] | None:
    """Why a key cannot be searched, and the fix."""
    block, _, rest = dotted.partition(".")
    if block not in AXIS_BLOCKS or not (_has_field(AXIS_BLOCKS[block], rest) or rest in parts.keys(settings, block)):
        fields = [f"{one}.{key}" for one in AXIS_BLOCKS for key in (*_keys(one), *parts.keys(settings, one))]
        return f"no key {dotted!r}", nearest(dotted, fields)
    if dotted == "training.seed" or (block in comparable.BLOCKS and dotted not in comparable.INPUTS):
        return f"{dotted} changes what is judged, so that losses cannot be compared", "make it an axis of grid"
    if axes.canonical(dotted) in settings.grid:
        return f"{dotted} is an axis of grid, too", "drop one of the two"
    return None


def whole(value: Any) -> Any:
    """A number without a fraction as an integer: keys that take whole numbers only take it, and so do all others."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _set(blocks: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, name = dotted.split(".")
    target = blocks
    for part in parents:
        if isinstance(target[part], str):  # the short form of a block that names a part
            target[part] = {"name": target[part]}
        target = target[part]
    if not isinstance(target, dict):
        whole = ".".join(parents)
        raise ValueError(f"{whole} is not set (it is {target!r}), so that {dotted} cannot vary; give {whole} a value")
    target[name] = value


def _has_field(model: type[BaseModel], dotted: str) -> bool:
    *parents, name = dotted.split(".")
    inner = _model_at(model, parents)
    return bool(name) and inner is not None and name in inner.model_fields


def _keys(block: str) -> list[str]:
    return list(AXIS_BLOCKS[block].model_fields)
