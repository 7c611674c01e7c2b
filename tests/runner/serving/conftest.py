"""One finished run for all tests of its models, and its bars as a file."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from runner.rundir.paths import RunPaths
from tests.finished import finished_run
from tests.once import made_once


def bars() -> pd.DataFrame:
    """The S&P 500's bars that ship, as a file of them would be."""
    found = importlib.util.find_spec("arch")
    assert found is not None
    assert found.submodule_search_locations
    return pd.read_csv(Path(found.submodule_search_locations[0]) / "data" / "sp500" / "sp500.csv.gz")


def _make(folder: Path) -> None:
    finished_run(folder)
    bars().to_csv(folder / "new.csv", index=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Two trials and four baselines of S&P 500 bars; in the folder above `runs`, the same bars as `new.csv`."""
    return RunPaths(made_once(tmp_path_factory, "finished", _make) / "runs" / "tiny")


@pytest.fixture
def place(finished: RunPaths, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's working directory."""
    folder = finished.root.parent.parent
    monkeypatch.chdir(folder)
    return folder
