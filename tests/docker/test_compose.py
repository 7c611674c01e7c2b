"""docker/compose.yaml brought up whole: a sweep beside its MLflow server, stopped, and brought up again."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.docker.bench import ROOT, USER, Bench, call
from tests.integration.workplace import SWEEP
from tests.servers import free_port
from tests.waiting import PATIENCE_S, wait_for

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.slow]

PROJECT = f"isotherm-test-{os.getpid()}"
PORT = "5000"  # in the file as shipped; on the host of these tests it is the one inside, too
# The host of these tests has no network of containers' own: services find each other on the host's.
ON_HOST = """\
services:
  mlflow: {network_mode: host}
  sweep-cpu: {network_mode: host, extra_hosts: ["mlflow:127.0.0.1"]}
"""
SERVICE = f"{PROJECT}_sweep-cpu_1"
Compose = Callable[..., list[str]]


def answers(place: Bench) -> bool:
    """Whether the MLflow server of the project does."""
    text = (place.folder / "docker" / "compose.yaml").read_text()
    [port] = re.findall(r'"127\.0\.0\.1:\${MLFLOW_PORT:-(\d+)}:', text)
    try:
        urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def compose(place: Bench) -> Iterator[Compose]:
    """A command line of podman-compose in a project's folder with the shipped file, its port apart."""
    port = str(free_port())
    (place.folder / "docker").mkdir()
    shipped = (ROOT / "docker" / "compose.yaml").read_text()
    assert f'"127.0.0.1:${{MLFLOW_PORT:-{PORT}}}:{PORT}"' in shipped
    (place.folder / "docker" / "compose.yaml").write_text(shipped.replace(PORT, port))
    (place.folder / "docker" / "on-host.yaml").write_text(ON_HOST)
    for name in ("data", "runs", "cache"):
        (place.folder / name).mkdir()
        shutil.chown(place.folder / name, USER, USER)
    place.around |= {"SWEEP": "configs/sweeps/small.yaml", "MEMORY": "3g"}

    def command(*arguments: str) -> list[str]:
        program = str(Path(sys.executable).parent / "podman-compose")
        files = ("-f", "docker/compose.yaml", "-f", "docker/on-host.yaml")
        return [program, "-p", PROJECT, *files, "--profile", "cpu", *arguments]

    yield command
    subprocess.run(command("down", "--volumes"), cwd=place.folder, env=place.around, capture_output=True, check=False)


def test_a_sweep_beside_its_tracker_is_stopped_and_brought_up_again(place: Bench, compose: Compose) -> None:
    text = SWEEP.replace("epochs: 2", "epochs: 90").replace("[20k, 60k]", "[20k]") + "tracking: {wandb: null}\n"
    (place.folder / "configs" / "sweeps" / "small.yaml").write_text(text)
    up = compose("up", "--exit-code-from", "sweep-cpu", "sweep-cpu")

    def status() -> int:
        return int(place.podman("inspect", "--format", "{{.State.ExitCode}}", SERVICE))

    with (place.folder / "up.log").open("w") as log:
        first = subprocess.Popen(up, cwd=place.folder, env=place.around, stdout=log, stderr=log, text=True)
    place.processes.append(first)
    checkpoints = place.folder / "runs" / "small" / "checkpoints"
    wait_for(lambda: first.poll() is not None or any(checkpoints.glob("*/checkpoint-*")), log=place.logs)
    # A server that is stopped while it makes its tables for the first time cannot start again.
    wait_for(lambda: first.poll() is not None or answers(place), log=place.logs)
    call(*compose("stop", "sweep-cpu"), cwd=place.folder, env=place.around)
    assert status() == 3, (place.folder / "up.log").read_text()[-4000:]
    assert first.wait(PATIENCE_S) == 3, "the command's exit code is the sweep's"
    assert any(record.get("status") == "interrupted" for record in place.ledger("small"))

    call(*compose("stop"), cwd=place.folder, env=place.around)  # on a busy host the server needs longer than `up` waits
    said = call(*up, cwd=place.folder, env=place.around)
    assert status() == 0, said[-4000:]
    [cell] = [one for one in place.ledger("small") if one["kind"] == "cell" and one["cell_kind"] == "model"]
    ends = [one["status"] for one in place.ledger("small") if one["kind"] == "ended" and one["key"] == cell["key"]]
    assert ends == ["interrupted", "finished"]
    owners = {path.stat().st_uid for name in ("data", "runs", "cache") for path in (place.folder / name).rglob("*")}
    assert owners == {USER}

    volume = place.podman("volume", "inspect", "--format", "{{.Mountpoint}}", f"{PROJECT}_mlflow").strip()
    copied = place.folder / "mlflow.db"
    shutil.copy(Path(volume) / "mlflow.db", copied)
    query = "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE tags.key = 'isotherm.key' AND tags.value = ?"
    with closing(sqlite3.connect(copied)) as database:
        runs = database.execute(query, [cell["key"]]).fetchall()
    assert runs == [("FINISHED",)], "one run of the trial, through both starts"
