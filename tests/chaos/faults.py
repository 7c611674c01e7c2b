"""What can go wrong while a sweep runs, done for real: signals to real processes, a real full disk, real servers."""

import os
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import psutil

from tests.integration.workplace import Workplace, same
from tests.s3 import CREDENTIALS, S3Server
from tests.servers import MlflowServer, free_port
from tests.wall_clock import DAY_S, WallClock

UNTIL_LOADED_S = 60.0
EARLY = 0.1  # share of the looks at a sweep that does not train yet that strike it


class Fault(ABC):
    """One kind of fault. `strike` does it and `heal` ends it, where it does not end by itself."""

    name: str
    what: str
    options: tuple[str, ...] = ("--no-tracking",)  # of the sweep
    pause_s = (1.0, 8.0)  # between two faults, drawn evenly
    lasts_s = (0.0, 0.0)

    def __init__(self, place: Workplace, rng: random.Random) -> None:
        self.place, self.rng = place, rng

    def prepare(self) -> None:
        """Before the first start."""

    @abstractmethod
    def strike(self, driver: psutil.Process) -> bool:
        """Do it; whether it could be done just now."""

    def heal(self) -> None:
        """End it."""

    def finish(self) -> None:
        """After the sweep has ended, before its results are compared."""

    def clean_up(self) -> None:
        """End what was started."""

    def _training(self) -> list[psutil.Process]:
        """Processes in which trials run."""
        return [one for one in self.place.workers() if "Trainable" in _name(one)]


class Kill(Fault):
    name, what = "kill", "SIGKILL of the driver or of a worker"

    def strike(self, driver: psutil.Process) -> bool:
        workers = self._training()
        if not workers:
            return False  # a start that never gets to training would repeat nothing
        self.rng.choice([driver, self.rng.choice(workers)]).kill()
        return True


class Signal(Fault):
    name, what = "signal", "SIGTERM or SIGINT to the driver, some before anything trains"
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)

    def strike(self, driver: psutil.Process) -> bool:
        if not (self.place.folder / "runs" / "small" / ".running").exists():
            return False
        if not self._training() and self.rng.random() > EARLY:
            return False
        number = self.rng.choice(self.signals)
        for one in self.receivers(driver):
            with suppress(psutil.Error):
                one.send_signal(number)
        return True

    def receivers(self, driver: psutil.Process) -> list[psutil.Process]:
        return [driver]


class SignalToAll(Signal):
    name, what = "signal-all", "SIGTERM, SIGINT or SIGHUP to all processes of the sweep at once"
    signals = (*Signal.signals, signal.SIGHUP)

    def receivers(self, driver: psutil.Process) -> list[psutil.Process]:
        return [*driver.children(recursive=True), driver]


class ChangedLedger(Fault):
    name, what = "ledger", "a ledger that is removed, cut, lengthened, edited or replaced by an old copy"

    def strike(self, driver: psutil.Process) -> bool:
        path = self.place.folder / "runs" / "small" / "ledger.jsonl"
        if not self._training() or not path.exists() or not path.stat().st_size:
            return False
        self.rng.choice([self._remove, self._cut, self._lengthen, self._edit, self._replace])(path)
        return True

    def _remove(self, path: Path) -> None:
        path.unlink()

    def _cut(self, path: Path) -> None:
        os.truncate(path, self.rng.randrange(path.stat().st_size))

    def _lengthen(self, path: Path) -> None:
        with path.open("ab") as handle:
            handle.write(path.read_bytes().splitlines(keepends=True)[-1])

    def _edit(self, path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[self.rng.randrange(len(lines))]
        self._rename_over(path, lines)

    def _replace(self, path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        self._rename_over(path, lines[: self.rng.randrange(len(lines))])

    def _rename_over(self, path: Path, lines: list[bytes]) -> None:
        aside = path.with_suffix(".swp")
        aside.write_bytes(b"".join(lines))
        aside.replace(path)


class RemovedFlag(Fault):
    name, what = "flag", "the file .running removed"

    def strike(self, driver: psutil.Process) -> bool:
        flag = self.place.folder / "runs" / "small" / ".running"
        if not self._training() or not flag.exists():
            return False
        flag.unlink()
        return True


class LostRay(Fault):
    name, what = "ray", "SIGKILL of Ray's raylet, its GCS or an agent of it"

    def strike(self, driver: psutil.Process) -> bool:
        parts = ("raylet/raylet", "gcs_server", "Agent")
        own = [one for one in driver.children(recursive=True) if any(part in _name(one) for part in parts)]
        if not self._training() or not own:
            return False
        self.rng.choice(own).kill()
        return True


class Stall(Fault):
    name, what = "stall", "a worker that is stopped and never goes on"
    options = (*Fault.options, "--set", "execution.stall_timeout_s=6", "--set", "execution.max_attempts=99")

    def strike(self, driver: psutil.Process) -> bool:
        workers = self._training()
        if not workers:
            return False
        self.rng.choice(workers).suspend()
        return True


class Tear(Fault):
    name, what = "tear", "SIGKILL of the driver, then torn ends: the ledger's last line, a newest checkpoint"

    def strike(self, driver: psutil.Process) -> bool:
        run = self.place.folder / "runs" / "small"
        states = sorted(run.glob("checkpoints/*/checkpoint-*/state.pt"), key=lambda path: path.stat().st_mtime)
        if not states or not self._training():
            return False
        driver.kill()
        _gone(self.place)
        states = [path for path in states if path.exists()]
        for path in (run / "ledger.jsonl", *states[-1:]):
            size = path.stat().st_size
            last = path.read_bytes().splitlines(keepends=True)[-1] if path.suffix == ".jsonl" else b"x" * (size // 2)
            os.truncate(path, size - self.rng.randrange(1, max(2, len(last) - 1)))
        return True


class Unreadable(Fault):
    name = "unreadable"
    what = "SIGKILL of the driver, then a file or folder in the place of a newest checkpoint, its parts or its note"

    def strike(self, driver: psutil.Process) -> bool:
        run = self.place.folder / "runs" / "small"
        newest = sorted(run.glob("checkpoints/*/checkpoint-*"), key=lambda path: path.stat().st_mtime)
        if not newest or not self._training():
            return False
        driver.kill()
        _gone(self.place)
        if not newest[-1].exists():
            return True  # its trial was over
        notes = sorted(newest[-1].parent.glob("attempt-*.json"))
        path = self.rng.choice([newest[-1], newest[-1] / "state.pt", newest[-1] / "manifest.json", notes[-1]])
        if path.is_dir():
            shutil.rmtree(path)
            path.write_text("stray")
        else:
            path.unlink()
            path.mkdir()
        (run / "thermal.parquet").write_bytes(b"PAR1")
        return True


class ClockJumps(Fault):
    name, what = "clock", "the wall clock of all processes set a day ahead or back, and set right again"
    lasts_s = (1.0, 5.0)

    def prepare(self) -> None:
        self.clock = WallClock(self.place.folder.parent)
        os.environ.update(self.clock.variables)

    def strike(self, driver: psutil.Process) -> bool:
        if not self._training():
            return False
        self.clock.set(self.rng.choice([-DAY_S, DAY_S]))
        return True

    def heal(self) -> None:
        self.clock.set(0)

    def clean_up(self) -> None:
        for name in self.clock.variables:
            del os.environ[name]


class FullDisk(Fault):
    name, what = "disk", "a file system that is full for 2 to 6 s"
    lasts_s = (2.0, 6.0)

    def prepare(self) -> None:
        folder = str(self.place.folder)
        mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "isotherm-chaos", folder]
        subprocess.run(mount, check=True, capture_output=True)
        self.place.write()

    def strike(self, driver: psutil.Process) -> bool:
        if not (self.place.folder / "runs" / "small" / ".running").exists():
            return False  # at a start it is refused, rightly
        fill(self._ballast)
        return True

    def heal(self) -> None:
        self._ballast.unlink()

    def clean_up(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place.folder)], check=True)

    @property
    def _ballast(self) -> Path:
        return self.place.folder / "ballast"


class MlflowDies(Fault):
    name, what = "mlflow", "an MLflow server that is not there at the start, then killed and started again"
    pause_s = (1.0, 4.0)  # its own start takes some seconds more
    lasts_s = (1.0, 5.0)

    def prepare(self) -> None:
        self.server = MlflowServer(self.place.folder.parent, free_port())
        url = f"tracking.mlflow.uri={self.server.url}"
        self.options = ("--set", url, "--set", "tracking.wandb=null")
        self._first = True

    def strike(self, driver: psutil.Process) -> bool:
        if not self._first:
            self.server.kill()
        self._first = False
        return True

    def heal(self) -> None:
        self.server.start()

    def finish(self) -> None:
        self.place.run("sync", "small")
        check_mlflow(self.place, self.server.url)

    def clean_up(self) -> None:
        self.server.kill()


class MlflowIsCutOff(MlflowDies):
    name, what = "network", "a network to the MLflow server that drops or delays every connection by 10 s"
    lasts_s = (2.0, 6.0)

    def prepare(self) -> None:
        super().prepare()
        self.server.start()
        self.proxy = Proxy(self.server.port)
        self.options = ("--set", f"tracking.mlflow.uri=http://127.0.0.1:{self.proxy.port}", *self.options[2:])

    def strike(self, driver: psutil.Process) -> bool:
        self.proxy.mode = self.rng.choice(["drop", "delay"])
        return True

    def heal(self) -> None:
        self.proxy.mode = "pass"

    def clean_up(self) -> None:
        super().clean_up()
        self.proxy.close()


class StorageDies(Fault):
    name, what = "storage", "an S3 server that is killed, and comes back empty"
    lasts_s = (1.0, 5.0)

    def prepare(self) -> None:
        os.environ.update(CREDENTIALS)
        self.server = S3Server(self.place.folder.parent)
        self.options = ("--no-tracking", "--set", f"storage_path={self.server.uri}")

    def strike(self, driver: psutil.Process) -> bool:
        self.server.kill()
        return True

    def heal(self) -> None:
        self.server.start()

    def finish(self) -> None:
        """A machine that has nothing but the sweep file and the storage knows everything."""
        other = Workplace(self.place.folder.parent / "other")
        other.folder.mkdir()
        other.write((self.place.folder / "sweep.yaml").read_text())
        command = self.place.started[-1].args
        assert isinstance(command, list)
        assert "nothing to run" in other.run(*command[3:]).stdout
        same(self.place.results(), other.results())

    def clean_up(self) -> None:
        self.server.kill()


class Proxy:
    """A TCP proxy on a free port that passes bytes on, delays every connection by 10 s, or drops them all."""

    DELAY_S = 10.0

    def __init__(self, target: int) -> None:
        self.mode, self._target = "pass", target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.mode == "delay":
            time.sleep(self.DELAY_S)
        with client:
            if self.mode == "drop":
                return
            try:
                with socket.create_connection(("127.0.0.1", self._target), timeout=5) as server:
                    self._pump(client, server)
            except OSError:
                return

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while self.mode != "drop":
            for ready in select.select(list(other), [], [], 0.2)[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                other[ready].sendall(data)


FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *(Kill, Signal, SignalToAll, Stall, Tear, Unreadable, ChangedLedger, RemovedFlag, LostRay),
        *(ClockJumps, FullDisk, MlflowDies, MlflowIsCutOff, StorageDies),
    )
}


def fill(ballast: Path) -> None:
    """Fill a file system to its last byte."""
    with ballast.open("ab", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError:
                continue


def check_mlflow(place: Workplace, url: str) -> None:
    """Every trial has one run, which is finished and holds every metric of the ledger."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("isotherm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_key = {run.data.tags["isotherm.key"]: run for run in runs if "isotherm.key" in run.data.tags}
    assert len(by_key) == len(runs) - 1, "one run a trial, and the sweep's own"
    assert {run.info.status for run in runs} == {"FINISHED"}
    expected: dict[str, set[int]] = {}
    for record in place.ledger():
        if record["kind"] == "metrics" and record["values"].get("val_loss") is not None:
            expected.setdefault(record["key"], set()).add(record["step"])
    for key, steps in expected.items():
        shown = [point.step for point in client.get_metric_history(by_key[key].info.run_id, "val_loss")]
        assert sorted(shown) == sorted(steps), key


def _name(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


def _gone(place: Workplace) -> None:
    """Wait until a dead driver's workers have ended."""
    deadline = time.monotonic() + UNTIL_LOADED_S
    while place.workers() and time.monotonic() < deadline:
        time.sleep(0.2)
