"""Real sweeps, through the command."""

import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import Descendants, Workplace
from tests.once import made_once
from tests.waiting import wait_for


@pytest.fixture(scope="session", autouse=True)
def probe_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the probe found out is kept for all tests: most of them train the same shapes."""
    Workplace.probe_cache = made_once(tmp_path_factory, "probe-cache", lambda folder: None)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    """A folder with a small sweep file; whatever was started in it and still runs is ended."""
    place = Workplace(tmp_path)
    place.write()
    yield place
    place.stop()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished sweep, once for all tests; they change nothing in it. What it has printed is in `printed`."""

    def sweep(folder: Path) -> None:
        place = Workplace(folder)
        place.write()
        (folder / "printed").write_text(place.run("sweep", "sweep.yaml", "--no-tracking").stdout)

    return Workplace(made_once(tmp_path_factory, "finished-under-ray", sweep))


@pytest.fixture(scope="session")
def calm(finished: Workplace) -> pd.DataFrame:
    """Results of an undisturbed sweep, for all the disturbed ones."""
    return finished.results()


@pytest.fixture(scope="session")
def orphans() -> Iterator[list[tuple[float, Descendants]]]:
    """What killed drivers had started, with the moment of the kill: 90 s later nothing of it may be left.

    That is looked at when all tests are over, so that none waits for it.
    """
    noted: list[tuple[float, Descendants]] = []
    yield noted
    for killed_at, started in noted:
        wait_for(lambda: not started.alive, timeout_s=max(1.0, killed_at + 90 - time.monotonic()))  # noqa: B023
