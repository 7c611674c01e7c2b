"""Feeds MLflow."""

from runner.paths import RunPaths
from runner.settings import MlflowSpec, Secrets
from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.tracker import TrackerQueue
from runner.tracking.tracker_callback import TrackerCallback


class MlflowCallback(TrackerCallback):
    """Passes records on to MLflow."""

    def __init__(self, spec: MlflowSpec, secrets: Secrets, paths: RunPaths) -> None:
        super().__init__(TrackerQueue(mlflow_target(spec, secrets), paths))


def mlflow_target(spec: MlflowSpec, secrets: Secrets) -> MlflowTarget:
    """Where MLflow is, from the settings."""
    return MlflowTarget(
        uri=spec.uri,
        experiment=spec.experiment,
        username=secrets.mlflow_tracking_username,
        password=secrets.mlflow_tracking_password,
        token=secrets.mlflow_tracking_token,
    )
