"""The image as a user has it: real containers with a memory limit, an ordinary user and a read-only root."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tests.docker.bench import CANARY, IMAGE, ROOT, USER, Bench, call
from tests.integration.workplace import SWEEP
from tests.servers import free_port
from tests.waiting import PATIENCE_S, wait_for

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.slow]

NAME = f"isotherm-test-{os.getpid()}"  # of containers; a killed test of before may have left some
MLFLOW = f"{NAME}-mlflow"
SHELL = """\
id -u
stat -c %U%G%a /opt/isotherm/bin/isotherm
touch /opt/isotherm/x 2>/dev/null || echo read-only
touch "$HOME/x" && echo home
bash --login -c 'command -v ray isotherm rsync ssh | xargs'
isotherm doctor --fast --json
"""


def write(place: Bench, text: str) -> None:
    (place.folder / "sweep.yaml").write_text(text)


def bring(place: Bench, example: str) -> str:
    """A part of the user's own, in the working folder."""
    shutil.copy(ROOT / "examples" / example, place.folder)
    return example


def test_a_shell_a_trial_and_the_doctor_inside(place: Bench) -> None:
    said = place.make("docker-shell", "MEMORY=2g", stdin=SHELL).stdout
    user, owner, locked, home, found_by_ray_up, document = said.split("\n", 5)
    assert (user, owner, locked, home) == (str(USER), "rootroot755", "read-only", "home")
    assert found_by_ray_up == "/opt/isotherm/bin/ray /opt/isotherm/bin/isotherm /usr/bin/rsync /usr/bin/ssh"
    found = {finding["check"]: finding for finding in json.loads(document)["findings"]}
    assert found["temporary files"]["level"] == "ok", "docker/run itself has made /tmp as large as it is"
    assert "the container is granted 2.1 GB" in found["memory"]["what"]
    assert {finding["level"] for finding in found.values()} <= {"ok", "warn"}
    write(place, SWEEP)
    own = f"--plugin {bring(place, 'my_architecture.py')} --set model.name=tcn"
    done = place.make("docker-debug", "SWEEP=sweep.yaml", "BUDGET=20k", f"ARGS=--steps 3 {own}")
    assert "step 3/50" in done.stdout


def start_mlflow(place: Bench, port: int) -> str:
    """MLflow's server as docker/compose.yaml has it, with its database on a volume."""
    (place.folder / "mlflow").mkdir()
    (place.folder / "mlflow").chmod(0o777)
    place.started.append(MLFLOW)
    place.podman(
        *("run", "--detach", "--name", MLFLOW, "--user", f"{USER}:{USER}"),
        *("--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp:rw,mode=1777"),
        *("--volume", f"{place.folder}/mlflow:/mlflow", IMAGE),
        *("mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"),
        *("--backend-store-uri=sqlite:////mlflow/mlflow.db", "--artifacts-destination=/mlflow/artifacts"),
        f"--allowed-hosts=127.0.0.1:{port}",
    )
    return f"http://127.0.0.1:{port}"


def test_stopped_killed_and_without_its_tracker_nothing_is_lost(place: Bench) -> None:
    """With a memory limit and a loss of one's own, as an ordinary user, to whom all that was written belongs."""
    own = ("--plugin", bring(place, "my_loss.py"), "--set", "training.loss=robust")
    uri = start_mlflow(place, free_port())
    text = SWEEP.replace("epochs: 2", "epochs: 90").replace("[20k, 60k]", "[20k]")
    write(place, text + f"tracking: {{mlflow: {{uri: '{uri}'}}, wandb: null}}\n")

    def checkpoints() -> set[Path]:
        return set(place.folder.glob("runs/small/checkpoints/*/*"))

    def start(name: str) -> subprocess.Popen[str]:
        before = checkpoints()
        sweep = place.start(name, "isotherm", "sweep", "sweep.yaml", *own, MEMORY="3g")
        wait_for(lambda: sweep.poll() is not None or bool(checkpoints() - before), log=place.logs)
        return sweep

    first = start(f"{NAME}-1")
    place.podman("stop", "--time", "5", MLFLOW)
    place.podman("stop", f"{NAME}-1")  # with the grace period that docker/run asks for
    assert first.wait(PATIENCE_S) == 3, "not 137: it ended by itself"
    interrupted = [record for record in place.ledger("small") if record.get("status") == "interrupted"]
    assert interrupted
    assert "resume with: isotherm sweep sweep.yaml" in (place.folder / f"{NAME}-1.log").read_text()

    second = start(f"{NAME}-2")
    place.podman("kill", "--signal", "KILL", f"{NAME}-2")
    assert second.wait(PATIENCE_S) == 128 + signal.SIGKILL

    place.podman("start", MLFLOW)
    done = place.make("docker-sweep", "SWEEP=sweep.yaml", "MEMORY=3g", f"ARGS={' '.join(own)}")
    assert f"{IMAGE} with podman as {USER}:{USER}, at most 3g of memory" in done.stderr
    assert "no NVIDIA GPU answers on this host: CPU" in done.stderr
    assert "1 finished" in done.stdout
    written = [path for name in ("runs", "data", "cache") for path in (place.folder / name).rglob("*")]
    assert (place.folder / "runs/small/report.html") in written
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(USER, USER)}
    shown = json.loads(
        place.make("docker-plan", "SWEEP=sweep.yaml", "MEMORY=3g", f"ARGS=--json {' '.join(own)}").stdout
    )
    assert {cell["state"] for cell in shown["cells"]} == {"done"}
    records = place.ledger("small")
    started = next(record for record in records if record["kind"] == "sweep_started")
    [document] = json.loads(place.podman("image", "inspect", IMAGE))
    assert started["code_version"] == document["Config"]["Labels"]["org.opencontainers.image.version"]
    assert "+g" in started["code_version"], "the image knows its commit"
    ends = {record["key"]: record for record in records if record["kind"] == "ended"}
    cells = [record for record in records if record["kind"] == "cell"]
    models = {record["key"] for record in cells if record["cell_kind"] == "model"}
    assert len(models) == 1
    assert "plugin my_loss.py" in {part["origin"] for cell in cells for part in cell.get("parts", ())}
    assert {ends[key]["status"] for key in models} == {"finished"}
    assert max(record["attempt"] for record in records if record["kind"] == "attempt") == 3
    validated = {key: {one["step"] for one in records if one.get("key") == key and _validates(one)} for key in models}
    assert all(validated.values())
    # What the end of the sweep had no time for.
    call(ROOT / "docker" / "run", "isotherm", "sync", "small", cwd=place.folder, env=place.around)
    _all_arrived(uri, validated)


def _validates(record: dict[str, Any]) -> bool:
    return record["kind"] == "metrics" and "val_loss" in record["values"]


def _all_arrived(uri: str, validated: dict[str, set[int]]) -> None:
    """MLflow has one run for each trial, finished, with every validation that the ledger has."""
    client = MlflowClient(uri)
    [experiment] = [one for one in client.search_experiments() if one.name == "isotherm"]
    every = client.search_runs([experiment.experiment_id])
    found = [run for run in every if run.data.tags.get("isotherm.key") in validated]
    assert sorted(run.data.tags["isotherm.key"] for run in found) == sorted(validated), "one run for each trial"
    for run in found:
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "val_loss")
        assert {one.step for one in history} == validated[run.data.tags["isotherm.key"]]


def test_the_image_holds_no_secret_and_nothing_that_others_may_change(place: Bench) -> None:
    inside = ["run", "--rm", "--user", "0", "--entrypoint", "find", IMAGE]
    ours = ("/opt/isotherm", "/usr/local", "/work", "/home", "/mlflow")
    assert place.podman(*inside, *ours, "-perm", "-0002", "-not", "-type", "l") == ""
    assert place.podman(*inside, *ours, "-perm", "/6000") == ""
    assert place.podman(*inside, "/opt/isotherm", "/usr/local", "-not", "-user", "root") == ""
    assert place.podman(*inside, "/", "-xdev", "-name", ".env*", "-type", "f") == ""
    assert place.podman(*inside, "/root", "/home", "/opt", "-path", "*/.cache/*", "-type", "f") == ""
    for tool in ("gcc", "cc", "make", "git"):
        assert place.podman(*inside, "/usr/bin", "/usr/local/bin", "/opt/isotherm/bin", "-name", tool) == ""
    # Everything that was beside the source in the build holds this word.
    grep = [*inside[:-2], "grep", IMAGE, "-rlI", CANARY, "/opt/isotherm", "/work", "/home"]
    assert place.podman(*grep, expect=1) == ""
    assert CANARY not in call("podman", "history", "--no-trunc", IMAGE, env=place.around)


def test_what_the_image_says_of_itself(place: Bench) -> None:
    [document] = json.loads(place.podman("image", "inspect", IMAGE))
    config = document["Config"]
    assert config["User"] == "isotherm"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.version"].startswith("0.")
    assert config["Labels"]["isotherm.variant"] == "cpu"
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in config["Env"]
    assert document["Healthcheck"]["Test"] == ["CMD", "isotherm", "doctor", "--fast"]
    assert not [line for line in config["Env"] if any(word in line for word in ("KEY", "TOKEN", "PASSWORD"))]
