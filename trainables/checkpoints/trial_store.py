"""The store of a trial that runs in a sweep: a folder, with or without a storage behind it."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainables.checkpoints.file_store import BEST, FileCheckpointStore, State
from trainables.checkpoints.mirrored_store import MANIFEST, STATE, MirroredCheckpointStore
from trainables.checkpoints.object_store import Storage, StoragePlace, data_name, prediction_name
from trainables.data.dataset import CatalogEntry
from trainables.errors import FencedError
from trainables.schema import TrialSpec

POLL_S = 0.05


class TrialStore:
    """A trial's files: checkpoints while it runs, predictions and best weights when it is over."""

    def __init__(self, checkpoints: FileCheckpointStore, on_drivers_disk: bool) -> None:
        self.checkpoints = checkpoints
        self._remote = checkpoints if isinstance(checkpoints, MirroredCheckpointStore) else None
        self._on_drivers_disk = on_drivers_disk

    def wait_until_ready(self, max_seconds: float) -> bool:
        """Whether the trial may begin, waited for at most that long."""
        remote = self._remote
        return remote is None or _wait(lambda: remote.ready, max_seconds)

    def wait_until_level(self, max_seconds: float) -> bool:
        """Whether all that was delivered has arrived, waited for at most that long."""
        remote = self._remote
        return remote is None or _wait(lambda: remote.level, max_seconds)

    def wait_until_safe(self, max_seconds: float) -> bool:
        """Whether another start would find what was saved, wherever it runs, waited for at most that long."""
        return self._on_drivers_disk or self.wait_until_level(max_seconds)

    def keep_best(self, weights: State, *, step: int, spec: TrialSpec) -> None:
        """See `FileCheckpointStore.keep_best`."""
        self.checkpoints.keep_best(weights, step=step, spec=spec)

    def deliver(self, predictions: Path) -> bool:
        """The trial is over. Where the driver cannot see this disk, its files go to the storage: whether they do."""
        if self._remote is None:
            return False
        if self._on_drivers_disk:
            self._remote.drop()  # the driver stores what is to be kept
            return False
        key, best = self.checkpoints.key, self.checkpoints.folder / BEST
        files = [(best / name, f"checkpoints/{key}/{BEST}/{name}") for name in (STATE, MANIFEST) if best.exists()]
        self._remote.deliver([*files, (predictions, prediction_name(key, predictions))])
        return True

    def words(self) -> list[str]:
        """What was found in the checkpoints' folder or storage since the last call, for the ledger."""
        return self.checkpoints.words()

    def close(self) -> None:
        """The trial leaves this process."""
        if self._remote is not None:
            self._remote.close()


def open_store(
    folder: Path, attempt: int, key: str, place: StoragePlace | None, dataset: Path, entry: CatalogEntry
) -> TrialStore:
    """Claim a trial for an attempt.

    Args:
        folder: of its checkpoints.
        attempt: number of the attempt.
        key: of the trial.
        place: of the run's storage, if there is one.
        dataset: the file that the trial reads; brought here where it is missing.
        entry: its catalog entry.
    """
    if place is None:
        return TrialStore(FileCheckpointStore(folder, attempt, key), on_drivers_disk=True)
    storage = Storage(place)

    def bring() -> None:
        if not dataset.exists():
            storage.fetch(data_name(entry.path, entry.file_sha256), dataset, entry.file_sha256)

    shared = place.shares_disk
    store = MirroredCheckpointStore(folder, attempt, key, storage, on_drivers_disk=shared, bring=bring)
    return TrialStore(store, shared)


def seed(folder: Path, state: State, *, step: int, spec: TrialSpec, place: StoragePlace | None) -> None:
    """Write the first state of a trial that has not begun, as attempt 0; one that has begun stays as it is.

    Raises:
        OSError: it could not be written.
    """
    if place is None:
        store = FileCheckpointStore(folder, 0, spec.key)
    else:
        store = MirroredCheckpointStore(folder, 0, spec.key, Storage(place), on_drivers_disk=place.shares_disk)
    with suppress(FencedError):
        store.save(state, step=step, spec=spec)
    TrialStore(store, on_drivers_disk=True).close()


def _wait(condition: Callable[[], bool], max_seconds: float) -> bool:
    deadline = time.monotonic() + max_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
