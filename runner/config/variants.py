"""The combinations of a grid's axes, and what is wrong with them."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.config import axes, parts
from runner.config.places import model_at, place_of
from runner.config.settings import SweepSettings
from runner.config.words import fix_of, words_of
from runner.config.yaml_lines import ConfigFile
from trainables.errors import ConfigError, Problem, nearest
from trainables.schema import (
    MAX_BATCH,
    MAX_EPOCHS,
    SELECTION,
    DataSpec,
    ModelSpec,
    SizeRule,
    Spec,
    TaskSpec,
    TrainingSpec,
    chooses_epoch,
    parse_budget,
)

AXIS_BLOCKS: dict[str, type[Spec]] = {"data": DataSpec, "task": TaskSpec, "model": ModelSpec, "training": TrainingSpec}
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


def variants(settings: SweepSettings, file: ConfigFile, given: dict[str, Any]) -> Iterator[Variant | Problem]:
    """Every combination of the axes, or what is wrong with them."""
    if (large := _size_problem(settings.grid, place_of(file, given, ("grid",)))) is not None:
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
            variant = variant_of(settings, chosen, settled)
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


def variant_of(blocks_of: SweepSettings | Variant, chosen: dict[str, Any], values: Mapping[str, Any]) -> Variant:
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
    parts.check_parametrization(built["model"], built["training"])
    _check_rules(built["training"], chosen["budget"])
    _check_choice(built["data"], built["training"])
    return Variant(axes=chosen, **built)


def with_values(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """A variant with other values of dotted keys; its axes stay.

    Raises:
        ValueError: see `variant_of`.
        ConfigError: likewise.
    """
    return variant_of(variant, variant.axes, values)


def _in_combination(file: ConfigFile, given: dict[str, Any], chosen: dict[str, Any], message: str) -> Problem:
    labels = ", ".join(f"{axis} {value}" for axis, value in chosen.items())
    return Problem(place=place_of(file, given, ("grid",)), message=message, fix=f"first seen at {labels}")


def _check_rules(training: TrainingSpec, budget: Any) -> None:
    measure, length = ("epochs", training.epochs) if training.length is None else training.length.given
    most = {"epochs": MAX_EPOCHS, "steps": MAX_BATCH, "samples": math.inf, "flops": math.inf}[measure]
    rules = [(rule, MAX_BATCH) for rule in (training.lr, training.weight_decay, training.global_batch)]
    for rule, limit in [*rules, (length, most)]:
        if isinstance(rule, SizeRule) and rule.value(parse_budget(budget)) > limit:
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


def with_selection(variants: list[Variant]) -> tuple[Variant, ...]:
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
        place = place_of(file, given, ("grid", axis))
        if axis == "budget":
            yield from _budget_problems(values, place)
            continue
        block, _, rest = axes.setting(axis).partition(".")
        known = block in AXIS_BLOCKS and (has_field(AXIS_BLOCKS[block], rest) or rest in parts.keys(settings, block))
        if not known:
            fields = (f"{one}.{key}" for one in AXIS_BLOCKS for key in (*block_keys(one), *parts.keys(settings, one)))
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
            message = words_of(issue)
            fix = fix_of(issue, AXIS_BLOCKS[block], rest.split("."))
            yield Problem(
                place=place_of(file, given, ("grid", axis, index)), message=f"{message} (got {value!r})", fix=fix
            )
    except ValueError as error:
        yield Problem(place=place_of(file, given, ("grid", axis, index)), message=str(error))
    for message, fix in parts.value_problems(settings, block, rest, value):
        yield Problem(place=place_of(file, given, ("grid", axis, index)), message=message, fix=fix)


def whole(value: Any) -> Any:
    """A number without a fraction as an integer: keys that take whole numbers only take it, and so do all others."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _set(blocks: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, name = dotted.split(".")
    target = blocks
    if parents == ["training", "length"]:  # another measure replaces the one that is given
        blocks["training"]["length"] = {}
    for part in parents:
        if isinstance(target[part], str):  # the short form of a block that names a part
            target[part] = {"name": target[part]}
        target = target[part]
    if not isinstance(target, dict):
        whole = ".".join(parents)
        raise ValueError(f"{whole} is not set (it is {target!r}), so that {dotted} cannot vary; give {whole} a value")
    target[name] = value


def has_field(model: type[BaseModel], dotted: str) -> bool:
    """Whether a block has a key, which may be in blocks inside it."""
    *parents, name = dotted.split(".")
    inner = model_at(model, parents)
    return bool(name) and inner is not None and name in inner.model_fields


def block_keys(block: str) -> list[str]:
    """The keys of a block, those of its part aside."""
    return list(AXIS_BLOCKS[block].model_fields)
