"""The orderly end after SIGTERM, SIGINT or SIGHUP: every running trial saves, then the driver stops.

While a sweep runs a flag file is in its directory, which the workers' gates watch; the signal handler removes it.
(A file that is written instead could not be written on a full disk.) Tune pickles its stoppers, so the driver's side
of the state lives in this module and not in an object.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.planning.shutdown import SAVE_S
from runner.rundir.paths import PAUSED, RunPaths
from trainables.checkpoints.object_store import StoragePlace
from trainables.training.gate import Action

POLL_S = 0.2
ASK_TIMEOUT_S = 2.0
STOP_COMMAND = "isotherm stop"

log = logging.getLogger(__name__)


class Interrupted(BaseException):  # no Exception, so that nothing on the way takes it for a failure
    """A signal came while something was done that a signal ends."""


class Drain:
    """State of one sweep's drain, in the driver."""

    def __init__(self, flag: Path, budget_s: float = SAVE_S) -> None:
        self.flag = flag
        self.budget_s = budget_s
        self.ended: set[str] = set()  # trials that `isotherm stop RUN KEY` has ended
        self.running: set[str] = set()
        self.saved: set[str] = set()
        self.reason = ""
        self.before_end: Callable[[], None] = lambda: None  # called in Tune's thread before it ends a round early
        self.before_exit: Callable[[], None] = lambda: None  # called before a second signal ends this process
        self._deadline = 0.0
        self._signalled = False
        self._interruptible = False
        flag.touch()

    @property
    def requested(self) -> bool:
        """Whether the sweep is to end early."""
        return bool(self.reason)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.requested and (self.running <= self.saved or time.monotonic() > self._deadline)

    def request(self, reason: str) -> None:
        """Ask every running trial to save and wait."""
        if not self.requested:
            self.reason = reason
            self._deadline = time.monotonic() + self.budget_s
            self._tell_trials()

    def check_flag(self) -> None:
        """Ask for the drain where something else has removed the flag: the trials have seen that, and wait."""
        with suppress(OSError):  # a file system that does not answer says nothing about the flag
            if not self.requested and not self.flag.exists():
                asked = RunPaths(self.flag.parent).stop_request.exists()
                self.request(STOP_COMMAND if asked else f"the removal of {self.flag} by something else")

    def check_trial(self, key: str) -> bool:
        """Whether `isotherm stop RUN KEY` asks for a trial's end; from then on it is not started again."""
        with suppress(OSError):
            if key not in self.ended and (request := RunPaths(self.flag.parent).trial_stop_request(key)).exists():
                self.ended.add(key)
                request.unlink(missing_ok=True)
                return True
        return False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, a signal ends what is done; so does one that came before.

        Raises:
            Interrupted: a signal came.
        """
        self._interruptible = True
        try:
            if self._signalled:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def _tell_trials(self) -> None:
        try:
            self.flag.unlink(missing_ok=True)
        except OSError as error:  # the sweep ends all the same; its trials resume from their last checkpoints
            log.error("the request to save cannot reach the trials: %s", error)

    def handle_signals(self) -> None:
        """Handle SIGTERM, SIGINT and SIGHUP from now on; call it again after Ray's start and end, which change them.

        A second signal ends the process at once. A SIGHUP that is ignored (`nohup`) stays ignored.
        """

        def handle(number: int, _frame: FrameType | None) -> None:
            name = signal.Signals(number).name
            if self._signalled:
                self.before_exit()
                os._exit(128 + number)
            self._signalled = True
            what = "saving every running trial, then stopping" if self.running else "stopping"
            log.warning("%s: %s (once more: stop at once)", name, what)
            self.request(name)
            if self._interruptible:
                raise Interrupted

        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handle)


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_current: Drain | None = None


@contextmanager
def begun(flag: Path, budget_s: float = SAVE_S) -> Iterator[Drain]:
    """The drain of the sweep that this process drives; inside, signals ask for it.

    Args:
        flag: the file that exists while trials are to run.
        budget_s: seconds that they get to save.
    """
    global _current
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    _current = Drain(flag, budget_s)
    _current.handle_signals()
    try:
        yield _current
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(OSError):
            flag.unlink(missing_ok=True)


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started inside never hear the signals that drain a sweep.

    systemd, Slurm and a closed terminal send them to all processes at once; Ray's must outlive them until the driver
    has drained. They have handlers of their own for SIGTERM, but inherit the signal mask.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class DrainStopper(tune.Stopper):  # type: ignore[misc]
    """Ends the round once the drain is complete."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a user asks for the end of this trial."""
        return _current is not None and _current.check_trial(result["config"]["job"]["key"])

    def stop_all(self) -> bool:
        """Whether everything that runs has saved."""
        if _current is None:
            return False
        _current.check_flag()
        if complete := _current.complete:
            _current.before_end()
        return complete


class FlagGate:
    """A `StepGate` that drains when the flag file is gone. A thread watches; the check reads a local flag.

    On a node that has another disk than the driver's there is nothing to watch: there it asks a `DrainFlagServer`.
    """

    def __init__(self, flag: Path, place: StoragePlace | None = None, lookout: ActorHandle | None = None) -> None:
        """Begin to watch.

        Args:
            flag: the file that exists while trials are to run.
            place: identifies the driver's disk; None where all trials see it.
            lookout: a `DrainFlagServer` where that disk is.
        """
        self._flag, self._lookout = flag, lookout
        self._on_drivers_disk = place is None or place.shares_disk
        self._action = Action.RUN
        if self._on_drivers_disk:
            self._action = self._look()
        threading.Thread(target=self._watch, name="drain-flag", daemon=True).start()

    @property
    def reason(self) -> str:
        """See `TrialGate.reason`."""
        return "paused" if self._action is Action.RELEASE else ""

    def begin(self) -> None:
        """See `TrialGate.begin`."""

    def readings(self) -> dict[str, float]:
        """No temperature is read."""
        return {}

    def check(self) -> Action:
        """What the trial may do now."""
        return self._action

    def wait(self, max_seconds: float) -> float:
        """Wait while the sweep is paused, at most that long; returns the seconds waited."""
        until_s = (began_s := time.monotonic()) + max_seconds
        while self._action is Action.RELEASE and time.monotonic() < until_s:
            time.sleep(min(POLL_S, max_seconds))
        waited_s = time.monotonic() - began_s
        return min(waited_s, max_seconds) if self._action is Action.RELEASE else min(waited_s, max_seconds * 0.999)

    def _watch(self) -> None:
        while (action := self._look()) is not Action.DRAIN:
            self._action = action
            time.sleep(POLL_S)
        self._action = action

    def _look(self) -> Action:
        """What the files say; what cannot be read changes nothing."""
        try:
            if self._on_drivers_disk:
                if not self._flag.exists():
                    return Action.DRAIN
                return Action.RELEASE if self._flag.with_name(PAUSED).exists() else Action.RUN
            if self._lookout is None:
                return Action.RUN
            if not ray.is_initialized():  # asking would start a Ray of this process's own
                return self._action
            return Action(ray.get(self._lookout.action.remote(), timeout=ASK_TIMEOUT_S))
        except ActorDiedError:  # with the driver's node, and no more to be heard from it
            self._lookout = None
            return Action.RUN
        except (OSError, RayError):  # a file system or a node that does not answer says nothing about the flag
            return self._action


class DrainFlagServer:
    """An actor on the driver's node: it reports what the flag says to trials that have another disk."""

    def __init__(self, flag: Path) -> None:
        self._gate = FlagGate(flag)

    def action(self) -> str:
        """What trials may do."""
        return self._gate.check().value


def post_lookout(flag: Path) -> ActorHandle:
    """Start a `DrainFlagServer` on this node; it ends with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(DrainFlagServer).options(scheduling_strategy=here).remote(flag)
