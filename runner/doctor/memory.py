"""Memory and cores as a container grants them, against what a sweep asks for."""

import resource
import shutil
from collections.abc import Iterator

from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, ok
from runner.host.footprint import OBJECT_STORE_BYTES, SWEEP_BYTES
from runner.host.memory_limits import cgroups, cpu_quota, host_limit, usable_cores

# Reserved, not used, by the largest of Ray's processes and ours: under 6 GB a small sweep ran; under 4 GB it waited for
# workers without end, under 2 GB Ray did not start.
LEAST_ADDRESSES = 6_000_000_000
LEAST_BYTES = 800_000_000  # Ray's own processes without a single trial


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Look at shared memory, memory, the address space and cores."""
    yield _shared_memory(place)
    yield _memory(place)
    yield from _address_space()
    yield _cores(place)


def _shared_memory(place: HostContext) -> Diagnosis:
    shm = place.root / "dev/shm"
    try:
        free = shutil.disk_usage(shm).free
    except OSError as error:
        return Diagnosis(
            check="shared memory",
            level="warn",
            what=f"{shm} cannot be read: {error.strerror}",
            why="Ray's object store goes to the disk instead, which is slow",
            fix="mount a tmpfs there: mount -t tmpfs -o size=1g tmpfs /dev/shm",
        )
    if free >= OBJECT_STORE_BYTES:
        return ok("shared memory", f"{shm} has {free / 1e6:,.0f} MB free")
    return Diagnosis(
        check="shared memory",
        level="warn",
        what=f"{shm} has {free / 1e6:,.0f} MB free; Ray's object store takes {OBJECT_STORE_BYTES / 1e6:,.0f} MB",
        why="what does not fit goes to the disk, which is slow; a container has 64 MB unless more is asked for",
        fix="give the container more: --shm-size 1g (docker, podman), shm_size: 1g (compose)",
    )


def _memory(place: HostContext) -> Diagnosis:
    limit = host_limit(place.root)
    groups = [group.limit for group in cgroups(place.root) if group.limit is not None]
    granted = f"; the container is granted {min(groups) / 1e9:.1f} GB" if groups else ""
    what = f"{limit.bytes / 1e9:.1f} GB can be used now ({limit.what}){granted}"
    asked = place.probe.memory_limit
    if limit.bytes < SWEEP_BYTES:
        return Diagnosis(
            check="memory",
            level="error" if limit.bytes < LEAST_BYTES else "warn",
            what=what,
            why=f"the driver, Ray and the trackers alone take about {SWEEP_BYTES / 1e9:.1f} GB",
            fix="give the container more: make docker-sweep MEMORY=8g; or stop what else uses it",
        )
    if asked is not None and place.execution.device != "cuda" and asked > limit.bytes:
        return Diagnosis(
            check="memory",
            level="warn",
            what=f"{what}; probe.memory_limit is {asked / 1e9:.1f} GB",
            why="the smaller of the two bounds the trials",
            fix="lower probe.memory_limit, or give the container more: MEMORY=...",
        )
    return ok("memory", what)


def _address_space() -> Iterator[Diagnosis]:
    """A limit of it (`ulimit -v`) is rare, and none is worth no line."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        enough = limit >= LEAST_ADDRESSES
        yield Diagnosis(
            check="address space",
            level="ok" if enough else "error",
            what=f"a process may reserve {limit / 1e9:.1f} GB (ulimit -v)",
            why="" if enough else "Ray's processes reserve far more than they use, and do not start",
            fix="" if enough else "ulimit -v unlimited; limit the memory by a container or a cgroup instead",
        )


def _cores(place: HostContext) -> Diagnosis:
    cores, quota = usable_cores(), cpu_quota(place.root)
    what = f"{cores} can be used" + ("" if quota is None else f"; a container limit grants the time of {quota:g}")
    threads = place.execution.threads
    if quota is not None and quota < 1:
        return Diagnosis(
            check="cores",
            level="warn",
            what=what,
            why="Ray's heartbeats and the governor's readings come late on less than one core",
            fix="give the container at least two: --cpus 2",
        )
    if threads != "auto" and int(threads) > cores:
        return Diagnosis(
            check="cores",
            level="error" if place.execution.device == "cpu" else "warn",
            what=f"{what}; execution.threads is {threads}",
            why="a trial asks Ray for as many cores as it has threads, and would wait for them without end",
            fix=f"set execution.threads to auto or at most {cores}",
        )
    return ok("cores", what)
