"""Checkpoints of one trial in a folder and, behind them, in a storage, so that another node can go on from there.

Training waits for the folder only. A thread of its own brings the newest checkpoint to the storage, reads it back,
and only then removes older ones there; where the storage cannot be reached it tries again, and says so once.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainables.checkpoints.file_store import KEEP, DamagedCheckpointError, FileCheckpointStore, State, prove
from trainables.checkpoints.object_store import Backoff, DamagedObjectError, Storage, first_line
from trainables.errors import CheckpointError, FencedError
from trainables.files import remove_tree, replace_bytes
from trainables.schema import TrialSpec

PATIENCE_S = 10.0  # how long a trial that has a checkpoint here waits for a newer one from the storage
LAST_TRIES_S = 60.0  # how long an abandoned thread tries to deliver
MANIFEST, STATE = "manifest.json", "state.pt"
_REMOTE = re.compile(r"checkpoint-(\d+)-(\d+)/(manifest\.json|state\.pt)")
_MARK = re.compile(r"attempt-(\d+)\.json")

log = logging.getLogger(__name__)
Order = tuple[int, int]  # attempt and number of a save: the highest is the newest


class MirroredCheckpointStore(FileCheckpointStore):
    """A `FileCheckpointStore` with a storage behind it. Close it when the trial leaves the process."""

    def __init__(
        self,
        folder: Path,
        attempt: int,
        key: str,
        storage: Storage,
        *,
        on_drivers_disk: bool = True,
        bring: Callable[[], None] = lambda: None,
    ) -> None:
        """Claim the trial for an attempt and begin to look into the storage.

        Args:
            folder: the trial's, on this host.
            attempt: this one; the first has nothing to look for.
            key: of the trial.
            storage: of the run.
            on_drivers_disk: whether the driver sees `folder`.
            bring: brings what else the trial needs here; called in the thread, again after an OSError.
        """
        super().__init__(folder, attempt, key)
        self._storage, self._prefix = storage, f"checkpoints/{key}"
        self._bring_more = bring
        self._may_go_on_without = on_drivers_disk and (
            attempt == 1 or any(path.is_dir() for _, _, path in self._checkpoints())
        )
        self._patient_until = time.monotonic() + (0.0 if attempt == 1 else PATIENCE_S)
        self._condition = threading.Condition()
        self._waiting: Path | None = None  # the newest checkpoint that is not in the storage
        self._sending: Path | None = None
        self._deliveries: list[tuple[Path, str]] = []
        self._brought = self._began_without = self._fetching = False
        self._newer_attempt = 0
        self._marks: set[str] = set()  # of attempts, in the storage
        self._give_up_at: float | None = None
        threading.Thread(target=self._run, name=f"storage-{key}", daemon=True).start()

    # ---- called by the trial ------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the trial may begin: the newest checkpoint is here, or the one that is here will do.

        Raises:
            FencedError: a newer attempt owns the trial.
        """
        self._check_newer()
        if self._fetching:
            return False
        if not self._brought and self._may_go_on_without and time.monotonic() >= self._patient_until:
            self._began_without = True
        return self._brought or self._began_without

    @property
    def level(self) -> bool:
        """Whether everything has arrived in the storage.

        Raises:
            FencedError: a newer attempt owns the trial.
        """
        self._check_newer()
        with self._condition:
            return self._brought and not (self._waiting or self._sending or self._deliveries)

    def words(self) -> list[str]:
        """Messages about the storage since the last call."""
        with self._condition:
            return super().words()

    def save(self, state: State, *, step: int, spec: TrialSpec) -> None:
        """See `CheckpointStore.save`; the storage gets it later."""
        super().save(state, step=step, spec=spec)
        with self._condition:
            self._waiting = [path for attempt, _, path in self._checkpoints() if attempt == self.attempt][-1]
            self._condition.notify()

    def deliver(self, files: list[tuple[Path, str]]) -> None:
        """Bring the trial's last files to the storage, under these names; checkpoints are no longer wanted there."""
        with self._condition:
            self._waiting = None
            self._deliveries += files
            self._condition.notify()

    def close(self) -> None:
        """The trial has left: what is on its way is still delivered, if that works within a minute."""
        with self._condition:
            self._give_up_at = time.monotonic() + LAST_TRIES_S
            self._condition.notify()

    def drop(self) -> None:
        """The trial is over: its checkpoints are no longer wanted in the storage."""
        with self._condition:
            self._waiting = None
        self.close()

    def _check_fence(self) -> None:
        super()._check_fence()
        self._check_newer()

    def _check_newer(self) -> None:
        if self._newer_attempt > self.attempt:
            raise FencedError(
                f"{self._storage}: attempt {self._newer_attempt} owns {self.key}, attempt {self.attempt} must end"
            )

    def _prune(self) -> None:
        """As ever, but not what is being read just now."""
        for path in self._old():
            with self._condition:
                if path in (self._sending, self._waiting):
                    continue
            remove_tree(path)

    # ---- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff()
        while not self._over():
            try:
                worked = self._turn()
            except CheckpointError as error:
                log.error("%s", error)
                return
            except Exception as error:  # OSError, and whatever else a filesystem's library throws
                pause_s = backoff.failed()
                if backoff.failures == 1:
                    self._say(
                        f"{self._storage}: cannot be reached ({first_line(error)}); "
                        "what is here stays whole, and it is tried again"
                    )
                log.warning("%s: %s; tried again in %.0f s", self._storage, first_line(error), pause_s)
                with self._condition:
                    self._condition.wait_for(lambda: self._give_up_at is not None, timeout=pause_s)
                if self._give_up_at is not None:
                    time.sleep(min(pause_s, 1.0))
                continue
            if worked and (outage_s := backoff.worked()) is not None:
                self._say(f"{self._storage}: is reachable again after {outage_s:.0f} s; the checkpoints have arrived")

    def _over(self) -> bool:
        """Wait for something to do; whether there is nothing and will be nothing."""
        with self._condition:
            while not (self._waiting or self._deliveries):
                if self._give_up_at is not None:
                    return True
                if not self._brought:
                    return False
                self._condition.wait()
            return self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _turn(self) -> bool:
        """Do one thing; whether the storage was needed for it."""
        if not self._brought:
            self._bring()
            self._bring_more()
            self._brought = True
            return True
        with self._condition:
            self._sending, self._waiting = self._waiting, None
            deliveries = list(self._deliveries)
        try:
            if self._sending is not None:
                self._send(self._sending)
        except Exception:
            with self._condition:
                if self._sending is not None and self._sending.exists():  # else the trial is over, and it was removed
                    self._waiting = self._waiting or self._sending
                    raise
        finally:
            with self._condition:
                self._sending = None
        for path, name in deliveries:
            self._storage.put(path, name)
            with self._condition:
                self._deliveries.remove((path, name))
        return True

    def _bring(self) -> None:
        """Claim the trial in the storage; bring earlier attempts' notes, and a checkpoint newer than those here."""
        found = self._look()
        for name in self._marks - {path.name for path in self._attempts().values()}:
            remove_tree(self.folder / name)  # a folder of that name
            replace_bytes(self.folder / name, self._storage.read(f"{self._prefix}/{name}"))
        self._storage.put(self._mark, f"{self._prefix}/{self._mark.name}")
        here = self._newest_sound()
        for order in sorted((order for order in found if MANIFEST in found[order]), reverse=True):
            if order <= here or self._began_without:
                return
            self._fetching = True
            try:
                self._fetch(order)
                return
            except (FileNotFoundError, DamagedObjectError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: %s is damaged (%s); an older one is tried", self._storage, _name(order), error)
            finally:
                self._fetching = False

    def _newest_sound(self) -> Order:
        """The newest checkpoint here that can be read; (0, 0) where there is none."""
        for attempt, number, path in reversed(self._checkpoints()):
            with suppress(DamagedCheckpointError):
                prove(path, self.key)
                return attempt, number
        return 0, 0

    def _look(self) -> dict[Order, set[str]]:
        """Which files of which checkpoints are in the storage; takes note of attempts."""
        found: dict[Order, set[str]] = {}
        for name in self._storage.sizes(self._prefix):
            inside = name.removeprefix(f"{self._prefix}/")
            if match := _REMOTE.fullmatch(inside):
                found.setdefault((int(match[1]), int(match[2])), set()).add(match[3])
            elif match := _MARK.fullmatch(inside):
                self._newer_attempt = max(self._newer_attempt, int(match[1]))
                self._marks.add(inside)
        self._check_fence()
        return found

    def _fetch(self, order: Order) -> None:
        name = _name(order)
        manifest = self._storage.read(f"{self._prefix}/{name}/{MANIFEST}")
        body: dict[str, Any] = json.loads(manifest)["manifest"]
        aside = self.folder / f".{name}"
        remove_tree(aside)
        aside.mkdir()
        self._storage.fetch(f"{self._prefix}/{name}/{STATE}", aside / STATE, body["sha256"])
        (aside / MANIFEST).write_bytes(manifest)
        remove_tree(self.folder / name)  # a damaged one
        aside.rename(self.folder / name)
        log.info("%s: brought %s here", self._storage, name)

    def _send(self, path: Path) -> None:
        """Store a checkpoint, its manifest last; then remove older ones there."""
        found = self._look()
        for file in (STATE, MANIFEST):
            self._storage.put(path / file, f"{self._prefix}/{path.name}/{file}")
        self._storage.put(self._mark, f"{self._prefix}/{self._mark.name}")
        whole = sorted(order for order in found if MANIFEST in found[order])
        old = whole[: 1 - KEEP]  # in addition to the one that was stored just now
        torn = [order for order in found if MANIFEST not in found[order] and _name(order) != path.name]
        for order in [*old, *torn]:
            self._storage.remove_folder(f"{self._prefix}/{_name(order)}")

    def _say(self, words: str) -> None:
        with self._condition:
            super()._say(words)


def _name(order: Order) -> str:
    return f"checkpoint-{order[0]:04d}-{order[1]:06d}"
