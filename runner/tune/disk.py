"""Trials that cannot write: the sweep waits for the disk, for a time, and says so."""

import time
from typing import Any

from ray import tune

from runner.rundir.ledger import EventRecorded
from runner.rundir.recorder import Recorder
from runner.tune.drain import Drain


class DiskWatch(tune.Callback):  # type: ignore[misc]
    """Records when trials cannot write and when they can again, and ends the sweep after `timeout_s` without a write.

    The wait is over when no trial is blocked any more: a trial that has written goes on, so one full disk among
    several still ends the sweep, resumably.
    """

    def __init__(self, recorder: Recorder, drain: Drain, timeout_s: float) -> None:
        self._recorder: Recorder | None = recorder
        self._drain: Drain | None = drain
        self._timeout_s = timeout_s
        self._since_s: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks into a snapshot that is never read back."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take note of who is blocked."""
        key = trial.config["job"]["key"]
        if result.get("kind") != "blocked":
            self._let_go(key)
            return
        reason = str(result.get("reason"))
        if key not in self._since_s:
            self._since_s[key] = time.monotonic()
            self._say(f"cannot write: {reason}; the trial waits for up to {self._timeout_s:.0f} s", key)
        if self._drain is not None and time.monotonic() - self._since_s[key] > self._timeout_s:
            self._drain.request(f"the disk: {reason}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It waits no more."""
        self._let_go(trial.config["job"]["key"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It waits no more."""
        self._since_s.pop(trial.config["job"]["key"], None)

    def _let_go(self, key: str) -> None:
        if (since_s := self._since_s.pop(key, None)) is not None:
            self._say(f"can write again, after {time.monotonic() - since_s:.0f} s", key)

    def _say(self, message: str, key: str) -> None:
        if self._recorder is None or self._drain is None:
            return
        try:
            self._recorder.record(EventRecorded(what="disk", message=message, key=key))
        except OSError as error:  # an exception in a Tune callback would end the sweep without a word
            self._drain.request(f"the disk: {error}")
