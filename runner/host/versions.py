"""Which code ran: our version with the commit it came from, and the libraries that shape results."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

_LIBRARIES = ("torch", "ray", "numpy", "pandas", "pyarrow", "ta-lib", "scikit-learn", "arch")


@functools.cache
def code_version() -> str:
    """Version of this distribution, with ``+g<commit>`` and ``.dirty`` where it runs from a git checkout."""
    version = importlib.metadata.version("isotherm")
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return version
    try:
        commit = _git(root, "rev-parse", "--short=10", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "isotherm", "runner", "trainables")
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+g{commit}" + (".dirty" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape results."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}
