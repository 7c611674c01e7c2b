"""The gate between steps: where a governor, a signal or a test makes a trial rest, wait or end."""

from enum import Enum
from typing import Protocol


class Action(Enum):
    """What a trial is to do before its next step."""

    RUN = "run"
    THROTTLE = "throttle"  # rest a while, then go on
    HOLD = "hold"  # wait between steps, keep the memory
    RELEASE = "release"  # checkpoint, free the tensors, wait
    STOP = "stop"  # checkpoint and end; the trial is resumed when it may run again
    DRAIN = "drain"  # the same, because the whole sweep ends


class StepGate(Protocol):
    """Asked by the trainer before every step and every evaluation batch."""

    def check(self) -> Action:
        """What to do now. Reads local state only: it never blocks and costs about a microsecond at most."""
        ...

    def wait(self, max_seconds: float) -> float:
        """Rest (after THROTTLE) or hold (after HOLD and RELEASE) for at most `max_seconds`.

        Returns the seconds waited. Less than `max_seconds` means that the rest is over: the trainer makes a step.
        """
        ...


class NullGate:
    """Always open."""

    def check(self) -> Action:
        """Run."""
        return Action.RUN

    def wait(self, max_seconds: float) -> float:
        """Nothing to wait for."""
        return 0.0
