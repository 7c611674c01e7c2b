"""Baselines by name. Looking one up needs neither pandas nor scikit-learn.

A baseline is a class; one object of it is made for each data set and task, fitted on the training windows and asked for
every split:

- ``fit(windows, config)``: the training windows, a `trainables.baselines.SplitWindows`.
- ``predict(windows)``: one output for each window of a split: a logit, or where ``windows.classes`` is false a
  predicted mean in label units. All settings are fixed: what is chosen on validation would flatter it.
- ``Config``: its own keys in a sweep file's list ``baselines``; optional.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from trainables.parts import Registry
from trainables.schema import BaselineSpec

Class = TypeVar("Class", bound=type)


def _wrong(target: type[Any]) -> str:
    if not isinstance(target, type):
        return "not a class"
    missing = [name for name in ("fit", "predict") if not callable(getattr(target, name, None))]
    return f"it has no method {missing[0]}" if missing else ""


BASELINES: Registry[type[Any]] = Registry(
    "baseline",
    group="isotherm.baselines",
    shipped=("trainables.baselines",),
    reserved=tuple(BaselineSpec.model_fields),
    check=_wrong,
)


def baseline(name: str, *, version: int = 1) -> Callable[[Class], Class]:
    """Register a class as a baseline, to be chosen as ``baselines: [NAME]``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: part of the baseline's key; raise it when it computes something else.
    """
    return cast("Callable[[Class], Class]", BASELINES.register(name, version=version))
