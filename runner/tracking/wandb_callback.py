"""Feeds W&B."""

from runner.paths import RunPaths
from runner.settings import Secrets, WandbSpec
from runner.tracking.tracker import TrackerQueue
from runner.tracking.tracker_callback import TrackerCallback
from runner.tracking.wandb_tracker import WandbTarget


class WandbCallback(TrackerCallback):
    """Passes records on to W&B."""

    def __init__(self, spec: WandbSpec, secrets: Secrets, paths: RunPaths) -> None:
        super().__init__(TrackerQueue(wandb_target(spec, secrets), paths))


def wandb_target(spec: WandbSpec, secrets: Secrets) -> WandbTarget:
    """Where W&B is, from the settings."""
    return WandbTarget(mode=spec.mode, project=spec.project, entity=spec.entity, api_key=secrets.wandb_api_key)
