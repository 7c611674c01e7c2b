"""How much memory there is: on a host the smallest of what it has, what is free, and what cgroups allow.

Container limits are what is most often misread, so both versions of cgroups are read, on every level between this
process and the root, and what others in the same group already use is taken off. Page cache that the kernel can drop
(``inactive_file``) counts as free.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.host.cuda import cuda_memory

NO_LIMIT = 2**60  # cgroup v1 writes 'none' as the largest page-aligned number, 2**63 - 4096
ROOT = Path("/")


@dataclass(frozen=True)
class Limit:
    """Bytes that one process more may take now, and what sets the bound."""

    bytes: int
    what: str


@dataclass(frozen=True)
class Cgroup:
    """A memory control group that this process is in."""

    limit: int | None
    used: int
    reclaimable: int
    oom_kills: int | None
    version: int

    @property
    def free(self) -> int | None:
        """Bytes until the limit, with dropped page cache; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.used + min(self.reclaimable, self.used))


def host_limit(root: Path = ROOT) -> Limit:
    """The smallest of physical memory, available memory and what the cgroups leave.

    Args:
        root: where ``proc`` and ``sys`` are, for tests.
    """
    meminfo = _table(root / "proc/meminfo")
    limits = [Limit(groups.free, f"cgroup v{groups.version}") for groups in cgroups(root) if groups.free is not None]
    if "MemTotal" in meminfo:
        limits.append(Limit(meminfo["MemTotal"] * 1024, "physical memory"))
        limits.append(Limit(meminfo.get("MemAvailable", meminfo["MemTotal"]) * 1024, "available memory"))
    else:  # no Linux
        import psutil

        memory = psutil.virtual_memory()
        limits += [Limit(memory.total, "physical memory"), Limit(memory.available, "available memory")]
    return min(limits, key=lambda limit: limit.bytes)


def device_limit() -> Limit:
    """Free memory of the first visible GPU."""
    return Limit(cuda_memory().free, "free device memory")


def cgroups(root: Path = ROOT) -> Iterator[Cgroup]:
    """Memory groups of this process, from its own up to the root of what can be seen."""
    for controllers, path in _memberships(root):
        if controllers == "":
            for mount in (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"):
                yield from (_v2(folder) for folder in _upwards(mount, path, "memory.current"))
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            yield from (_v1(folder) for folder in _upwards(mount, path, "memory.usage_in_bytes"))


def usable_cores() -> int:
    """Cores that this process may use: those it may run on, or fewer where a container limits its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores' worth of time that the tightest control group allows (``docker run --cpus``); None without a limit."""
    quotas = [quota for folder in _cpu_folders(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """The groups of this process: version 1's controllers, separated by commas ('' for version 2), and the path."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _cpu_folders(root: Path) -> Iterator[Path]:
    for controllers, path in _memberships(root):
        if controllers == "":
            yield from _upwards(root / "sys/fs/cgroup", path, "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"):
                yield from _upwards(root / mount, path, "cpu.cfs_quota_us")


def _quota(folder: Path) -> float | None:
    """Version 2 writes ``quota period`` in one file, version 1 in two; 'max' and -1 mean none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except OSError:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def oom_kills(root: Path = ROOT) -> int:
    """Processes that the kernel has killed for lack of memory, as far as this process can know.

    The counter of its own cgroup where there is one, else the whole host's.
    """
    for group in cgroups(root):
        if group.oom_kills is not None:
            return group.oom_kills
    return _table(root / "proc/vmstat").get("oom_kill", 0)


def _upwards(mount: Path, path: str, file: str) -> Iterator[Path]:
    """Folders from a group up to the mount. In a container the group's own path is often not there, the mount is."""
    folder = mount / path.strip("/")
    while folder != mount:
        if (folder / file).exists():
            yield folder
        folder = folder.parent
    if (mount / file).exists():
        yield mount


def _v2(folder: Path) -> Cgroup:
    return Cgroup(
        limit=_number(folder / "memory.max"),
        used=_number(folder / "memory.current") or 0,
        reclaimable=_table(folder / "memory.stat").get("inactive_file", 0),
        oom_kills=_table(folder / "memory.events").get("oom_kill"),
        version=2,
    )


def _v1(folder: Path) -> Cgroup:
    return Cgroup(
        limit=_number(folder / "memory.limit_in_bytes"),
        used=_number(folder / "memory.usage_in_bytes") or 0,
        reclaimable=_table(folder / "memory.stat").get("total_inactive_file", 0),
        oom_kills=_table(folder / "memory.oom_control").get("oom_kill"),
        version=1,
    )


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return None if text == "max" or int(text) >= NO_LIMIT else int(text)


def _table(path: Path) -> dict[str, int]:
    """``name value`` or ``name: value kB`` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", " ").split() for line in lines)
    return {words[0]: int(words[1]) for words in pairs if len(words) > 1 and words[1].isdigit()}
