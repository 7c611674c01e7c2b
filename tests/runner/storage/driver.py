"""A driver's side of a run, on a machine of its own."""

from pathlib import Path

from runner.config.settings import SweepSettings
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, EventRecorded, Status, SweepStarted
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.storage import restore
from runner.storage.mirror import Mirror
from runner.terminal.console import Console
from trainables.checkpoints.object_store import Storage

KEYS = ("0123456789ab", "ba9876543210")


class Driver:
    """Ledger and files of the run ``run``, and its mirror while it works."""

    def __init__(self, machine: Path, storage: Storage) -> None:
        self.machine, self.storage = machine, storage
        self.paths = RunPaths(machine / "runs" / "run")
        self.conflicts: list[str] = []
        self._recorder: Recorder | None = None
        self._mirror: Mirror | None = None

    def bring(self) -> None:
        settings = SweepSettings.model_construct(name="run", storage_path=self.storage.place.uri)
        restore.bring(settings, self.machine / "runs", self.machine / "data", Console(quiet=True))

    def start(self) -> None:
        self.paths.predictions.mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(self.paths)
        self._mirror = Mirror(self.storage, self.paths, self.machine / "data", self._recorder)
        self._mirror.on_conflict = self.conflicts.append
        self.recorder.record(SweepStarted(run="run", keys=KEYS, config={}, code_version="1", versions={}))

    @property
    def recorder(self) -> Recorder:
        assert self._recorder is not None
        return self._recorder

    @property
    def mirror(self) -> Mirror:
        assert self._mirror is not None
        return self._mirror

    def begin(self, key: str, attempt: int = 1) -> None:
        if key not in self.recorder.view.cells:
            self.recorder.record(CellRecorded(key=key, name=key, labels={}, sizes={}, spec={}))
        self.recorder.record(AttemptStarted(key=key, attempt=attempt, execution={"device": "cpu"}))

    def end(self, key: str, status: Status = "finished", attempt: int = 1) -> None:
        self.paths.prediction(key).write_bytes(key.encode() * 100)
        self.recorder.record(CellEnded(key=key, attempt=attempt, status=status))

    def note(self, words: str) -> None:
        self.recorder.record(EventRecorded(what="test", message=words))

    def settle(self, outage_s: float = 60.0) -> bool:
        return self.mirror.settle(lambda: False, outage_s)

    def events(self) -> list[str]:
        return [one.message for one in self.recorder.view.events if one.what == "storage"]

    def stop(self) -> None:
        if self._mirror is not None:
            self._mirror.close(1)
            self.recorder.close()
            self._mirror = None
