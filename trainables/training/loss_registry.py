"""Losses by name. Looking one up needs no torch here; the shipped ones are in `losses`.

A loss is a class with a method ``of_windows``; all else is optional:

- ``Config``, a `PartConfig`: its own keys in a sweep file's block ``training.loss``. A key that ``training`` has, too
  (``focal_gamma``), gets its value from there.
- ``outcome``: of the tasks that it is for, or a tuple of outcomes: ``binary`` (default; labels 0 and 1, outputs are
  logits), ``classes`` (labels are class numbers, int64, outputs_BK are logits) or ``value`` (labels are standardised).
- ``of_windows(outputs_B, y_B, config)``: the loss of each window. It must not compare windows with each other: a global
  batch is taken in pieces.
- ``whole_batch = True``: it does compare them, and a global batch is always taken as one piece.
- ``weights(y_B, config)``: of each window, in the mean over the batch; of the labels alone. Default: 1.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

from trainables.errors import ConfigError, Problem
from trainables.parts import Part, PartConfig, Registry
from trainables.schema import LossSpec, Outcome, ResolvedLoss, ResolvedTraining, TrainingSpec

Class = TypeVar("Class", bound=type)

DEFAULT = LossSpec().name
DEFAULT_OF: dict[Outcome, str] = {"binary": DEFAULT, "classes": "cross_entropy", "value": "squared_error"}
SHARED = frozenset(TrainingSpec.model_fields)


def _wrong(target: type[Any]) -> str:
    if not (isinstance(target, type) and callable(getattr(target, "of_windows", None))):
        return "not a class with a method of_windows(outputs_B, y_B, config)"
    if not (outcomes := outcomes_of(target)) or not set(outcomes) <= set(get_args(Outcome)):
        shown = " and ".join(map(repr, outcomes)) or "empty"
        return f"its outcome is {shown}, not 'binary', 'classes' or 'value', or a tuple of these"
    return ""


def outcomes_of(target: type[Any]) -> tuple[Outcome, ...]:
    """The outcomes of tasks that a loss is for."""
    found: Outcome | tuple[Outcome, ...] = getattr(target, "outcome", "binary")
    return found if isinstance(found, tuple) else (found,)


def needs_whole_batch(training: TrainingSpec | ResolvedTraining) -> bool:
    """Whether the loss compares windows with each other, so that a global batch cannot be taken in pieces."""
    name = training.loss if isinstance(training.loss, str) else training.loss.name
    return bool(getattr(LOSSES.get(name, "training.loss").target, "whole_batch", False))


LOSSES: Registry[type[Any]] = Registry(
    "loss",
    group="isotherm.losses",
    shipped=("trainables.training.losses",),
    reserved=tuple(LossSpec.model_fields),
    check=_wrong,
)


def loss(name: str, *, version: int = 1) -> Callable[[Class], Class]:
    """Register a class as a loss, to be chosen as ``training: {loss: NAME}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: part of every trial's key; raise it when the same config gives another loss.
    """
    return cast("Callable[[Class], Class]", LOSSES.register(name, version=version))


def own_keys(part: Part[type[Any]]) -> list[str]:
    """A loss's keys, those of ``training`` left out."""
    return [key for key in part.config_type.model_fields if key not in SHARED]


def resolved(training: TrainingSpec) -> str | ResolvedLoss:
    """What a trial's specification says of the loss; keys that are another loss's are left out.

    Raises:
        ConfigError: no such loss, or a wrong key.
    """
    part = LOSSES.get(training.loss.name, "training.loss")
    keys = own_keys(part)
    given = {key: value for key, value in training.loss.config.items() if key in keys}
    config = part.configure(given, "training.loss").model_dump(mode="json", include=set(keys))
    if not config and part.version == 1:
        return part.name
    return ResolvedLoss(name=part.name, version=part.version, config=config)


def of_trial(training: ResolvedTraining, outcome: Outcome) -> tuple[Part[type[Any]], PartConfig]:
    """The loss that a trial is trained with, and its config. The default is that of the outcome.

    Raises:
        ConfigError: it is not registered here in this version, or not for such labels.
    """
    asked = training.loss
    asked = ResolvedLoss(name=asked, version=1, config={}) if isinstance(asked, str) else asked
    name = DEFAULT_OF[outcome] if asked.name == DEFAULT else asked.name
    part = LOSSES.get(name, "training.loss")
    if part.version != asked.version:
        message = f"the trial's loss is {name!r} version {asked.version}; registered is version {part.version}"
        fix = "register the version that the trial was made with"
        raise ConfigError(Problem(place="training.loss", message=message, fix=fix))
    _check(part, training, outcome)
    shared = {key: getattr(training, key) for key in part.config_type.model_fields if key in SHARED}
    return part, part.configure({**shared, **asked.config}, "training.loss")


def check(training: TrainingSpec, outcome: Outcome) -> None:
    """Return if the loss can be meant.

    Raises:
        ConfigError: no such loss, a wrong key, or not for the task's labels.
    """
    resolved(training)
    name = training.loss.name
    _check(LOSSES.get(DEFAULT_OF[outcome] if name == DEFAULT else name), training, outcome)


def _check(part: Part[type[Any]], training: TrainingSpec | ResolvedTraining, outcome: Outcome) -> None:
    if outcome not in outcomes_of(part.target):
        fitting = ", ".join(one.name for one in LOSSES if outcome in outcomes_of(one.target))
        meant = " and ".join(outcomes_of(part.target))
        message = f"the loss {part.name!r} is for {meant} outcomes, the task's is {outcome}"
        fix = f"choose one of {fitting}, leave training.loss at its default, or choose another task.kind"
        raise ConfigError(Problem(place="training.loss", message=message, fix=fix))
    if outcome == "value" and training.class_weight != "none":
        message = "a task of values has no classes that could be weighted"
        fix = "leave training.class_weight at its default, or choose another task.kind"
        raise ConfigError(Problem(place="training.class_weight", message=message, fix=fix))
