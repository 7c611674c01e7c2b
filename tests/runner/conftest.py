"""A sweep file to change, an empty working directory to be in, and a finished run."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli import main
from runner.rundir.paths import RunPaths
from tests.once import made_once

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = """\
name: tiny
data:
  source: sp500
  tier: a20
task:
  kind: threshold
  context: 60
model:
  name: patchtst
  patch: 10
training:
  epochs: 1
  global_batch: 128
  lr: 1.0e-3
grid:
  budget: [20k]
  horizon: [1]
  seed: [0]
execution:
  device: cpu
thermal:
  require_sensors: false
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sweep_file(folder: Path) -> Callable[..., Path]:
    """Write a sweep file: the minimal one with texts replaced, or another text."""

    def write(*changes: tuple[str, str], text: str = MINIMAL, append: str = "") -> Path:
        for old, new in changes:
            assert old in text, f"{old!r} does not stand in the file"
            text = text.replace(old, new, 1)
        path = folder / "sweep.yaml"
        path.write_text(text + append)
        return path

    return write


def _finish(folder: Path) -> None:
    import pandas as pd

    from tests.finished import finished_run

    finished_run(folder)
    found = importlib.util.find_spec("arch")
    assert found is not None
    assert found.submodule_search_locations
    bars = Path(found.submodule_search_locations[0]) / "data" / "sp500" / "sp500.csv.gz"
    pd.read_csv(bars).to_csv(folder / "new.csv", index=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Two trials and four baselines of S&P 500 bars; and the same bars as `new.csv` above `runs`. Read only."""
    return RunPaths(made_once(tmp_path_factory, "finished", _finish) / "runs" / "tiny")


@pytest.fixture
def place(finished: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run's working directory, to be in."""
    folder = tmp_path / "place"
    shutil.copytree(finished.root.parent.parent, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def isotherm(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The command line in this process: exit code, and all that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["isotherm", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run
