"""A place to examine: folders of this test's own, and a small tree in place of ``proc``, ``sys`` and ``dev``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.config.settings import RayEnvironment, Secrets
from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis

MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:   12000000 kB\n"
Check = Callable[[HostContext], Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostContext:
    """All is well here: no GPU, 12 GB of memory, folders that can be written. No setting of the caller's gets in."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "root"
    for folder in ("proc/self", "sys", "dev/shm"):
        (root / folder).mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (root / "proc/self/cgroup").write_text("0::/\n")
    folders = {name: tmp_path / name for name in ("runs", "data", "cache", "home", "temp")}
    for folder in folders.values():
        folder.mkdir()
    return HostContext(**folders, root=root, ray=RayEnvironment(), secrets=Secrets())


@pytest.fixture
def one(place: HostContext) -> Callable[..., Diagnosis]:
    """The one finding of a check about one thing, with parts of the place changed."""

    def find(check: Check, name: str, **changes: Any) -> Diagnosis:
        found = [finding for finding in check(replace(place, **changes)) if finding.check == name]
        assert len(found) == 1, found
        return found[0]

    return find
