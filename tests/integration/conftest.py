"""Real sweeps, through the command."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workplace import Workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    """A folder with a small sweep file; whatever was started in it and still runs is ended."""
    place = Workplace(tmp_path)
    place.write()
    yield place
    place.stop()
