"""Feeds MLflow."""

import logging

from runner.paths import RunPaths
from runner.settings import MlflowSpec, Secrets
from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.tracker import TrackerQueue
from runner.tracking.tracker_callback import TrackerCallback

log = logging.getLogger(__name__)


class MlflowCallback(TrackerCallback):
    """Passes records on to MLflow."""

    def __init__(self, spec: MlflowSpec, secrets: Secrets, paths: RunPaths) -> None:
        super().__init__(TrackerQueue(mlflow_target(spec, secrets), paths))


def mlflow_target(spec: MlflowSpec, secrets: Secrets) -> MlflowTarget:
    """Where MLflow is, from the settings. Credentials go to the address that they were set for, and to no database."""
    if spec.uri is None or not secrets.are_for(spec.uri):
        if spec.uri is not None and (secrets.mlflow_tracking_token or secrets.mlflow_tracking_password):
            log.warning("MLflow's credentials are for MLFLOW_TRACKING_URI: they are not sent to %s", spec.uri)
        return MlflowTarget(uri=spec.uri, experiment=spec.experiment)
    return MlflowTarget(
        uri=spec.uri,
        experiment=spec.experiment,
        username=secrets.mlflow_tracking_username,
        password=secrets.mlflow_tracking_password,
        token=secrets.mlflow_tracking_token,
    )
