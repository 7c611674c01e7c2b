"""Keeps a run's storage level with its run directory, in a thread of its own: the sweep never waits for it.

What is to be there follows from the ledger, so nothing can be forgotten: after every outage the storage is listed
anew, and whatever it lacks is brought there again.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runner.config.settings import SweepSettings
from runner.rundir.ledger import AnyRecord, AttemptStarted, CellEnded, EventRecorded, LedgerView, SweepStarted
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.storage import place_of, segments
from runner.storage.checkpoints import OVER
from runner.storage.segments import Segment
from trainables.checkpoints.file_store import BEST
from trainables.checkpoints.object_store import Backoff, Storage, data_name, first_line, plugin_name, prediction_name
from trainables.data.dataset import CatalogEntry

SEAL_S = 10.0  # how old a record may get that is only here
SEAL_SOON_S = 1.0  # the same of starts and ends: what another machine needs to know
MERGE_AT = 64  # segments in a row that are smaller than this become one: a sweep of days has hundreds, not 100,000
MERGED_BYTES = 2**20
HURRY_S = 2.0  # longest pause between tries while somebody waits for the end
OUTAGE_S = 60.0  # how long the end of a sweep waits for a storage that does not answer
POLL_S = 0.25

log = logging.getLogger(__name__)


class Mirror:
    """Brings ledger, predictions, best weights, data and plugins to the storage. A listener of the recorder."""

    def __init__(self, storage: Storage, paths: RunPaths, data_root: Path, recorder: Recorder) -> None:
        """Begin.

        Args:
            storage: of the run.
            paths: of the run.
            data_root: folder of the datasets.
            recorder: of the run; takes events.
        """
        self._storage, self._paths, self._data_root, self._recorder = storage, paths, data_root, recorder
        self.on_conflict: Callable[[str], None] = log.error  # called when another driver has written to the storage
        self._over = {key for key, state in recorder.view.cells.items() if state.status in OVER}
        self._datasets: dict[str, CatalogEntry] = {}
        self._stored: dict[str, int] | None = None  # what the storage holds; None: to be listed
        self._kept: set[str] = set()  # keys whose files are there since it was listed
        self._tidied: set[str] = set()  # keys whose checkpoints there are removed since it was listed
        self._proven: set[Segment] = set()
        self._due = time.monotonic()
        self._backoff = Backoff()
        self._ends = threading.Event()
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self.level = False
        recorder.listen(self.on_record)
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self._thread.start()

    def on_record(self, record: AnyRecord, view: LedgerView) -> None:
        """Take note of what is new."""
        with self._lock:
            self.level = False
            soon = SEAL_SOON_S if isinstance(record, AttemptStarted | CellEnded | SweepStarted) else SEAL_S
            self._due = min(self._due, time.monotonic() + soon)
            if isinstance(record, CellEnded) and record.status in OVER:
                self._over.add(record.key)
            if isinstance(record, SweepStarted):
                entries = [CatalogEntry.model_validate(one) for one in record.datasets]
                self._datasets = {data_name(one.path, one.file_sha256): one for one in entries}

    def settle(self, give_up: Callable[[], bool], outage_s: float = OUTAGE_S) -> bool:
        """Wait until the storage is level; whether it is.

        Args:
            give_up: asked now and then; True ends the wait.
            outage_s: the wait ends, too, when the storage has not answered for so long.
        """
        began = time.monotonic()
        with self._lock:  # look anew: a server may have lost objects, a worker stored some
            self._stored, self.level = None, False
        self._hurry.set()
        while not self.level and not give_up() and self._thread.is_alive():
            since = self._backoff.since
            if since is not None and time.monotonic() - max(since, began) > outage_s:
                break
            time.sleep(POLL_S)
        return self.level

    def close(self, timeout_s: float) -> bool:
        """End the thread; whether the storage is level."""
        deadline = time.monotonic() + timeout_s
        self._hurry.set()
        while not self.level and time.monotonic() < deadline and self._thread.is_alive():
            time.sleep(POLL_S)
        self._ends.set()
        self._thread.join(max(POLL_S, deadline - time.monotonic()))
        return self.level

    # ---- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ends.wait(POLL_S):
            try:
                self._turn()
            except _ConflictError as error:
                self._event(str(error))
                self.on_conflict(str(error))
                return
            except Exception as error:  # OSError, and whatever else a filesystem's library throws
                self._failed(error)

    def _turn(self) -> None:
        with self._lock:
            if time.monotonic() < self._due and not (self._hurry.is_set() and not self.level):
                return
            over, datasets, self._due = set(self._over), dict(self._datasets), math.inf
        stored = self._stored if self._stored is not None else self._list(over)
        for name, entry in datasets.items():
            self._keep(self._data_root / entry.path, name, stored)
        for plugin in sorted(self._paths.plugins.glob("*.py")):
            self._keep(plugin, plugin_name(plugin), stored)
        for key in sorted(over - self._kept):
            self._keep_cell(key, stored)
        data = self._recorder.content()  # not the file, which something else may have changed
        self._seal(data)
        for key in over - self._tidied:  # only now that another machine would know that they are over
            for folder in _checkpoints(self._storage.sizes(f"checkpoints/{key}"), {key}):
                self._storage.remove_folder(folder)
            self._tidied.add(key)
        if (outage_s := self._backoff.worked()) is not None:
            self._event(f"{self._storage}: is reachable again after {outage_s:.0f} s; nothing is missing there")
        with self._lock:
            self.level = self._over == over and self._recorder.size_bytes == len(data)

    def _list(self, over: set[str]) -> dict[str, int]:
        self._stored = self._storage.sizes()
        self._kept.clear()
        self._tidied = over - {name.split("/")[1] for name in _checkpoints(self._stored, over)}
        return self._stored

    def _keep(self, path: Path, name: str, stored: dict[str, int]) -> None:
        """Store a file, unless the storage has it."""
        size = path.stat().st_size
        if stored.get(name) != size:
            self._storage.put(path, name)
            stored[name] = size

    def _keep_cell(self, key: str, stored: dict[str, int]) -> None:
        """Store what remains of a cell that is over. A file that only its worker's node has comes here instead."""
        path = self._paths.prediction(key)
        if not path.exists():
            there = [name for name in self._storage.sizes("predictions") if name.startswith(f"predictions/{key}.")]
            if not there:
                return
            self._storage.fetch(there[0], path, there[0].split(".")[1])
        self._keep(path, prediction_name(key, path), stored)
        for best in sorted((self._paths.checkpoint(key) / BEST).glob("*"), reverse=True):  # the manifest last
            self._keep(best, f"checkpoints/{key}/{BEST}/{best.name}", stored)
        self._kept.add(key)

    def _seal(self, data: bytes) -> None:
        """Store what the ledger has gained, after a look whether somebody else has done so."""
        there = segments.found(self._storage.sizes(segments.FOLDER))
        for one in there:
            if one not in self._proven and not (one.end <= len(data) and one.holds(data[one.start : one.end])):
                raise _ConflictError(
                    f"{self._storage}: another driver writes there: its ledger is not the one of {self._paths.root}"
                )
            self._proven.add(one)
        links = segments.chain(there)
        sealed = links[-1].end if links else 0
        if sealed < len(data):
            links.append(self._put(data, sealed, len(data)))
        small = list(itertools.takewhile(lambda one: one.end - one.start < MERGED_BYTES, reversed(links)))
        if len(small) >= MERGE_AT:
            self._put(data, small[-1].start, small[0].end)
            self._storage.remove(one.name for one in small)

    def _put(self, data: bytes, start: int, end: int) -> Segment:
        one = Segment.of(data[start:end], start)
        self._storage.put(data[start:end], one.name)
        self._proven.add(one)
        return one

    # ---- what is said -------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        pause_s = self._backoff.failed()
        self._stored = None
        with self._lock:
            self._due = time.monotonic()
        log.warning("%s: %s; tried again in %.0f s", self._storage, first_line(error), pause_s)
        if self._backoff.failures == 1:
            self._event(
                f"{self._storage}: cannot be reached ({first_line(error)}); "
                "the run directory stays whole, and it is tried again"
            )
        began = time.monotonic()
        while (waited_s := time.monotonic() - began) < pause_s and not (self._hurry.is_set() and waited_s > HURRY_S):
            if self._ends.wait(POLL_S):
                break

    def _event(self, words: str) -> None:
        log.warning("%s", words)
        try:
            self._recorder.record(EventRecorded(what="storage", message=words))
        except (OSError, ValueError) as error:  # ValueError: a call outlasted the sweep, whose ledger is closed
            log.error("the ledger cannot be written: %s", error)


class NoMirror:
    """Of a run without a storage."""

    on_conflict: Callable[[str], None] = log.error

    def settle(self, give_up: Callable[[], bool], outage_s: float = 0.0) -> bool:
        """See `Mirror.settle`."""
        return True

    def close(self, timeout_s: float) -> bool:
        """See `Mirror.close`."""
        return True


def begin(settings: SweepSettings, paths: RunPaths, data_root: Path, recorder: Recorder) -> Mirror | NoMirror:
    """Begin to keep a run's storage level, if it has one."""
    place = place_of(settings, paths)
    return Mirror(Storage(place), paths, data_root, recorder) if place is not None else NoMirror()


class _ConflictError(Exception):
    """Another driver has written to the storage."""


def _checkpoints(names: Iterable[str], keys: set[str]) -> set[str]:
    """Folders of these keys that are needed only while a cell is not over: all but the best weights."""
    parts = [name.split("/") for name in names]
    return {
        "/".join(one[:3])
        for one in parts
        if len(one) == 4 and one[0] == "checkpoints" and one[1] in keys and one[2] != BEST
    }
