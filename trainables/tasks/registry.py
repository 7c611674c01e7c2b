"""Tasks by name. Looking one up needs neither numpy nor pandas here; the shipped ones are in `prices`.

A task is a class with two methods and an attribute; all else is optional:

- ``outcome``: ``binary`` (labels 0 and 1; the default), ``classes`` (labels 0, 1, ... of the tuple ``classes``, which
  names three or more) or ``value``. It decides losses, metrics, the prior, baselines and the number of outputs.
- ``Config``, a `PartConfig`: its own keys in a sweep file's block ``task``; ``horizon`` has its value from there.
- ``lookahead(config)``: bars after a window's end that its label uses. Purge and effective samples follow from it.
- ``labels(bars, config)``: [T] labels of one asset's bars, a table by ascending date with date, open, high, low, close
  and volume. NaN where a label is not known: at least in the last ``lookahead`` rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from trainables.errors import ConfigError, Problem
from trainables.parts import Part, PartConfig, Registry
from trainables.schema import MAX_LOOKAHEAD, Outcome, ResolvedTask, TaskSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array = npt.NDArray[np.float64]

Class = TypeVar("Class", bound=type)

SHARED = frozenset({"horizon"})
BARS = ("date", "open", "high", "low", "close", "volume")  # what a task is given, as far as there is such a column


def outcome_of(target: type[Any]) -> Outcome:
    """What a task's labels are."""
    found: Outcome = getattr(target, "outcome", "binary")
    return found


def _wrong(target: type[Any]) -> str:
    for method, call in (("lookahead", "lookahead(config)"), ("labels", "labels(bars, config)")):
        if not (isinstance(target, type) and callable(getattr(target, method, None))):
            return f"not a class with a method {call}"
    outcome, classes = outcome_of(target), getattr(target, "classes", ())
    if outcome not in get_args(Outcome):
        return f"its outcome is {outcome!r}, not 'binary', 'classes' or 'value'"
    if not isinstance(classes, tuple) or not all(isinstance(name, str) and name for name in classes):
        return "its classes are not a tuple of names"
    if outcome == "classes" and (len(classes) < 3 or len(set(classes)) < len(classes)):
        return "the outcome 'classes' needs an attribute classes with three different names or more"
    if outcome != "classes" and classes:
        return f"classes are named by the outcome 'classes', not by {outcome!r}"
    return ""


TASKS: Registry[type[Any]] = Registry(
    "task",
    group="isotherm.tasks",
    shipped=("trainables.tasks.prices",),
    reserved=tuple(set(ResolvedTask.model_fields) - SHARED),
    check=_wrong,
)


def task(name: str, *, version: int = 1) -> Callable[[Class], Class]:
    """Register a class as a task, to be chosen as ``task: {kind: NAME}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: part of every trial's key; raise it when the same bars and config give other labels.
    """
    return cast("Callable[[Class], Class]", TASKS.register(name, version=version))


@dataclass(frozen=True)
class Task:
    """A registered task with its config."""

    part: Part[type[Any]]
    config: PartConfig

    @classmethod
    def of(cls, spec: TaskSpec) -> "Task":
        """As a sweep file asks for it; keys that are not the task's are left out, they are another's.

        Raises:
            ConfigError: no such task, or a wrong key.
        """
        part = TASKS.get(spec.kind, "task.kind")
        given = {**spec.config, "horizon": spec.horizon}
        own = {key: value for key, value in given.items() if key in part.config_type.model_fields}
        return cls(part, part.configure(own, "task"))

    @property
    def lookahead(self) -> int:
        """Bars after a window's end that its label uses.

        Raises:
            ConfigError: it is not a whole number of at least 1.
        """
        try:
            bars = self.part.target().lookahead(self.config)
        except ValueError as error:
            raise ConfigError(Problem(place="task", message=f"task {self.part.name!r}: {error}")) from error
        if not isinstance(bars, int) or isinstance(bars, bool) or not 1 <= bars <= MAX_LOOKAHEAD:
            message = f"the task {self.part.name!r} looks {bars!r} bars ahead"
            fix = f"its lookahead must be a whole number from 1 to {MAX_LOOKAHEAD:,}"
            raise ConfigError(Problem(place="task", message=message, fix=fix))
        return bars

    def labels(self, bars: "pd.DataFrame") -> "Array":
        """Labels [T] of one asset's bars."""
        found: Array = self.part.target().labels(bars, self.config)
        return found


def resolved(spec: TaskSpec) -> ResolvedTask:
    """What a trial's specification says of the task.

    Raises:
        ConfigError: no such task, or a wrong key.
    """
    chosen = Task.of(spec)
    target = chosen.part.target
    return ResolvedTask(
        kind=spec.kind,
        context=spec.context,
        horizon=spec.horizon,
        version=chosen.part.version,
        outcome=outcome_of(target),
        lookahead=chosen.lookahead,
        classes=getattr(target, "classes", ()),
        **chosen.config.model_dump(mode="json", exclude=set(SHARED)),
    )


def unread(kind: str) -> frozenset[str]:
    """Keys that a shipped task has and does not use; none where the task is not known here."""
    known = next((part for part in TASKS if part.name == kind), None)
    fields = known.config_type.model_fields if known else {}
    return frozenset(name for name, field in fields.items() if field.deprecated)


def of_trial(spec: ResolvedTask) -> Task:
    """The task of a trial.

    Raises:
        ConfigError: it is not registered here, in this version, or with these keys, or looks ahead by another number.
    """
    chosen = Task.of(spec)
    found = chosen.part.version, outcome_of(chosen.part.target), chosen.lookahead
    if found != (spec.version, spec.outcome, spec.lookahead):
        message = (
            f"the trial's task is {spec.kind!r} version {spec.version} ({spec.outcome}, {spec.lookahead} bars ahead); "
            f"registered is version {found[0]} ({found[1]}, {found[2]} bars ahead)"
        )
        fix = "register the version that the trial was made with"
        raise ConfigError(Problem(place="task", message=message, fix=fix))
    return chosen
