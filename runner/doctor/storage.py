"""Folders that must be writable or are searched for modules, the disk below them, and the clock."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import runner
from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, ok
from runner.host import shadows

LEAST_FREE_BYTES = 100 * 10**6  # the ledger and one small checkpoint
LOW_FREE_BYTES = 5 * 10**9  # two checkpoints of a 2m to 200m grid; `isotherm plan` says what a sweep needs
LOW_TEMP_BYTES = 1 * 10**9  # sockets, logs and sessions; docker/run gives /tmp 4 GiB


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Look at every folder that a sweep writes to."""
    yield from _folder("results", place.runs, "a sweep keeps its ledger and checkpoints there", needed=True)
    yield from _folder("datasets", place.data, "a sweep keeps the datasets that it builds there", needed=True)
    yield from _folder(
        "temporary files", place.temp, "Ray keeps its sockets and sessions there", needed=True, low=LOW_TEMP_BYTES
    )
    yield from _folder("probe's cache", place.cache, "without it every sweep measures anew", needed=False)
    yield from _folder("HOME", place.home, "libraries keep caches there and may refuse to start", needed=False)
    yield _clock()
    yield from _shadows()


def _shadows() -> Iterator[Diagnosis]:
    for said in shadows.found():
        yield Diagnosis(
            check="imports",
            level="warn",
            what=said,
            why="what needs the module gets that file, and fails or computes something else",
            fix="rename it, or start from another folder; `isotherm` itself never looks in the current folder, "
            "PYTHONPATH and `python -m` do",
        )


def _folder(name: str, folder: Path, why: str, *, needed: bool, low: int = LOW_FREE_BYTES) -> Iterator[Diagnosis]:
    reason = _unwritable(folder)
    if reason:
        yield Diagnosis(
            check=name,
            level="error" if needed else "warn",
            what=f"{folder} cannot be written: {reason}",
            why=why,
            fix=f"mkdir -p '{folder.absolute()}' && chown $(id -u):$(id -g) '{folder.absolute()}'; in a container: "
            "mount a folder of yours there",
        )
        return
    free = shutil.disk_usage(_existing(folder)).free
    if free >= low or (not needed and free >= LEAST_FREE_BYTES):
        yield ok(name, f"{folder} can be written, {_gb(free)} free")
        return
    yield Diagnosis(
        check=name,
        level="error" if needed and free < LEAST_FREE_BYTES else "warn",
        what=f"{folder} has {_gb(free)} free",
        why=f"{why}; a full disk stops every trial",
        fix=f"df -h '{folder.absolute()}', then remove what is not needed; old runs are folders of runs/",
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if os.path.exists(one))  # False where it may not be asked


def _unwritable(folder: Path) -> str:
    """Why nothing can be created in a folder, or in the nearest one above it that is there; empty where it can."""
    existing = _existing(folder)
    if not existing.is_dir():
        return f"{existing} is no folder"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return f"{existing}: {error.strerror or error}"


def _clock() -> Diagnosis:
    """A clock before the installation of this code is wrong for certain."""
    installed = Path(runner.__file__).stat().st_mtime
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(now))
    if now >= installed:
        return ok("clock", f"{shown} UTC")
    return Diagnosis(
        check="clock",
        level="warn",
        what=f"the clock shows {shown} UTC, which is before this code was installed",
        why="records are ordered by their time, and trackers refuse certificates that are not valid yet",
        fix="timedatectl set-ntp true",
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
