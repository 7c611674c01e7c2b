"""Parts as a sweep uses them: plugins that were named, which part a block chooses, and the part's own keys there."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runner.config.settings import SweepSettings, plugin_paths
from runner.config.words import fix_of, with_value
from runner.config.yaml_lines import Location
from trainables.data import source_registry
from trainables.data.tier_registry import TIERS
from trainables.errors import ConfigError, DataError, Problem, nearest
from trainables.models.registry import ARCHITECTURES, Architecture, not_scaled
from trainables.parts import Part, Registry, plugins
from trainables.schema import DataShape, ModelSpec, PartBlock, TaskSpec, TrainingSpec
from trainables.tasks import registry as task_registry
from trainables.tasks.registry import TASKS
from trainables.training import loss_registry
from trainables.training.loss_registry import LOSSES
from trainables.training.metric_registry import METRICS

log = logging.getLogger(__name__)

Place = Callable[[Location], str]


@dataclass(frozen=True)
class Choice:
    """A block of a sweep file that names a part under a key of its own; the part's own keys are in the same block.

    `shared` are keys of a part's config that are not the part's own: every part of the kind may have them.
    """

    block: str
    registry: Registry[Any]
    shared: frozenset[str] = frozenset()
    named_by: str = "name"

    @property
    def top(self) -> str:
        """The block of the sweep file that it is in, or is."""
        return self.block.partition(".")[0]

    @property
    def prefix(self) -> str:
        """What stands before its keys within `top`: empty, or ``loss.``."""
        return (self.block + ".").removeprefix(self.top + ".")

    @property
    def axis(self) -> str:
        """The grid axis that varies the name."""
        return f"{self.block}.{self.named_by}"

    def given(self, settings: SweepSettings) -> PartBlock:
        """The block, as asked."""
        found: Any = settings
        for name in self.block.split("."):
            found = getattr(found, name)
        return cast("PartBlock", found)

    def names(self, settings: SweepSettings) -> dict[Location, str]:
        """The names in use, each with its place: those of a grid axis, else the block's own."""
        for axis in (self.axis, self.block):  # a block that can be given as a name is an axis, too
            if axis in settings.grid:
                return {
                    ("grid", axis, index): name
                    for index, name in enumerate(settings.grid[axis])
                    if isinstance(name, str)
                }
        given = self.given(settings)
        return {(*self.block.split("."), self.named_by): getattr(given, self.named_by)}

    def keys(self, part: Part[Any]) -> list[str]:
        """A part's own keys in the block."""
        return [key for key in part.config_type.model_fields if key not in self.shared]


CHOICES = (
    Choice("data.tier", TIERS),
    Choice("model", ARCHITECTURES),
    Choice("task", TASKS, task_registry.SHARED, named_by="kind"),
    Choice("training.loss", LOSSES, loss_registry.SHARED),
)


def load_plugins(paths: Sequence[Path] = ()) -> None:
    """Load the plugins of ``ISOTHERM_PLUGINS`` and those named here, in this order.

    Raises:
        ConfigError: one cannot be read or fails.
    """
    plugins.load([plugins.read(path) for path in (*plugin_paths(), *paths)])


# ---- keys of parts in the blocks of a sweep file -------------------------------------------------------------------


def problems(settings: SweepSettings, place: Place) -> Iterator[Problem]:
    """What is wrong with the parts that a sweep names and with their keys, values on grid axes aside."""
    for choice in CHOICES:
        unknown = list(_unknown_names(settings, choice, place))
        yield from unknown or _key_problems(settings, choice, place)
    for number, source in enumerate(settings.data.source):
        yield from _source_problems(source, lambda *keys, number=number: place(("data", "source", number, *keys)))


def _source_problems(source: str, place: Callable[..., str]) -> Iterator[Problem]:
    """What is wrong with the keys of a source; one that is not registered is found where data are read."""
    try:
        source_registry.of(source)
    except ConfigError as error:
        for problem in error.problems:
            yield replace(problem, place=place(*problem.place.split(".")[2:]))
    except DataError:
        return


def _unknown_names(settings: SweepSettings, choice: Choice, place: Place) -> Iterator[Problem]:
    for location, name in choice.names(settings).items():
        try:
            choice.registry.get(name, place(location))
        except ConfigError as error:
            yield from error.problems


def _key_problems(settings: SweepSettings, choice: Choice, place: Place) -> Iterator[Problem]:
    block, given = tuple(choice.block.split(".")), choice.given(settings)
    used = chosen(settings, choice)
    on_axes = {axis.removeprefix(f"{choice.block}.") for axis in settings.grid if axis.startswith(f"{choice.block}.")}
    for key in given.config:
        if any(key in choice.keys(part) for part in used):
            continue
        if any(key in choice.keys(part) for part in choice.registry):  # so that one file serves several architectures
            names = ", ".join(part.name for part in used)
            log.warning("%s: %s has no such key; it is ignored", place((*block, key)), names)
            continue
        known = [*type(given).model_fields, *(key for part in used for key in choice.keys(part))]
        yield Problem(place=place((*block, key)), message=f"unknown key {key!r}", fix=nearest(key, known))
    found: dict[str, Problem] = {}
    for part in used:
        for issue in _issues(choice, part, given.config):
            if (not issue["loc"] and on_axes) or (issue["loc"] and issue["loc"][0] in on_axes):
                continue  # checked with every value of the axes
            where = place((*block, *issue["loc"]))
            found.setdefault(
                where, Problem(place=where, message=_message(issue), fix=fix_of(issue, part.config_type, issue["loc"]))
            )
    yield from found.values()


def check_parametrization(model: ModelSpec, training: TrainingSpec) -> None:
    """Return if the architecture says how it is scaled, where it is to have muP.

    Raises:
        ConfigError: it does not.
    """
    part = ARCHITECTURES.get(model.name)
    if training.parametrization == "mup" and not hasattr(part.target, "mup"):
        raise ConfigError(not_scaled(part))


def chosen(settings: SweepSettings, choice: Choice) -> list[Part[Any]]:
    """The parts that a block names, on grid axes, too."""
    return [choice.registry.get(name) for name in choice.names(settings).values()]


def keys(settings: SweepSettings, top: str) -> list[str]:
    """The keys that parts add below a block of the sweep file."""
    found = [
        choice.prefix + key
        for choice in CHOICES
        if choice.top == top
        for part in chosen(settings, choice)
        for key in choice.keys(part)
    ]
    return list(dict.fromkeys(found))


def value_problems(settings: SweepSettings, top: str, dotted: str, value: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with a value of a part's key: message and fix."""
    found: dict[str, str] = {}
    for choice in CHOICES:
        key = dotted.removeprefix(choice.prefix)
        if choice.block == f"{top}.{dotted}" and not isinstance(value, str):
            fix = f"give names here, or vary {choice.axis} and {choice.block}.KEY"
            found.setdefault(f"not the name of a {choice.registry.kind} (got {value!r})", fix)
        if choice.top != top or choice.prefix + key != dotted:
            continue
        for part in chosen(settings, choice):
            if key in choice.keys(part):
                for issue in _issues(choice, part, {**choice.given(settings).config, key: value}):
                    if issue["loc"] and issue["loc"][0] == key:
                        found.setdefault(_message(issue), fix_of(issue, part.config_type, issue["loc"]))
    yield from found.items()


def check(model: ModelSpec, task: TaskSpec, training: TrainingSpec) -> None:
    """Return if a combination of a grid can be meant, as far as that is known without data.

    Raises:
        ConfigError: a part's config is wrong, or does not suit the window or the task.
    """
    asked = task_registry.resolved(task)
    Architecture.of(model, DataShape(n_features=1, context=task.context, n_outputs=asked.n_outputs))
    loss_registry.check(training, asked.outcome)
    if training.early_stopping is not None:
        METRICS.get(training.early_stopping.metric.removeprefix("val_"), "training.early_stopping.metric")
    if task.calibrate != "none" and asked.outcome != "binary":
        message = f"calibrate: {task.calibrate} is for labels 0 and 1, and the task {task.kind!r} has others"
        raise ConfigError(Problem(place="task.calibrate", message=message, fix="calibrate: none"))


def _issues(choice: Choice, part: Part[Any], values: dict[str, Any]) -> list[ErrorDetails]:
    own = {key: value for key, value in values.items() if key in choice.keys(part)}
    try:
        part.config_type.model_validate(own)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _message(issue: ErrorDetails) -> str:
    if issue["type"] == "missing":
        return f"the key {str(issue['loc'][-1])!r} is missing"
    return with_value(issue)
