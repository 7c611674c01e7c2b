"""What every fault is, and what faults share."""

import random
import subprocess
from abc import ABC, abstractmethod

import psutil

from tests.integration.workplace import Workplace, command_line
from tests.waiting import wait_for


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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command in the fault's place."""
        return self.place.start(*arguments)

    def heal(self) -> None:
        """End it."""

    def finish(self) -> None:
        """After the sweep has ended, before its results are compared."""

    def clean_up(self) -> None:
        """End what was started."""

    def _training(self) -> list[psutil.Process]:
        """Processes in which trials run."""
        return [one for one in self.place.workers() if "Trainable" in command_line(one)]


def gone(place: Workplace) -> None:
    """Wait until a dead driver's workers have ended."""
    wait_for(lambda: not place.workers())
