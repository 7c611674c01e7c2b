"""One image for all tests here."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker import bench
from tests.docker.bench import Bench
from tests.once import made_once


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image's name. Its layers stay in podman's store, so that a second run of the tests builds in seconds."""
    if why := bench.missing():
        pytest.skip(why)
    made_once(tmp_path_factory, "image", bench.build)
    return bench.IMAGE


@pytest.fixture
def place(image: str, tmp_path: Path) -> Iterator[Bench]:
    """A project's folder that belongs to an ordinary user."""
    folder = tmp_path / "project"
    shutil.copytree(bench.ROOT / "configs", folder / "configs")
    for path in (tmp_path, folder, *folder.rglob("*")):
        os.chown(path, bench.USER, bench.USER)
    around = bench.environment(tmp_path)
    one = Bench(folder, {**around, "ISOTHERM_CACHE_DIR": str(folder / "cache")})
    yield one
    one.clear()
