"""Two Ray nodes with addresses of their own, in two network namespaces; one is cut off or gets hot while it trains."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from tests.integration.monitors import MONITORED, heat
from tests.integration.workplace import SLOW_STEPS, SWEEP, Workplace, command_line, same
from tests.waiting import PATIENCE_S, wait_for

PORT = 6399
HEAD, OTHER = "10.213.77.1", "10.213.77.2"
# A lost node is noticed in a quarter of a minute instead of a whole one.
LONG_WAITS = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "15",
}
UNWATCHED = "thermal: {require_sensors: false}\n"
PLANT = "thermal: {sensor: plant, plant: {ambient_celsius: 30}}\n"
HWMON = "thermal: {sensor: hwmon, interval_s: 0.3, min_hold_s: 0, hold_timeout_s: 3}\n"
COOL, HOT = 45.0, 90.0  # hold is at 88, stop at 95


@dataclass
class Network:
    """Two namespaces, `a` and `b`, with a cable between them."""

    name: str
    folder: Path
    workplace: Workplace
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def ip(self, *arguments: str) -> str:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout

    def make(self) -> None:
        for end in "ab":
            self.ip("netns", "add", f"{self.name}{end}")
        self.ip("link", "add", f"{self.name}a", "type", "veth", "peer", "name", f"{self.name}b")
        for end, address in zip("ab", (HEAD, OTHER), strict=True):
            space = ("-n", f"{self.name}{end}")
            self.ip("link", "set", f"{self.name}{end}", "netns", f"{self.name}{end}")
            self.ip(*space, "addr", "add", f"{address}/24", "dev", f"{self.name}{end}")
            self.ip(*space, "link", "set", f"{self.name}{end}", "up")
            self.ip(*space, "link", "set", "lo", "up")

    def cut(self) -> None:
        """Pull the cable."""
        self.ip("-n", f"{self.name}a", "link", "set", f"{self.name}a", "down")

    def heat(self, end: str, celsius: float) -> None:
        """What the CPU's sensor of a node reads from now on."""
        heat(self.folder / f"hwmon-{end}", celsius)

    def inside(self, end: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.name}{end}", *command]

    def processes(self, end: str) -> list[int]:
        return [int(pid) for pid in self.ip("netns", "pids", f"{self.name}{end}").split()]

    def environment(self) -> dict[str, str]:
        """Without what other tests in this process have set for a Ray of their own."""
        kept = {name: value for name, value in self.workplace.environment().items() if not name.startswith("RAY_")}
        return {
            **kept,
            **LONG_WAITS,
            "PYTHONPATH": os.pathsep.join((str(SLOW_STEPS), str(Path(__file__).resolve().parents[2]))),
            "SLOW_STEP_S": "1",  # both trials last until something happens to one of them
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    @property
    def log(self) -> Path:
        """What the sweep has said."""
        return self.folder / "sweep.log"

    def logs(self) -> str:
        return "".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))

    def start_ray(self, end: str, *options: str) -> None:
        ray = str(Path(sys.executable).parent / "ray")
        command = [ray, "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", *options]
        self.heat(end, COOL)
        # `ip netns exec` gives a node a /sys of its own.
        command = ["sh", "-c", MONITORED, str(self.folder / f"hwmon-{end}"), *command]
        with (self.folder / f"ray-{end}.log").open("w") as log:
            self.started.append(
                subprocess.Popen(self.inside(end, *command), env=self.environment(), stdout=log, stderr=log)
            )

    def clear(self) -> None:
        for end in "ab":
            for pid in self.processes(end):
                os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.wait(PATIENCE_S)
        for end in "ab":
            subprocess.run(["ip", "netns", "del", f"{self.name}{end}"], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def network(workplace: Workplace) -> Iterator[Network]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs the Debian package iproute2, and root")
    name = f"iso{secrets.token_hex(3)}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no network namespaces here: {tried.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", name], check=True)
    folder = Path("/tmp") / name  # short: Ray's sockets lie below it
    folder.mkdir()
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    one = Network(name, folder, workplace)
    one.make()
    try:
        yield one
    finally:
        one.clear()


def name_of(pid: int) -> str:
    try:
        return command_line(psutil.Process(pid))
    except psutil.Error:
        return ""


def start(network: Network, workplace: Workplace) -> subprocess.Popen[bytes]:
    """A sweep over both nodes, once each of its two trials has a checkpoint."""
    network.start_ray(
        "a",
        "--head",
        f"--node-ip-address={HEAD}",
        f"--port={PORT}",
        "--include-dashboard=false",
        f"--temp-dir={network.folder}/ray",
    )
    wait_for((network.folder / "ray" / "ray_current_cluster").exists, log=network.logs)
    network.start_ray("b", f"--address={HEAD}:{PORT}", f"--node-ip-address={OTHER}")
    doctor = [*workplace.command("doctor", "sweep.yaml"), "--address", f"{HEAD}:{PORT}", "--json"]

    def both_are_good() -> bool:
        with (network.folder / "doctor.log").open("w") as log:
            subprocess.run(
                network.inside("a", *doctor), cwd=workplace.folder, env=network.environment(), stdout=log, stderr=log
            )
        said = (network.folder / "doctor.log").read_text()
        found = json.loads(said)["findings"] if said.startswith("{") else []
        good = {one["check"] for one in found if one["check"].startswith("node ") and one["level"] == "ok"}
        return good == {f"node {HEAD}", f"node {OTHER}"}

    wait_for(both_are_good, log=network.logs)

    command = [*workplace.command("sweep", "sweep.yaml"), "--address", f"{HEAD}:{PORT}", "--no-tracking"]
    with network.log.open("w") as output:
        sweep = subprocess.Popen(
            network.inside("a", *command), cwd=workplace.folder, env=network.environment(), stdout=output, stderr=output
        )
    network.started.append(sweep)

    def both_train() -> bool:
        folders = {path.parent.name for path in workplace.folder.glob("runs/small/checkpoints/*/checkpoint-*")}
        return sweep.poll() is not None or len(folders) == 2

    wait_for(both_train, log=network.logs)
    assert sweep.poll() is None, network.log.read_text()
    return sweep


@pytest.mark.slow
def test_a_node_is_cut_off_and_everything_finishes(network: Network, workplace: Workplace, calm: pd.DataFrame) -> None:
    workplace.write(SWEEP.replace(UNWATCHED, PLANT))
    sweep = start(network, workplace)
    network.cut()
    assert sweep.wait(PATIENCE_S) == 0, network.log.read_text()[-4000:]
    results = workplace.results()
    same(calm, results)
    assert list(results["status"]) == ["finished", "finished"]
    assert sorted(results["attempts"]) == [1, 2], (
        "the trial of the lost node went on elsewhere, the other was not touched"
    )
    thermal = pd.read_parquet(workplace.folder / "runs/small/thermal.parquet")
    assert thermal["node"].nunique() == 2, "each node has a governor of its own"


@pytest.mark.slow
def test_heat_on_one_node_holds_its_trial_alone_whatever_happens_to_the_governor(
    network: Network, workplace: Workplace
) -> None:
    workplace.write(SWEEP.replace(UNWATCHED, HWMON))
    sweep = start(network, workplace)
    network.heat("b", HOT)

    def records(kind: str) -> list[dict[str, Any]]:
        return [record for record in workplace.ledger() if record["kind"] == kind]

    def ended() -> list[str]:
        models = {record["key"] for record in records("cell") if record["cell_kind"] == "model"}
        return [record["key"] for record in records("ended") if record["key"] in models]

    def told(words: str) -> bool:
        return any(words in record["message"] for record in records("event") if record["what"] == "thermal")

    wait_for(lambda: len(ended()) == 1, log=network.logs)
    wait_for(lambda: told("hold"), log=network.logs)
    time.sleep(5)  # a slice that was under way is reported
    steps = len(records("metrics"))
    [governor] = [pid for pid in network.processes("b") if "Governor" in name_of(pid)]
    os.kill(governor, signal.SIGKILL)
    wait_for(lambda: told("is replaced"), log=network.logs)
    time.sleep(3)
    assert len(records("metrics")) == steps, "the trial on the hot node waits, with a new governor, too"
    assert len(ended()) == 1

    network.heat("b", COOL)
    assert sweep.wait(PATIENCE_S) == 0, network.log.read_text()[-4000:]
    results = workplace.results()
    assert list(results["status"]) == ["finished", "finished"]
    assert list(results["attempts"]) == [1, 1]
    cool, hot = sorted(results["held_seconds"])
    assert cool == 0
    assert hot > 3
    hottest = pd.read_parquet(workplace.folder / "runs/small/thermal.parquet").groupby("node")["celsius"].max()
    assert sorted(hottest) == [COOL, HOT]
