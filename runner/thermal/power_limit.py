"""A GPU's power limit, lowered before trials rest: a card loses less speed by a lower limit than by rests.

What the limit was is noted in a file until it is set again, so that the next governor can do so where one was killed. A
restart of the host empties the folder, and resets limits too.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("/run/isotherm")  # root's, as the right to set a limit
STEP = 0.02  # limits are multiples of it, as shares of what the limit was: noise of the sensor changes nothing


def shared_out(duty: float, lowest: float) -> tuple[float, float]:
    """A power limit and a duty, as shares, for a duty that the temperature asks for.

    Their product is that duty, since a device's mean power, and so its heat, is proportional to both.

    Args:
        duty: share of the time that trials may work at full power.
        lowest: share below which the limit is never set.
    """
    share = min(1.0, max(lowest, math.ceil(duty / STEP - 1e-9) * STEP))
    return share, duty / share


@dataclass
class _Board:
    """One GPU; limits in milliwatts."""

    handle: Any
    usual: int
    lowest: int
    note: Path
    share: float = 1.0


class PowerLimits:
    """The limits of GPUs, through a library object with the functions of `pynvml`. Used by one thread.

    Attributes:
        refused: why a GPU's limit is left alone, by UUID.
    """

    def __init__(self, library: Any, handles: Mapping[str, Any], lowest: float, folder: Path | None = None) -> None:
        """Look at every GPU, and set again what a killed governor has left lowered.

        Args:
            library: opened, and not closed here.
            handles: NVML's, by UUID.
            lowest: share of the present limit below which it is never set.
            folder: for the notes; `FOLDER` if not given.
        """
        self._nvml, self._folder = library, folder or FOLDER
        self._boards: dict[str, _Board] = {}
        self.refused: dict[str, str] = {}
        for uuid, handle in handles.items():
            try:
                self._boards[uuid] = self._open(uuid, handle, lowest)
            except (library.NVMLError, OSError, ValueError) as error:
                self.refused[uuid] = str(error)

    def apply(self, device: str, duty: float) -> float:
        """Set the limit that a duty asks for; the duty that is left to rests."""
        board = self._boards.get(device)
        if board is None:
            return duty
        share, left = shared_out(duty, board.lowest / board.usual)
        try:
            self._set(board, share)
        except (self._nvml.NVMLError, OSError) as error:
            self.refused[device] = str(error)
            self._restore(self._boards.pop(device))
            return duty
        return left

    def share(self, device: str) -> float:
        """The limit as a share of what it was."""
        return self._boards[device].share if device in self._boards else 1.0

    def close(self) -> None:
        """Set all limits again as they were; never raises."""
        for board in self._boards.values():
            self._restore(board)

    def _open(self, uuid: str, handle: Any, lowest: float) -> _Board:
        note = self._folder / f"{uuid}.milliwatts"
        usual = int(note.read_text()) if note.exists() else self._nvml.nvmlDeviceGetPowerManagementLimit(handle)
        least, _ = self._nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        self._nvml.nvmlDeviceSetPowerManagementLimit(handle, usual)  # without the right to it, this fails
        note.unlink(missing_ok=True)
        return _Board(handle, usual, max(least, round(lowest * usual)), note)

    def _set(self, board: _Board, share: float) -> None:
        if share == board.share:
            return
        if board.share == 1.0:
            self._folder.mkdir(parents=True, exist_ok=True)
            board.note.write_text(str(board.usual))
        self._nvml.nvmlDeviceSetPowerManagementLimit(board.handle, round(share * board.usual))
        board.share = share
        if share == 1.0:
            board.note.unlink(missing_ok=True)

    def _restore(self, board: _Board) -> None:
        with contextlib.suppress(self._nvml.NVMLError, OSError):
            self._set(board, 1.0)
