"""A user's files in the place of modules: what shadows what is said, by a command that cannot start, too."""

import subprocess
import sys
from pathlib import Path

import pytest

from runner.doctor import storage
from runner.doctor.context import HostContext
from runner.host import shadows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files named like others' modules, and a few that shadow nothing; Python looks here first."""
    (tmp_path / "random.py").write_text("raise RuntimeError('mine')\n")
    (tmp_path / "notes.py").write_text("")
    for package in ("torch", "runner"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "numpy").mkdir()  # a folder without __init__.py comes after packages
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def test_what_shadows_what(folder: Path) -> None:
    assert shadows.found() == [
        f"{folder}/random.py is imported in place of Python's own module 'random'",
        f"{folder}/runner is imported in place of the package 'runner'",
        f"{folder}/torch is imported in place of the package 'torch'",
    ]
    said = [one.what for one in storage.check(HostContext()) if one.check == "imports"]
    assert said == shadows.found()


def test_nothing_is_shadowed_otherwise() -> None:
    assert not shadows.found()


def test_a_command_that_cannot_be_imported_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("shuffled = True\n")
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"{tmp_path}/random.py is imported in place of Python's own module 'random'" in done.stderr
    assert "fix: rename" in done.stderr
    assert "Traceback" not in done.stderr
