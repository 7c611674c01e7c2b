"""A host's wall clock that jumps, for the processes that a test starts; the host's own is left alone."""

import os
import shutil
import subprocess
from pathlib import Path

DAY_S = 86_400


class WallClock:
    """Its `variables`, in the environment of a process, subject that process and all that it starts to `set`."""

    def __init__(self, folder: Path) -> None:
        """Build the library that is loaded into them. Needs a C compiler: see `available`."""
        library = folder / "wall_clock.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        self._file = folder / "wall_clock"
        self.variables = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(self._file)}
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set it off by so many seconds from the host's."""
        aside = self._file.with_suffix(".new")
        aside.write_text(str(seconds))
        os.replace(aside, self._file)


def available() -> bool:
    """Whether this host can build it."""
    return shutil.which("cc") is not None and os.uname().sysname == "Linux"
