"""Folders, with real files and a real user without rights."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.doctor import storage


def test_good_folders_are_ok_and_none_is_made(place: Any, one: Any, tmp_path: Path) -> None:
    assert one(storage.check, "results", runs=tmp_path / "not" / "there").level == "ok"
    assert not (tmp_path / "not").exists()
    assert {finding.level for finding in storage.check(place)} <= {"ok", "warn"}, "warn: a disk with under 5 GB"


def test_a_file_in_place_of_a_folder_is_an_error_with_the_mend(one: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = one(storage.check, "results", runs=tmp_path / "file" / "runs")
    assert found.level == "error"
    assert "file is no folder" in found.what
    assert "chown" in found.fix


def test_what_a_sweep_can_do_without_is_a_warning(one: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert one(storage.check, "HOME", home=tmp_path / "file").level == "warn"
    assert one(storage.check, "probe's cache", cache=tmp_path / "file").level == "warn"
    assert one(storage.check, "temporary files", temp=tmp_path / "file").level == "error"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom runner.doctor import storage\n"
        "from runner.doctor.context import HostContext\nos.setgid(4321); os.setuid(4321)\n"
        "host = HostContext(runs=Path(sys.argv[1]), home=Path('/'), cache=Path('/'), data=Path('/tmp'))\n"
        "found = storage.check(host)\n"
        "print(*(f'{one.check}={one.level}' for one in found), sep='\\n')"
    )
    (tmp_path / "runs").mkdir(mode=0o700)
    answer = subprocess.run([sys.executable, "-c", script, tmp_path / "runs"], capture_output=True, text=True)
    assert "results=error" in answer.stdout, answer.stderr
    assert "HOME=warn" in answer.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk(one: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        found = one(storage.check, "results", runs=small / "runs")
        assert found.level == "error"
        assert "0.0 GB free" in found.what
        assert one(storage.check, "HOME", home=small).level == "warn"
        assert "df -h" in found.fix
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_folder_for_temporary_files_need_not_be_large(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """docker/run gives it 4 GiB: no warning about what Isotherm itself has made."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4 * 2**30))
    assert one(storage.check, "temporary files").level == "ok"
    assert one(storage.check, "results").level == "warn"


def test_a_clock_before_the_installation(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(storage.check, "clock").level == "ok"
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    found = one(storage.check, "clock")
    assert found.level == "warn"
    assert "2001-09-09" in found.what
