"""The trackers of a run: made from its settings, closed in time, and said where they are."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from runner.config.settings import MlflowSpec, Secrets, TrackingSpec, WandbEnvironment
from runner.config.trackers import TRACKERS
from runner.rundir import ledger, lock
from runner.rundir.paths import RunPaths
from runner.tracking import addresses
from runner.tracking.callbacks import MlflowCallback, OwnCallback, TrackerCallback, WandbCallback
from runner.tracking.tracker import TrackerReport, close_all
from trainables.errors import ConfigError, LedgerError, Problem
from trainables.files import read_json

END_TIMEOUT_S = 10.0  # what a sweep that ended in good order waits for its trackers
MODELS_TIMEOUT_S = 20.0  # more, where models are logged: their files are larger than anything else
STOPPED_TIMEOUT_S = 2.0  # after a signal every second counts; the ledger has everything
SYNC_TIMEOUT_S = 300.0  # what has not arrived by then is said, and the command can be run again


def make(spec: TrackingSpec, paths: RunPaths) -> list[TrackerCallback]:
    """A callback for each tracker that is not turned off. It delivers once it is started, or Tune runs a trial.

    Raises:
        ConfigError: MLflow's default store is reached through a link, or a tracker is not registered here.
    """
    for other in spec.others:
        TRACKERS.get(other.name, "tracking.others")
    secrets = Secrets()
    if spec.mlflow is not None and spec.mlflow.uri is None:
        paths.refuse_linked_store()
    callbacks: list[TrackerCallback] = []
    if spec.mlflow is not None:
        callbacks.append(MlflowCallback.of(spec.mlflow).of_sweep(secrets, paths))
    wandb = WandbEnvironment().limit(spec.wandb)
    if wandb is not None:
        callbacks.append(WandbCallback(wandb.project, wandb.entity, wandb.mode).of_sweep(secrets, paths))
    callbacks += [OwnCallback(other.name, other.config).of_sweep(secrets, paths) for other in spec.others]
    return callbacks


def end_timeout_s(spec: TrackingSpec) -> float:
    """What a sweep that ended in good order waits for its trackers."""
    models = spec.mlflow is not None and spec.mlflow.log_model != "none"
    return END_TIMEOUT_S + (MODELS_TIMEOUT_S if models else 0.0)


def start(callbacks: Sequence[TrackerCallback]) -> None:
    """Begin to deliver."""
    for callback in callbacks:
        if callback.queue is not None:
            callback.queue.start()


def order_close(callbacks: Sequence[TrackerCallback], timeout_s: float) -> None:
    """Tell all trackers to finish, without waiting."""
    for callback in callbacks:
        if callback.queue is not None:
            callback.queue.order_close(timeout_s)


def close(callbacks: Sequence[TrackerCallback], timeout_s: float) -> tuple[TrackerReport, ...]:
    """Close all trackers within one time limit, counted from the order to close."""
    return close_all((callback.queue for callback in callbacks if callback.queue is not None), timeout_s)


def sync(paths: RunPaths, mlflow_uri: str | None = None) -> tuple[TrackerReport, ...]:
    """Bring the trackers that a run was started with level with its ledger. Doing it twice changes nothing.

    Args:
        paths: of the run, which may be somebody else's.
        mlflow_uri: where MLflow is, as the user says; None: where the run says, if this user has named that before.

    Raises:
        ConfigError: a sweep is writing to this run, or its address of MLflow is none that this user has named.
        LedgerError: the run's settings cannot be read.
    """
    spec = _recorded(paths)
    if mlflow_uri is not None:
        spec = spec.model_copy(update={"mlflow": _given(mlflow_uri, spec.mlflow)})
        addresses.note(mlflow_uri)
    elif spec.mlflow is not None:
        addresses.refuse_foreign(
            spec.mlflow.uri,
            place=str(paths.resolved),
            option="isotherm sync RUN --mlflow-uri ",
        )
    ledger.read(paths.ledger)  # a damaged one is refused here, in plain words, and not in the trackers' processes
    with lock.held(paths):  # a live driver delivers by itself, and two would deliver twice
        callbacks = make(spec, paths)
        start(callbacks)
        return close(callbacks, SYNC_TIMEOUT_S)


def _recorded(paths: RunPaths) -> TrackingSpec:
    try:
        return TrackingSpec.model_validate(read_json(paths.resolved)["tracking"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = ", ".join(str(error).splitlines()[:3])
        raise LedgerError(
            f"{paths.resolved}: cannot be read ({reason})\n    fix: run the sweep again, which writes it anew"
        ) from error


def _given(uri: str, recorded: MlflowSpec | None) -> MlflowSpec:
    try:
        return MlflowSpec.model_validate({**(recorded.model_dump() if recorded else {}), "uri": uri})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(Problem(place="--mlflow-uri", message=message)) from error


def as_dict(reports: Sequence[TrackerReport]) -> dict[str, Any]:
    """Plain values, for ``--json``."""
    return {
        report.name: {"delivered": report.delivered, "pending": report.pending, "errors": list(report.errors)}
        for report in reports
    }
