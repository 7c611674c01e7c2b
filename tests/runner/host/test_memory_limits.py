"""Limits from fake ``proc`` and ``sys`` trees, and from this host's own."""

from pathlib import Path

from runner.host.memory_limits import Limit, cpu_quota, host_limit, oom_kills

GB = 10**9
MEMINFO = "MemTotal:       16000000 kB\nMemFree:         100000 kB\nMemAvailable:   12000000 kB\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(folder: str, limit: str, used: int, inactive: int = 0, kills: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\ninactive_file {inactive}\n",
        f"{folder}/memory.events": f"low 0\nhigh 0\nmax 9\noom 3\noom_kill {kills}\n",
    }


def v1(folder: str, limit: int, used: int, inactive: int = 0, kills: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"cache 5\ninactive_file 1\ntotal_inactive_file {inactive}\n",
        f"{folder}/memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    }


def test_without_groups_it_is_what_is_available(tmp_path: Path) -> None:
    assert host_limit(tree(tmp_path, {})) == Limit(12_000_000 * 1024, "available memory")


def test_version_2_less_what_others_use_with_cache_that_can_be_dropped(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a/b\n", **v2("sys/fs/cgroup/a/b", str(3 * GB), GB, GB // 4)}
    assert host_limit(tree(tmp_path, files)) == Limit(3 * GB - GB + GB // 4, "cgroup v2")


def test_the_tightest_level_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        **v2("sys/fs/cgroup/pod", str(2 * GB), GB),
        **v2("sys/fs/cgroup/pod/container", "max", GB // 2),
    }
    assert host_limit(tree(tmp_path, files)).bytes == GB


def test_in_a_container_the_limit_stands_at_the_mount(tmp_path: Path) -> None:
    inside = {"proc/self/cgroup": "0::/docker/0123\n", **v2("sys/fs/cgroup", str(3 * GB), 0)}
    assert host_limit(tree(tmp_path / "2", inside)) == Limit(3 * GB, "cgroup v2")
    inside = {"proc/self/cgroup": "4:cpu,memory:/docker/0123\n", **v1("sys/fs/cgroup/memory", 3 * GB, 0)}
    assert host_limit(tree(tmp_path / "1", inside)) == Limit(3 * GB, "cgroup v1")


def test_version_1_and_its_number_for_no_limit(tmp_path: Path) -> None:
    groups = {"proc/self/cgroup": "4:memory:/job\n1:cpu:/\n0::/\n", **v1("sys/fs/cgroup/memory", 2**63 - 4096, GB)}
    free = tree(tmp_path / "free", {**groups, **v1("sys/fs/cgroup/memory/job", 2**63 - 4096, GB)})
    assert host_limit(free).what == "available memory"
    tight = tree(tmp_path / "tight", {**groups, **v1("sys/fs/cgroup/memory/job", 2 * GB, GB)})
    assert host_limit(tight) == Limit(GB, "cgroup v1")


def test_kills_are_counted_in_the_own_group_else_on_the_host(tmp_path: Path) -> None:
    host = {"proc/vmstat": "nr_free_pages 5\noom_kill 7\n"}
    assert oom_kills(tree(tmp_path / "none", host)) == 7
    two = {**host, "proc/self/cgroup": "0::/a\n", **v2("sys/fs/cgroup/a", "max", 0, kills=2)}
    assert oom_kills(tree(tmp_path / "two", two)) == 2
    one = {**host, "proc/self/cgroup": "4:memory:/a\n", **v1("sys/fs/cgroup/memory/a", GB, 0, kills=3)}
    assert oom_kills(tree(tmp_path / "one", one)) == 3


def test_this_host() -> None:
    assert 0 < host_limit().bytes < 2**50
    assert oom_kills() >= 0


def test_the_time_of_cores_that_a_container_is_granted(tmp_path: Path) -> None:
    assert cpu_quota(tree(tmp_path / "none", {})) is None
    unlimited = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}
    assert cpu_quota(tree(tmp_path / "unlimited", unlimited)) is None
    nested = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/pod/container/cpu.max": "400000 100000\n",
    }
    assert cpu_quota(tree(tmp_path / "nested", nested)) == 1.5, "the tightest level counts"
    older = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota(tree(tmp_path / "older", older)) == 2.0, "in a container the group's own path is not there"
    older["sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "-1\n"
    assert cpu_quota(tree(tmp_path / "older_unlimited", older)) is None
