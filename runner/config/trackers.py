"""Trackers by name. Looking one up imports no tracking library.

A tracker is a class that is made of its config and a run's paths (`runner.tracking.tracker.Tracker` has its methods).
It lives in a process of its own, which follows the run's ledger.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from runner.rundir.paths import RunPaths
from trainables.parts import PartConfig, Registry

Target = TypeVar("Target", bound=Callable[..., Any])


class TrackerMaker(Protocol):
    """Makes the tracker of a run: its class, or a function."""

    def __call__(self, config: Any, paths: RunPaths) -> Any:
        """The tracker (`runner.tracking.tracker.Tracker`)."""


TRACKERS: Registry[TrackerMaker] = Registry(
    "tracker",
    group="isotherm.trackers",
    shipped=("runner.tracking.mlflow_tracker", "runner.tracking.wandb_tracker"),
    reserved=("name",),
    check=lambda target: "" if callable(target) else "not a class or function of config and paths",
)


def tracker(name: str, *, version: int = 1, config: type[PartConfig] | None = None) -> Callable[[Target], Target]:
    """Register a tracker, to be chosen as ``tracking: {others: [NAME]}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: raise it when it shows something else.
        config: its own keys; default: a class's own ``Config``, else none. They are written into the run directory:
            secrets belong in the environment.
    """
    return cast("Callable[[Target], Target]", TRACKERS.register(name, version=version, config=config))
