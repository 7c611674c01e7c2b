"""Drivers of one run, each on a machine of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runner.storage.driver import Driver
from trainables.checkpoints.object_store import Storage


@pytest.fixture
def make_driver(tmp_path: Path, open_storage: Callable[[], Storage]) -> Iterator[Callable[[str], Driver]]:
    drivers: list[Driver] = []

    def make(machine: str) -> Driver:
        drivers.append(Driver(tmp_path / machine, open_storage()))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.stop()
