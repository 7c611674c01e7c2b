"""Faults of files: a changed ledger, a removed flag, torn and unreadable ones, a full disk."""

import os
import shutil
import subprocess
from pathlib import Path

import psutil

from tests.chaos.fault import Fault, gone


class ChangedLedger(Fault):
    name, what = "ledger", "a ledger that is removed, cut, lengthened, edited or replaced by an old copy"

    def strike(self, driver: psutil.Process) -> bool:
        path = self.place.folder / "runs" / "small" / "ledger.jsonl"
        if not self._training() or not path.exists() or not path.stat().st_size:
            return False
        self.rng.choice([self._remove, self._cut, self._lengthen, self._edit, self._replace])(path)
        return True

    def _remove(self, path: Path) -> None:
        path.unlink()

    def _cut(self, path: Path) -> None:
        os.truncate(path, self.rng.randrange(path.stat().st_size))

    def _lengthen(self, path: Path) -> None:
        with path.open("ab") as handle:
            handle.write(path.read_bytes().splitlines(keepends=True)[-1])

    def _edit(self, path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[self.rng.randrange(len(lines))]
        self._rename_over(path, lines)

    def _replace(self, path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        self._rename_over(path, lines[: self.rng.randrange(len(lines))])

    def _rename_over(self, path: Path, lines: list[bytes]) -> None:
        aside = path.with_suffix(".swp")
        aside.write_bytes(b"".join(lines))
        aside.replace(path)


class RemovedFlag(Fault):
    name, what = "flag", "the file .running removed"

    def strike(self, driver: psutil.Process) -> bool:
        flag = self.place.folder / "runs" / "small" / ".running"
        if not self._training() or not flag.exists():
            return False
        flag.unlink()
        return True


class Tear(Fault):
    name, what = "tear", "SIGKILL of the driver, then torn ends: the ledger's last line, a newest checkpoint"

    def strike(self, driver: psutil.Process) -> bool:
        run = self.place.folder / "runs" / "small"
        states = sorted(run.glob("checkpoints/*/checkpoint-*/state.pt"), key=lambda path: path.parent.name)
        if not states or not self._training():
            return False
        driver.kill()
        gone(self.place)
        states = [path for path in states if path.exists()]
        for path in (run / "ledger.jsonl", *states[-1:]):
            size = path.stat().st_size
            last = path.read_bytes().splitlines(keepends=True)[-1] if path.suffix == ".jsonl" else b"x" * (size // 2)
            os.truncate(path, size - self.rng.randrange(1, max(2, len(last) - 1)))
        return True


class Unreadable(Fault):
    name = "unreadable"
    what = "SIGKILL of the driver, then a file or folder in the place of a newest checkpoint, its parts or its note"

    def strike(self, driver: psutil.Process) -> bool:
        run = self.place.folder / "runs" / "small"
        newest = sorted(run.glob("checkpoints/*/checkpoint-*"), key=lambda path: path.name)
        if not newest or not self._training():
            return False
        driver.kill()
        gone(self.place)
        if not newest[-1].exists():
            return True  # its trial was over
        notes = sorted(newest[-1].parent.glob("attempt-*.json"))
        path = self.rng.choice([newest[-1], newest[-1] / "state.pt", newest[-1] / "manifest.json", notes[-1]])
        if path.is_dir():
            shutil.rmtree(path)
            path.write_text("stray")
        else:
            path.unlink()
            path.mkdir()
        (run / "thermal.parquet").write_bytes(b"PAR1")
        return True


class FullDisk(Fault):
    name, what = "disk", "a file system that is full for 2 to 6 s"
    lasts_s = (2.0, 6.0)

    def prepare(self) -> None:
        folder = str(self.place.folder)
        mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "isotherm-chaos", folder]
        subprocess.run(mount, check=True, capture_output=True)
        self.place.write()

    def strike(self, driver: psutil.Process) -> bool:
        if not (self.place.folder / "runs" / "small" / ".running").exists():
            return False  # at a start it is refused, rightly
        fill(self._ballast)
        return True

    def heal(self) -> None:
        self._ballast.unlink()

    def clean_up(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place.folder)], check=True)

    @property
    def _ballast(self) -> Path:
        return self.place.folder / "ballast"


def fill(ballast: Path) -> None:
    """Fill a file system to its last byte."""
    with ballast.open("ab", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError:
                continue
