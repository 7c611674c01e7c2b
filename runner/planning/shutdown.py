"""What an orderly end takes: the state of the trials that run at once, and the time to write it."""

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.host.device import Device
from runner.planning import execution
from runner.planning.grid import Cell

GRACE_S = 10.0  # what container engines give by default between SIGTERM and SIGKILL
SAVE_S = 6.0  # of it, for the trials to save; ending Ray takes about three seconds more
SMALL_BYTES = 1_000_000_000  # state that is written within SAVE_S
SAMPLE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ShutdownEstimate:
    """What it takes to save every running trial.

    Attributes:
        state_bytes: checkpoints of the largest trials that can run at once, about.
        write_s: seconds to write that much, at the speed measured in the run's folder; 0 for small states, None where
            the folder cannot be written.
    """

    state_bytes: int
    write_s: float | None

    @property
    def save_s(self) -> float:
        """How long a sweep waits for its trials to save."""
        return SAVE_S + 2 * (self.write_s or 0.0)

    @property
    def grace_s(self) -> float:
        """Seconds that a container must be given between SIGTERM and SIGKILL."""
        return GRACE_S + 2 * (self.write_s or 0.0)


def measure(cells: Sequence[Cell], device: Device, folder: Path) -> ShutdownEstimate:
    """What an end would take in the worst moment.

    Args:
        cells: those that are to run.
        device: what they run on.
        folder: of the run; it need not exist.
    """
    state = sum(cell.checkpoint_bytes for cell in execution.at_once(cells, device))
    if state <= SMALL_BYTES:
        return ShutdownEstimate(state, 0.0)
    try:
        return ShutdownEstimate(state, state / _bytes_per_second(folder))
    except OSError:
        return ShutdownEstimate(state, None)


def _bytes_per_second(folder: Path) -> float:
    """How fast a checkpoint is written in a folder: hashed and synced."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    sample = os.urandom(SAMPLE_BYTES)
    started = time.perf_counter()
    with tempfile.TemporaryFile(dir=existing) as file:
        file.write(sample)
        hashlib.sha256(sample)
        file.flush()
        os.fsync(file.fileno())
    return SAMPLE_BYTES / (time.perf_counter() - started)
