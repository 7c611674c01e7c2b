"""A sweep's own folders for temporary files, closed to other users: Ray's, and Tune's for each round.

A driver that is killed leaves one behind; the next one removes it.
"""

import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "isotherm-ray-"
TUNE_PREFIX = "isotherm-tune-"
YOUNG_S = 60.0  # a folder is locked right after it was made, and not at once
_IN_USE = "in-use"


class Scratch:
    """A folder that lasts until it is closed. The lock in it is the operating system's and ends with its process.

    Attributes:
        path: the folder, with mode 0700.
        sessions: Ray's folder in it. Ray opens that one to every user (mode 0777), so it must not be `path` itself.
    """

    def __init__(self, base: Path, prefix: str = PREFIX) -> None:
        """Remove what dead drivers left below `base` under this prefix, and make a folder there."""
        for left in base.glob(f"{prefix}*"):
            _remove_if_left(left)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        self.sessions = self.path / "r"  # one letter: see LONGEST_TEMP
        self._lock = FileLock(self.path / _IN_USE)
        self._lock.acquire()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def _remove_if_left(folder: Path) -> None:
    try:
        if time.time() - folder.stat().st_mtime < YOUNG_S or not (folder / _IN_USE).exists():
            return  # without a lock nothing says whether its driver lives
        with FileLock(folder / _IN_USE, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, Timeout):  # another user's, or in use
        return
