"""Real sweeps, through the command."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import LONGER, Workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    """A folder with a small sweep file; whatever was started in it and still runs is ended."""
    place = Workplace(tmp_path)
    place.write()
    yield place
    place.stop()


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Results of the undisturbed sweep, once for all the disturbed ones."""
    place = Workplace(tmp_path_factory.mktemp("calm"))
    place.write()
    place.run("sweep", "sweep.yaml", *LONGER)
    return place.results()
