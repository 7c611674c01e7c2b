"""Faults of processes: killed, signalled, suspended, cut off from their output, at another time of day."""

import os
import pty
import re
import select
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from tests.chaos.fault import Fault, gone
from tests.chaos.servers import check_mlflow
from tests.integration.workplace import command_line
from tests.wall_clock import DAY_S, WallClock

EARLY = 0.1  # share of the looks at a sweep that does not train yet that strike it


class Kill(Fault):
    name, what = "kill", "SIGKILL of the driver or of a worker"

    def strike(self, driver: psutil.Process) -> bool:
        workers = self._training()
        if not workers:
            return False  # a start that never gets to training would repeat nothing
        self.rng.choice([driver, self.rng.choice(workers)]).kill()
        return True


class KillSearch(Kill):
    name, what = "search", "SIGKILL of the driver of a search, one trial at a time"

    def strike(self, driver: psutil.Process) -> bool:
        if not self._training():
            return False
        driver.kill()
        gone(self.place)
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


class Lost(Fault):
    """SIGKILL of one process of the sweep, by a regular expression for its command line."""

    process: str
    pause_s = (0.2, 2.0)

    def strike(self, driver: psutil.Process) -> bool:
        own = [one for one in driver.children(recursive=True) if re.search(self.process, command_line(one))]
        if not self._training() or not own:
            return False
        for one in self.victims(own):
            with suppress(psutil.Error):
                one.kill()
        return True

    def victims(self, own: list[psutil.Process]) -> list[psutil.Process]:
        """Which of the processes that are there to kill."""
        return [self.rng.choice(own)]


class LostRay(Lost):
    name, what = "ray", "SIGKILL of Ray's raylet, its GCS, an agent of it, or all of them"
    process = r"^\S*(raylet/raylet|gcs_server|Agent\S*)(\s|$)"

    def victims(self, own: list[psutil.Process]) -> list[psutil.Process]:
        return self.rng.choice([super().victims(own), own])


class LostRaylet(Lost):
    name, what, process = "raylet", "SIGKILL of Ray's raylet", r"^\S*raylet/raylet\s"


class LostGcs(Lost):
    name, what, process = "gcs", "SIGKILL of Ray's GCS", r"^\S*gcs_server\s"


class LostGovernor(Lost):
    name, what, process = "governor", "SIGKILL of the thermal governor", "^ray::Governor"
    # On a host without sensors there is no governor.
    options = ("--set", "thermal.sensor=plant", "--set", "thermal.plant.ambient_celsius=30")

    def finish(self) -> None:
        assert any("is replaced" in one.get("message", "") for one in self.place.ledger()), "no governor was missed"


class LostTracker(Lost):
    name, what = "tracker", "SIGKILL of the process that delivers to MLflow"
    process = r"runner\.tracking\.worker"
    options = ("--set", "tracking.wandb=null")

    def finish(self) -> None:
        self.place.run("sync", "small")
        check_mlflow(self.place, f"sqlite:///{self.place.folder / 'runs' / 'mlflow.db'}")


class ClosedTerminal(Fault):
    """A terminal of the sweep's own, of which it is the session's leader."""

    name, what = "terminal", "the terminal closed"
    session: tuple[str, ...] = ("setsid", "--ctty")
    pause_s = (0.2, 2.0)

    def ends(self) -> tuple[int, int]:
        """The reader's and the writer's file descriptor."""
        return pty.openpty()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        reader, writer = self.ends()
        log = self.place.folder / f"started-{len(self.place.started)}.log"
        process = subprocess.Popen(
            [*self.session, *self.place.command(*arguments)], cwd=self.place.folder, env=self.place.environment(),
            stdin=writer if self.session else subprocess.DEVNULL, stdout=writer, stderr=writer, text=True,
        )  # fmt: skip
        os.close(writer)
        self.place.started.append(process)
        self._closed = threading.Event()
        threading.Thread(target=self._read, args=(reader, log, self._closed), daemon=True).start()
        return process

    def strike(self, driver: psutil.Process) -> bool:
        if not self._training() or self._closed.is_set():
            return False
        self._closed.set()
        return True

    def _read(self, reader: int, log: Path, closed: threading.Event) -> None:
        """Keep what is printed until the reader goes away."""
        with log.open("ab") as out, suppress(OSError):  # the writer has ended
            while not closed.is_set():
                if select.select([reader], [], [], 0.1)[0]:
                    if not (data := os.read(reader, 1 << 16)):
                        break
                    out.write(data)
                    out.flush()
        os.close(reader)


class ClosedPipe(ClosedTerminal):
    name, what = "pipe", "the reader of standard output and error gone, as `| head` and a dead `tee`"
    session = ()

    def ends(self) -> tuple[int, int]:
        return os.pipe()


class Stall(Fault):
    name, what = "stall", "a worker that is stopped and never goes on"
    options = (*Fault.options, "--set", "execution.stall_timeout_s=6", "--set", "execution.max_attempts=99")

    def strike(self, driver: psutil.Process) -> bool:
        workers = self._training()
        if not workers:
            return False
        self.rng.choice(workers).suspend()
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
