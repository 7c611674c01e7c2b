"""Ray's own processes on this host, watched without Ray's help; and work that the driver can leave where one is lost.

Without its raylet or its GCS, Ray blocks whatever thread calls it, and ends the whole process by `exit(1)` seconds
later: at the next use of the object store, or after 60 s without the GCS. So Tune runs in a thread of its own, and the
driver's main thread, which only looks at these processes, writes the end of the sweep in time.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:  # it imports Ray
    from runner.tune.drain import Drain

LOOK_S = 0.25
SUSPENDED_S = 30.0  # long enough for a debugger's look at it
ENDING_S = 1.0  # Ray's processes end with each other: the first of which one hears may be a trial's
SILENT_S = 60.0  # after the last trial has saved; a round ends in seconds

log = logging.getLogger(__name__)


class RayWatch:
    """Looks after raylet, GCS and the raylet's agents; Ray ends itself without one of them.

    Attributes:
        lost: what happened to one of them; empty while all of them work. It stays.
    """

    def __init__(self, processes: Iterable[tuple[str, psutil.Process]], *, ours: bool = True) -> None:
        """`processes` with what they are called in a message; `ours` where this process has started and ends them."""
        self.lost, self._ours = "", ours
        self._watched = tuple((f"Ray's {name} (process {process.pid})", process) for name, process in processes)
        # Looks in a row: time in which the driver was suspended, too, is none.
        self._suspended: Counter[str] = Counter()
        self._silent = 0

    @classmethod
    def of_own(cls, node: Any) -> "RayWatch":
        """Watch a Ray that this process has started, as Ray's `Node` knows it."""
        raylet, gcs = (psutil.Process(node.all_processes[kind][0].process.pid) for kind in ("raylet", "gcs_server"))
        agents = [child for child in raylet.children() if "agent" in _command(child).lower()]  # ray::DashboardAgent
        return cls([("raylet", raylet), ("GCS", gcs), *(("agent", agent) for agent in agents)])

    @classmethod
    def of_node(cls, node: Any) -> "RayWatch":
        """Watch the raylet of the cluster's node that this host is; the GCS may be on another one."""
        raylets = (one for one in psutil.process_iter() if _is_raylet(one, node.raylet_socket_name))
        return cls((("raylet", one) for one in raylets), ours=False)

    def dead(self) -> str:
        """Look for those that are dead, and return `lost`. Ray's processes end with each other, so all are named."""
        dead = [name for name, process in self._watched if not _status(process)]
        if dead and not self.lost:
            self.lost = f"the loss of {' and '.join(dead)}, which died or {'was' if len(dead) == 1 else 'were'} killed"
        return self.lost

    def look(self) -> str:
        """Look for one that is dead or has been suspended for long, and return `lost`. Called every `LOOK_S`."""
        for name, process in self._watched:
            self._suspended[name] = self._suspended[name] + 1 if _status(process) == psutil.STATUS_STOPPED else 0
            if not self.lost and self._suspended[name] * LOOK_S >= SUSPENDED_S:
                self.lost = f"the loss of {name}, suspended for {SUSPENDED_S:.0f} s"
        return self.dead()

    def await_end(self, drained: bool) -> None:
        """Take note that the round goes on, `drained` where all its trials have saved. Called every `LOOK_S`."""
        self._silent = self._silent + 1 if drained else 0
        if not self.lost and self._silent * LOOK_S >= SILENT_S:
            self.lost = f"the loss of Ray, which did not end its trials within {SILENT_S:.0f} s"

    def resume(self) -> None:
        """Let suspended ones go on: Ray is about to be ended, and waits for their answers."""
        for name, process in self._watched:
            if self._ours and _status(process) == psutil.STATUS_STOPPED:
                log.warning("%s is suspended; it is resumed, so that it can end", name)
                with suppress(psutil.Error):
                    process.resume()

    def park_if_lost(self, within_s: float = 0.0) -> None:
        """Where Ray is lost, keep this thread from calling it, and so from ending the process: never return.

        Args:
            within_s: seconds that it may take until one of Ray's processes that is about to end has ended.
        """
        deadline = time.monotonic() + within_s
        while not self.dead() and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        while self.dead():
            time.sleep(3600.0)


def attend(work: Callable[[], None], watch: RayWatch, drain: "Drain") -> None:
    """Do `work`, which calls Ray, in a thread of its own. Where Ray is lost, drain, and leave the thread where it is.

    What `work` raises is raised here.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    drain.before_end = watch.park_if_lost
    thread = threading.Thread(target=run, name="tune", daemon=True)  # it must not keep the process
    thread.start()
    while thread.is_alive() and not watch.look():
        thread.join(LOOK_S)
        watch.await_end(drain.complete)
    if watch.look():
        log.error("%s: saving what can be saved", watch.lost)
        drain.request(watch.lost)
        while thread.is_alive() and not drain.complete:
            thread.join(LOOK_S)
        return
    watch.resume()
    if raised:
        raise raised[0]


def _status(process: psutil.Process) -> str:
    """The kernel's word for its state; empty where it is dead."""
    try:
        status = str(process.status()) if process.is_running() else ""
    except psutil.Error:
        return ""
    return "" if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else status


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_raylet(process: psutil.Process, socket: str) -> bool:
    command = _command(process)
    return "/raylet/raylet " in command and socket in command
