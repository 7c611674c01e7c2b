"""From a sweep file and command-line overrides to settings, with every problem reported together and in its place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from runner.config import axes, layers, listed_parts, parts, search_space
from runner.config.axes import Layer
from runner.config.places import place_of, problem_of
from runner.config.settings import SweepSettings
from runner.config.variants import Variant, variants, with_selection
from runner.config.yaml_lines import MAX_DEPTH, ConfigFile, Location, parse, read, read_value
from runner.rundir import comparable
from trainables.errors import ConfigError, Problem
from trainables.schema import (
    DataSpec,
    LossSpec,
    ModelSpec,
    TaskSpec,
    TierSpec,
    TrainingSpec,
    parse_budget,
)

Block = TypeVar("Block", ModelSpec, LossSpec, TaskSpec, TierSpec)


@dataclass(frozen=True)
class Sweep:
    """A sweep as understood.

    Attributes:
        notices: which given values replace an axis of the grid or have no effect.
        options: of the command line, with which its file gives the same sweep again.
    """

    settings: SweepSettings
    file: ConfigFile
    variants: tuple[Variant, ...]
    notices: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def at_budget(self, budget: str) -> Variant:
        """The first cell, at the budget that `--budget` asks for.

        Raises:
            ConfigError: it is none.
        """
        try:
            parse_budget(budget)
        except ValueError as error:
            raise ConfigError(Problem(place="--budget", message=str(error))) from None
        return replace(self.variants[0], axes={**self.variants[0].axes, "budget": budget})


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
    named = [("--plugin", str(plugin)) for plugin in plugins] + [("--set", one) for one in overrides]
    options = (*chain(*named), *([] if tracking else ["--no-tracking"]))
    return replace(understand(read(path), given), options=options)


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
    problems = list(layers.problems())
    try:
        over = Layer(file.overrides.rstrip(": ") or "keywords", given)
        sources = layers.layers(over, Layer(str(file.path), file.values, is_file=True))
        resolved = axes.resolve(sources)
        problems += resolved.problems
        values = layers.merged(sources)
        problems += _two_lengths(values, resolved.grid, lambda location: place_of(file, given, location))
        if isinstance(values.get("grid"), dict):
            values["grid"] = resolved.grid
        settings = SweepSettings(**values)
    except ValidationError as error:
        problems += [problem_of(file, given, SweepSettings, issue) for issue in error.errors(include_url=False)]
        problems += parts.problems(_readable(file, given), lambda location: place_of(file, given, location))
        raise ConfigError(sorted(problems, key=_by_line)) from error
    known = settings.model_dump()
    problems += search_space.problems(settings, lambda location: place_of(file, given, location))
    single = {axis: [comparable.setting(known, axes.setting(axis))] for axis in resolved.replaced}
    settings = settings.model_copy(update={"grid": settings.grid | single})
    problems += parts.problems(settings, lambda location: place_of(file, given, location))
    problems += listed_parts.problems(settings, lambda location: place_of(file, given, location))
    if problems:
        raise ConfigError(sorted(problems, key=_by_line))
    combinations: list[Variant] = []
    for found in variants(settings, file, given):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            combinations.append(found)
    if problems:
        raise ConfigError(problems)
    return Sweep(settings=settings, file=file, variants=with_selection(combinations), notices=resolved.notices)


def _readable(file: ConfigFile, given: dict[str, Any]) -> SweepSettings:
    """What names parts, as far as it can be read where something else is wrong."""
    values = layers.merged_values(file.values, given)
    loss = _mapping(values, "training").get("loss", {})
    if isinstance(loss, dict):  # keys of `training` may be given there, too
        loss = {key: value for key, value in loss.items() if key not in TrainingSpec.model_fields}
    training = TrainingSpec.model_construct(loss=_valid(LossSpec, loss))
    axes = {axis: values for axis, values in _mapping(values, "grid").items() if isinstance(values, list)}
    model, asked = _valid(ModelSpec, _mapping(values, "model")), _mapping(values, "task")
    task = _valid(TaskSpec, {key: value for key, value in asked.items() if key not in ("context", "horizon")})
    data = DataSpec.model_construct(tier=_valid(TierSpec, _mapping(values, "data").get("tier", {})))
    return SweepSettings.model_construct(name="", data=data, model=model, task=task, training=training, grid=axes)


def _two_lengths(values: dict[str, Any], grid: dict[str, Any], place: Callable[[Location], str]) -> Iterator[Problem]:
    """Epochs that would have no effect, as a length is given, too."""
    asked = _mapping(values, "training")
    lengths = [] if asked.get("length") is None else ["training.length"]
    lengths += [f"grid.{axis}" for axis in grid if axes.setting(axis).startswith("training.length")]
    for location, given in (
        (("training", "epochs"), "epochs" in asked),
        (("grid", "training.epochs"), "training.epochs" in grid),
    ):
        if lengths and given:
            message = f"{'.'.join(location)} and {lengths[0]} both say how long a trial trains"
            yield Problem(place=place(location), message=message, fix="give one of the two")


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


# ---- overrides ---------------------------------------------------------------------------------------------------


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
