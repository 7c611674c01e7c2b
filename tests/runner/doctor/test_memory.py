"""Memory and cores from trees of files, shared memory from a real small file system."""

import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.config.settings import ProbeSpec
from runner.doctor import memory
from trainables.schema import ExecutionSpec


def group(root: Path, memory_max: int | None = None, cpu_max: str | None = None) -> Path:
    folder = root / "sys/fs/cgroup"
    folder.mkdir(parents=True, exist_ok=True)
    if memory_max is not None:
        (folder / "memory.current").write_text("0\n")
        (folder / "memory.max").write_text(f"{memory_max}\n")
    if cpu_max is not None:
        (folder / "cpu.max").write_text(f"{cpu_max}\n")
    return root


def test_memory_of_the_host(one: Any) -> None:
    found = one(memory.check, "memory")
    assert found.level == "ok"
    assert "12.3 GB" in found.what


@pytest.mark.parametrize(("limit", "level"), [(8 * 10**9, "ok"), (10**9, "warn"), (5 * 10**8, "error")])
def test_memory_of_a_container(place: Any, one: Any, limit: int, level: str) -> None:
    group(place.root, memory_max=limit)
    found = one(memory.check, "memory")
    assert found.level == level
    assert f"{limit / 1e9:.1f} GB" in found.what
    assert level == "ok" or "MEMORY=8g" in found.fix


def test_more_memory_asked_for_than_there_is(one: Any) -> None:
    asked = ProbeSpec.model_validate({"memory_limit": "64GB"})
    assert one(memory.check, "memory", probe=asked).level == "warn"
    on_gpu = ExecutionSpec(device="cuda")
    assert one(memory.check, "memory", probe=asked, execution=on_gpu).level == "ok", "that is the device's memory"


def test_cores(place: Any, one: Any) -> None:
    assert one(memory.check, "cores").level == "ok"
    many = ExecutionSpec(device="cpu", threads=1024)
    assert one(memory.check, "cores", execution=many).level == "error"
    group(place.root, cpu_max="50000 100000")
    found = one(memory.check, "cores")
    assert found.level == "warn"
    assert "0.5" in found.what
    group(place.root, cpu_max="max 100000")
    assert one(memory.check, "cores").level == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_shared_memory_of_a_default_container(place: Any, one: Any) -> None:
    shm = place.root / "dev/shm"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", shm], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        found = one(memory.check, "shared memory")
        assert found.level == "warn"
        assert "67 MB" in found.what
        assert "--shm-size" in found.fix
    finally:
        subprocess.run(["umount", shm], check=True)


def test_no_shared_memory(place: Any, one: Any) -> None:
    (place.root / "dev/shm").rmdir()
    assert one(memory.check, "shared memory").level == "warn"


@pytest.mark.parametrize(("limit", "levels"), [(-1, []), (4_000_000_000, ["error"]), (16_000_000_000, ["ok"])])
def test_a_limit_of_the_address_space(place: Any, limit: int, levels: list[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        found = [finding for finding in memory.check(place) if finding.check == "address space"]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert [finding.level for finding in found] == levels
