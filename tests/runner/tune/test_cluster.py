"""A cluster as it is judged: kinds of nodes, what is refused, who gets which trial. Real Ray nodes on this host."""

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from runner.config import sweep_file
from runner.host.device import Device
from runner.host.versions import code_version
from runner.planning import execution as resources
from runner.planning.grid import expand
from runner.tune import cluster, environment
from runner.tune.cluster import Node
from runner.tune.launch import _cluster_resources
from tests.runner.conftest import MINIMAL
from trainables.errors import ConfigError
from trainables.schema import ExecutionRecord, Measured


def node(**changes: Any) -> Node:
    good = Node("1", "10.0.0.1", 8.0, Device("cpu", "CPU", 8), version=code_version(), memory_monitor="0")
    return dataclasses.replace(good, **changes)


def gpu(address: str, name: str, count: int = 1, **changes: Any) -> Node:
    return node(address=address, device=Device("cuda", name, count), accelerator=name, **changes)


def levels(*nodes: Node) -> list[tuple[str, str]]:
    return [(finding.check, finding.level) for finding in cluster.check(nodes)]


def test_good_nodes_are_ok() -> None:
    assert levels(node(), gpu("10.0.0.2", "H100")) == [("node 10.0.0.1", "ok"), ("node 10.0.0.2", "ok")]


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"error": "ModuleNotFoundError: runner"}, "error", "same image"),
        ({"version": "0.0.1"}, "error", "same code"),
        ({"unseen": ("/work/runs",)}, "error", "/work/runs"),
        ({"memory_monitor": ""}, "warn", "RAY_memory_monitor_refresh_ms=0"),
        ({"memory_monitor": "250"}, "warn", "is 250"),
    ],
)
def test_what_is_wrong_with_a_node(changes: dict[str, Any], level: str, words: str) -> None:
    findings = cluster.check([node(), node(address="10.0.0.2", **changes)])
    [found] = [one for one in findings if one.check == "node 10.0.0.2"]
    assert found.level == level
    assert words in f"{found.what} {found.why} {found.fix}"


def test_a_cluster_without_cores_is_refused() -> None:
    assert ("cluster", "error") in levels(node(cores=0.0))


def test_the_doctor_does_not_wait_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep waits 15 minutes for a cluster that grows; whoever asks the doctor wants an answer."""
    head = {"NodeID": "n", "NodeManagerAddress": "10.0.0.1", "Alive": True, "Resources": {"memory": 1.0}}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [head, head | {"Alive": False}])
    monkeypatch.setattr(cluster.time, "sleep", lambda _: pytest.fail("it waits"))
    assert cluster._alive(0.0) == [head]


def test_forecasts_count_the_cores_that_ray_gives_out(monkeypatch: pytest.MonkeyPatch) -> None:
    node_says = {"device": Device("cpu", "AMD EPYC", 64), "version": "1"}
    monkeypatch.setattr(cluster.ray, "get", lambda *_, **__: node_says.copy())
    node = {"NodeID": "n", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 4.0}}
    assert cluster.site([cluster._answer(node, None)]).device.count == 4


def test_trials_go_to_gpus_where_there_are_any() -> None:
    nodes = [node(), gpu("a", "H100", 8), gpu("b", "A100", 4, no_sensor="NVML does not start"), gpu("c", "H100", 8)]
    found = cluster.site(nodes)
    assert found.device == Device("cuda", "H100 and A100", 20, accelerators=("H100", "A100"))
    assert found.no_sensor == "node b: NVML does not start"
    assert cluster.site([node(), node(cores=0.0)]).device == Device("cpu", "CPU", 8)


def record(**changes: Any) -> ExecutionRecord:
    values = {"micro_batch": 8, "accumulation": 1, "threads": 1, "device": "cuda", "checkpoint_interval_s": 1.0}
    return ExecutionRecord.model_validate({**values, **changes})


def test_a_trial_asks_for_a_node_where_it_fits() -> None:
    def asked(**changes: Any) -> dict[str, float]:
        config = {"job": {"execution": record(**changes).model_dump(mode="json")}}
        return _cluster_resources(config).required_resources

    assert asked(accelerator="H100", gpu_share=0.5) == {"CPU": 1, "GPU": 0.5, "accelerator_type:H100": 0.001}
    assert asked() == {"CPU": 1, "GPU": 1.0}
    measured = Measured(peak_bytes=3 * 10**9, seconds_per_step=0.1)
    assert asked(device="cpu", measured=measured) == {"CPU": 1, "memory": 3 * 10**9}


@pytest.mark.parametrize(
    ("known", "here", "same"),
    [
        ("H100", ("H100", "A100"), True),
        ("H100", ("A100",), False),
        ("H100", (), True),
        ("", ("H100",), True),
        ("", ("H100", "A100"), False),
    ],
)
def test_what_was_pinned_holds_where_its_kind_is(known: str, here: tuple[str, ...], same: bool) -> None:
    execution = record(accelerator=known).model_dump(mode="json")
    assert resources._is_here(execution, Device("cuda", "x", 1, accelerators=here)) is same
    assert not resources._is_here(execution, Device("cpu", "x", 1))


def test_addresses_that_no_sweep_is_driven_from() -> None:
    with pytest.raises(ConfigError, match="Ray Client"):
        environment.join("ray://head:10001")


def test_an_address_that_does_not_answer_is_given_up_after_one_try(tmp_path: Path) -> None:
    """A port that takes connections and never says a word. Ray's own 20 tries would last minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        short = {"RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_py_gcs_connect_timeout_s": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "runner", "doctor", "--fast", "--address", address],
            cwd=tmp_path,
            env=os.environ | short | {"PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            timeout=45,
        )
    assert done.returncode == 2, done.stderr
    assert f"--address {address}: " in done.stderr
    assert sum("no sweep can be driven from here" in line for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.fixture
def two_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of this host's own: a head without cores, and two nodes whose 'kinds' differ."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOTHERM_CACHE_DIR", str(tmp_path / "cache"))
    ray.shutdown()
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for kind in ("Small", "Large"):
        started.add_node(num_cpus=1, resources={f"accelerator_type:{kind}": 1})
    ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    started.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_each_kind_is_probed_once_and_trials_are_shared_out(two_kinds: None, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(MINIMAL.replace("seed: [0]", "seed: [0, 1, 2, 3]"))
    sweep = sweep_file.load(tmp_path / "sweep.yaml", ["execution.micro_batch=64"])
    settings = sweep.settings
    nodes = cluster.survey(settings.execution, settings.thermal, (tmp_path / "runs", tmp_path / "data"))
    assert not [one for one in nodes if one.error], nodes
    assert sorted(one.accelerator for one in cluster.workers(nodes)) == ["Large", "Small"]
    assert all(one.version == code_version() and one.memory_monitor == "0" and not one.unseen for one in nodes)
    assert not list(tmp_path.rglob(".seen-*"))
    grid = expand(sweep, tmp_path / "data", site=cluster.site(nodes))
    with cluster.ClusterProber(nodes, settings, lambda text: None) as prober:
        decisions = [prober.decide(resources.question(cell, settings.execution, grid.device)) for cell in grid.cells]
    given = [one.record.accelerator for one in decisions]
    assert set(given) == {"Large", "Small"}, "kinds that are about equal share the trials"
    assert list((tmp_path / "cache").rglob("*.json")), "kept where the nodes' user keeps such things"
