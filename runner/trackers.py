"""The trackers of a run: made from its settings, closed in time, and said where they are."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from runner import lock
from runner.console import Console
from runner.paths import RunPaths
from runner.settings import Secrets, TrackingSpec, WandbEnvironment
from runner.tracking.tracker import TrackerReport, close_all
from runner.tracking.tracker_callback import TrackerCallback
from trainables.errors import LedgerError

END_TIMEOUT_S = 10.0  # what a sweep that ended in good order waits for its trackers
STOPPED_TIMEOUT_S = 2.0  # after a signal every second counts; the ledger has everything
SYNC_TIMEOUT_S = 300.0  # what has not arrived by then is said, and the command can be run again


def make(spec: TrackingSpec, paths: RunPaths) -> list[TrackerCallback]:
    """A callback for each tracker that is not turned off."""
    secrets = Secrets()
    callbacks: list[TrackerCallback] = []
    # Each loads its tracker's library, about half a second.
    if spec.mlflow is not None:
        from runner.tracking.mlflow_callback import MlflowCallback

        callbacks.append(MlflowCallback(spec.mlflow, secrets, paths))
    wandb = WandbEnvironment().limit(spec.wandb)
    if wandb is not None:
        from runner.tracking.wandb_callback import WandbCallback

        callbacks.append(WandbCallback(wandb, secrets, paths))
    return callbacks


def order_close(callbacks: Sequence[TrackerCallback], timeout_s: float) -> None:
    """Tell all trackers to finish, without waiting."""
    for callback in callbacks:
        if callback.queue is not None:
            callback.queue.order_close(timeout_s)


def close(callbacks: Sequence[TrackerCallback], timeout_s: float) -> tuple[TrackerReport, ...]:
    """Close all trackers within one time limit, counted from the order to close."""
    return close_all((callback.queue for callback in callbacks if callback.queue is not None), timeout_s)


def sync(paths: RunPaths) -> tuple[TrackerReport, ...]:
    """Bring the trackers that a run was started with level with its ledger. Doing it twice changes nothing.

    Raises:
        ConfigError: a sweep is writing to this run.
        LedgerError: the run's settings cannot be read.
    """
    try:
        spec = TrackingSpec.model_validate(json.loads(paths.resolved.read_text())["tracking"])
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise LedgerError(f"{paths.resolved}: cannot be read ({error})\n    mend: run the sweep again") from error
    with lock.held(paths):  # a live driver delivers by itself, and two would deliver twice
        callbacks = make(spec, paths)
        for callback in callbacks:
            if callback.queue is not None:
                callback.queue.start()
        return close(callbacks, SYNC_TIMEOUT_S)


def as_dict(reports: Sequence[TrackerReport]) -> dict[str, Any]:
    """Plain values, for ``--json``."""
    return {
        report.name: {"delivered": report.delivered, "pending": report.pending, "errors": list(report.errors)}
        for report in reports
    }


def show(reports: Sequence[TrackerReport], spec: TrackingSpec, paths: RunPaths, console: Console) -> None:
    """Say where each tracker is and what it has not got."""
    places = {"wandb": str(paths.wandb), "mlflow": f"sqlite:///{paths.mlflow_db}"}
    if spec.mlflow is not None and spec.mlflow.uri is not None:
        places["mlflow"] = spec.mlflow.uri
    for report in reports:
        missing = f"; {report.pending} records have not arrived: isotherm sync {paths.root}" if report.pending else ""
        console.print(f"{report.name:<8} {places[report.name]}{missing}", highlight=False, markup=False)
