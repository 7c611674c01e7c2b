"""How Ray is started: what it listens on, who may talk to it, and what it leaves behind."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runner.host.footprint import LONGEST_SESSIONS
from runner.tune import environment
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
MIB = 2**20


def python(script: str, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def test_the_object_store_fits_into_shared_memory(tmp_path: Path) -> None:
    assert environment.object_store_bytes(tmp_path / "absent") == 200 * MIB
    assert environment.object_store_bytes(tmp_path) == 200 * MIB, "a disk of gigabytes"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize(("size", "store"), [(64, 78), (128, 102)])
def test_the_object_store_of_a_small_container(tmp_path: Path, size: int, store: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        assert environment.object_store_bytes(tmp_path) // MIB == store, "Ray takes no less than 75 MiB"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_long_folder_for_temporary_files_is_answered_with_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/scratch")
    assert environment.temp_base() == Path("/scratch")
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/users/someone")  # 22 characters
    assert environment.temp_base() == Path("/tmp")


SAYS = (
    "import os\nfrom runner.tune import environment\nenvironment.prepare({})\nprint(os.environ.get('RAY_AUTH_TOKEN'))"
)


def test_each_sweep_makes_its_own_token_unless_there_is_one() -> None:
    first, second = python(SAYS.format("")), python(SAYS.format(""))
    assert len(first) == 64
    assert first != second
    assert python(SAYS.format(""), RAY_AUTH_TOKEN="given") == "given"
    assert python(SAYS.format(""), RAY_AUTH_TOKEN_PATH="/some/file") == "None"
    assert python(SAYS.format("cluster=True")) == "None", "a cluster has its own"


COPIED = """\
import json
from runner.tune import environment
environment.prepare()
environment._copy_no_secrets()
from ray.tune.execution.class_cache import _ActorClassCache
class Trial: pass
print(json.dumps(_ActorClassCache().get(Trial)._default_options["runtime_env"]["env_vars"]))
"""


def test_tune_copies_nothing_but_an_allow_list_to_workers() -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
    copied = json.loads(python(COPIED, **dict.fromkeys(names, "canary")))
    allowed = ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "MLFLOW_DISABLE_TELEMETRY")
    assert set(copied) <= {"PL_DISABLE_FORK", *allowed}
    assert "RAY_CHDIR_TO_TRIAL_DIR" in copied


STARTED = """\
import json, os, subprocess, sys
from pathlib import Path
import psutil
from runner.host.device import Device
from runner.tune import environment
environment.prepare()
environment.start(Device("cpu", "x", 1))
import ray
address, temp = ray.get_runtime_context().gcs_address, ray._private.worker.global_worker.node.get_temp_dir_path()
mode = Path(temp).parent.stat().st_mode & 0o777
paths, inherited = ray.get(ray.remote(lambda: (sys.path, os.environ.get("AWS_SESSION_TOKEN"))).remote())
listening = []
for process in psutil.Process().children(recursive=True):
    try:
        sockets = process.net_connections("inet")
    except psutil.Error:  # it has ended
        continue
    for socket in sockets:
        if socket.status == psutil.CONN_LISTEN:
            listening.append(socket.laddr.ip)
around = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
stranger = subprocess.run(
    [sys.executable, "-c", "import sys, ray; ray.init(address=sys.argv[1])", address],
    env={**around, "HOME": "/nonexistent"}, capture_output=True, text=True,
)
environment.stop()
print(json.dumps({
    "listening": sorted(set(listening)), "stranger": stranger.returncode, "said": stranger.stderr[-2000:],
    "temp": temp, "mode": mode, "left": os.path.exists(temp), "paths": paths, "current": os.getcwd(),
    "inherited": inherited,
}))
"""


@pytest.mark.slow
def test_ray_listens_on_the_loopback_address_only_and_knows_its_own() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as base:
        found = json.loads(python(STARTED, RAY_TMPDIR=base, AWS_SESSION_TOKEN="given"))
        assert Path(found["temp"]).parents[1] == Path(base)
        assert not list(Path(base).iterdir()), "the folder of its own is removed"
    assert found["mode"] == 0o700, "Ray's own folder in it has mode 777"
    assert found["current"] not in found["paths"], "workers import what is installed"
    assert found["inherited"] == "given", "workers on this host have what storages need"
    assert found["listening"]
    assert all(address in ("127.0.0.1", "::ffff:127.0.0.1", "::1") for address in found["listening"]), found
    assert found["stranger"] != 0, "without the token nobody gets in"
    assert "token" in found["said"].lower()
    assert len(found["temp"]) <= LONGEST_SESSIONS
    assert not found["left"]
