"""Ray's variables for all tests, and storages: a folder, and (slow) a bucket of a real S3 server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.tune import environment
from tests.s3 import CREDENTIALS, S3Server
from trainables.checkpoints.object_store import Storage, StoragePlace

environment.prepare()  # before any test file imports Ray, which reads them once

for _name in ("COLUMNS", "LINES"):  # GNU readline sets them, which pytest imports: what tests start is in no terminal
    os.environ.pop(_name, None)

# Files that take longest, the longest first: none is begun when the others are about to be over.
LONGEST = (
    "docker/test_containers.py",
    "docker/test_compose.py",
    "integration/test_sweep.py",
    "integration/test_installed.py",
    "integration/test_faults.py",
    "integration/test_probe.py",
    "integration/test_storage.py",
    "integration/test_cluster.py",
    "contracts/test_docs.py",
    "integration/test_stops.py",
    "tracking/test_callbacks.py",
    "tracking/test_outages.py",
    "integration/test_thermal.py",
    "integration/test_lost_ray.py",
    "integration/test_secrets.py",
    "thermal/test_governor.py",
    "planning/test_controls.py",
    "tune/test_memory.py",
    "contracts/test_keys.py",
    "integration/test_search.py",
    "integration/test_planted_law.py",
    "integration/test_chaos.py",
    "integration/test_own_parts_kinds.py",
    "hostile/test_mutated_runs.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutations", type=int, default=30, help="run directories that test_mutated_runs.py changes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get("/".join(item.path.parts[-2:]), len(rank)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest and pytest-xdist that ignore groups, whose tests would disturb each other unseen."""
    if session.config.getoption("loadgroup", default=False):
        grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
        if any("@" not in item.nodeid for item in grouped):
            raise pytest.UsageError(
                "pytest-xdist ignores `xdist_group` here: install the versions of requirements.lock"
            )


@pytest.fixture
def mutations(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--mutations"))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def storage_uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage path of each kind."""
    if request.param == "folder":
        (tmp_path / "storage").mkdir()
        return str(tmp_path / "storage")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("s3_server")
    return server.uri.replace("/sweeps", f"/{tmp_path.name}")


@pytest.fixture
def open_storage(storage_uri: str) -> Callable[[], Storage]:
    """Another process's view of one run's storage."""
    return lambda: Storage(StoragePlace(uri=storage_uri, run="run"))


@pytest.fixture
def storage(open_storage: Callable[[], Storage]) -> Storage:
    return open_storage()
