"""A run's storage, as its driver uses it: what another machine needs to go on is brought there, and back from there."""

from runner.config.settings import SweepSettings
from runner.rundir.paths import RunPaths
from trainables.checkpoints.object_store import StoragePlace


def place_of(settings: SweepSettings, paths: RunPaths) -> StoragePlace | None:
    """Where a sweep's storage is, and who its driver is; None where it has none."""
    if settings.storage_path is None:
        return None
    text = paths.owner.read_text() if paths.owner.exists() else ""
    return StoragePlace(
        uri=settings.storage_path, run=paths.name, owner=paths.owner.resolve() if text else None, owner_text=text
    )
