"""Trials that do not answer: a worker that hangs is ended, so that the next round can go on from its checkpoint."""

import logging
import socket
import time
from contextlib import suppress
from typing import Any

import psutil
import ray
from ray import tune

log = logging.getLogger(__name__)


class StallWatch(tune.Callback):  # type: ignore[misc]
    """Ends the worker of a trial that has not answered for `timeout_s`.

    A trial reports every few seconds, also while it is held, waits or cannot write; so silence means that a step, a
    read or a driver call hangs. `reason` then says why the worker died.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._heard_s: dict[str, float] = {}
        self._process: dict[str, tuple[str, int]] = {}  # host name and process id, as the trial last answered
        self._reasons: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks into a snapshot that is never read back."""
        return {}

    def reason(self, key: str) -> str:
        """Why this watch ended the trial's worker; empty where it did not. Asked once an end."""
        return self._reasons.pop(key, "")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """From here on the trial is expected to answer."""
        self._heard_s[trial.config["job"]["key"]] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """It answered."""
        key = trial.config["job"]["key"]
        self._heard_s[key] = time.monotonic()
        if "pid" in result:
            self._process[key] = (str(result.get("hostname")), int(result["pid"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Nothing more is expected."""
        self._heard_s.pop(trial.config["job"]["key"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Nothing more is expected."""
        self._heard_s.pop(trial.config["job"]["key"], None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at all trials; Tune calls this ten times a second."""
        now_s = time.monotonic()
        for trial in trials:
            key = trial.config["job"]["key"]
            silent_s = now_s - self._heard_s.get(key, now_s)
            if silent_s > self._timeout_s:
                del self._heard_s[key]
                self._reasons[key] = f"no answer for {silent_s:.0f} s (execution.stall_timeout_s); its worker was ended"
                log.warning("%s: %s", trial, self._reasons[key])
                self._end(trial, key)

    def _end(self, trial: Any, key: str) -> None:
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            ray.kill(actor)
        # A process that is stopped or hangs in the kernel does not hear Ray; on this host the kernel can be asked.
        host, pid = self._process.get(key, ("", 0))
        if host == socket.gethostname():
            _kill(pid)


def _kill(pid: int) -> None:
    """End a Ray worker by SIGKILL, if the process id still belongs to it."""
    with suppress(psutil.Error):  # it is gone
        process = psutil.Process(pid)
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
            process.kill()
