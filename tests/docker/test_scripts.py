"""docker/build and docker/run up to the engine's command line, with engines and drivers that only say what they get."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docker import bench

ROOT = Path(__file__).resolve().parents[2]
SAYS = """#!/bin/bash
if [ "$1" = info ]; then {info}; fi
if [ "$1 $2" = "image inspect" ]; then exit {inspect}; fi
printf '%s\\n' "$@"
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of commands that goes before all others; the system's own without docker, podman and nvidia-smi."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bash", "sed", "git", "id", "stat", "mkdir", "chown", "paste", "dirname", "ls", "env", "sort", "wc"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def add(tools: Path, name: str, text: str) -> None:
    path = tools / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def engine(tools: Path, name: str, *, works: bool = True, has_image: bool = True, rootless: bool = False) -> None:
    info = f"echo {str(rootless).lower()}; exit 0" if works else "exit 1"
    add(tools, name, SAYS.format(info=info, inspect=0 if has_image else 1))


@pytest.fixture
def run(tools: Path, tmp_path: Path) -> Run:
    folder = tmp_path / "project"
    (folder / "configs").mkdir(parents=True)

    def call(*command: str, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(tools), "HOME": str(tmp_path), **variables}
        script = str(ROOT / "docker" / command[0])
        done = subprocess.run(
            [script, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, done.stderr
        return done

    return call


def after(output: str, option: str) -> list[str]:
    """The values of an option."""
    words = output.splitlines()
    return [words[place + 1] for place, word in enumerate(words) if word == option]


def test_an_engine_without_its_daemon_is_none(tools: Path, run: Run) -> None:
    engine(tools, "docker", works=False)
    failed = run("run", "isotherm", expect=2)
    assert "neither docker nor podman works here; fix:" in failed.stderr
    engine(tools, "podman")
    assert "with podman" in run("run", "isotherm").stderr
    engine(tools, "docker")
    assert "with docker" in run("run", "isotherm").stderr
    assert "with podman" in run("run", "isotherm", ENGINE="podman").stderr


def test_a_gpu_is_found_and_said(tools: Path, run: Run) -> None:
    engine(tools, "docker")
    done = run("run", "isotherm", "doctor")
    assert "no NVIDIA GPU answers on this host: CPU" in done.stderr
    assert "--gpus" not in done.stdout
    assert done.stdout.splitlines()[-3:] == ["localhost/isotherm:cpu", "isotherm", "doctor"]
    add(tools, "nvidia-smi", "#!/bin/bash\necho NVIDIA H100\necho NVIDIA H100\n")
    done = run("run", "isotherm", "doctor")
    assert "host GPU: NVIDIA H100,NVIDIA H100" in done.stderr
    assert after(done.stdout, "--gpus") == ["all"]
    assert "localhost/isotherm:cuda" in done.stdout
    assert "--gpus" not in run("run", "isotherm", GPU="none").stdout
    add(tools, "nvidia-smi", "#!/bin/bash\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert "CPU" in run("run", "isotherm").stderr


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("0", '"device=0"'),
        ("1, 0", '"device=1,0"'),
        ("GPU-1a2b,GPU-3c4d", '"device=GPU-1a2b,GPU-3c4d"'),
        ("1,-1,0", '"device=1"'),
        ("", None),
        ("-1", None),
    ],
)
def test_gpus_that_are_hidden_from_the_caller_stay_hidden(
    visible: str, gpus: str | None, tools: Path, run: Run
) -> None:
    engine(tools, "docker")
    add(tools, "nvidia-smi", "#!/bin/bash\necho NVIDIA H100\necho NVIDIA H100\n")
    done = run("run", "isotherm", "doctor", CUDA_VISIBLE_DEVICES=visible)
    assert after(done.stdout, "--gpus") == ([gpus] if gpus else [])
    assert "localhost/isotherm:cuda" in done.stdout, "the image of this host"
    assert ("hides every GPU" in done.stderr) == (gpus is None)
    assert "CUDA_VISIBLE_DEVICES" not in after(done.stdout, "--env"), "all that the container has are visible there"


def test_a_number_that_could_mean_two_gpus_is_refused(tools: Path, run: Run) -> None:
    engine(tools, "docker")
    add(tools, "nvidia-smi", "#!/bin/bash\necho NVIDIA H100\necho NVIDIA T4\n")
    refused = run("run", "isotherm", CUDA_VISIBLE_DEVICES="1", expect=2)
    assert "name them by UUID" in refused.stderr
    by_order = run("run", "isotherm", CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert after(by_order.stdout, "--gpus") == ['"device=1"']
    by_name = run("run", "isotherm", CUDA_VISIBLE_DEVICES="GPU-1a2b")
    assert after(by_name.stdout, "--gpus") == ['"device=GPU-1a2b"']


def test_podman_needs_a_description_of_the_gpus(tools: Path, run: Run) -> None:
    engine(tools, "podman")
    if any(list(Path(folder).glob("*.yaml")) for folder in ("/etc/cdi", "/var/run/cdi")):
        pytest.skip("this host has one")
    assert "nvidia-ctk cdi generate" in run("run", "isotherm", GPU="all", expect=2).stderr


def test_what_a_container_may_and_whose_files_it_writes(tools: Path, run: Run, tmp_path: Path) -> None:
    engine(tools, "docker")
    done = run("run", "isotherm", "sweep", "x.yaml", MEMORY="16g", WANDB_API_KEY="hush", ISOTHERM_TRAINING__EPOCHS="3")
    said = done.stdout
    project = tmp_path / "project"
    owner = project.stat()
    assert after(said, "--user") == [f"{owner.st_uid}:{owner.st_gid}"]
    assert after(said, "--memory") == after(said, "--memory-swap") == ["16g"]
    assert after(said, "--cap-drop") == ["ALL"]
    assert "no-new-privileges" in after(said, "--security-opt")
    assert "--read-only" in said.splitlines()
    assert after(said, "--shm-size") == ["1g"]
    assert after(said, "--stop-timeout") == ["30"]
    assert after(run("run", "isotherm", GRACE="120").stdout, "--stop-timeout") == ["120"]
    assert {"WANDB_API_KEY", "ISOTHERM_TRAINING__EPOCHS"} == set(after(said, "--env"))
    assert "hush" not in said, "secrets go by name"
    mounts = after(said, "--volume")
    assert f"{project}/runs:/work/runs" in mounts
    assert f"{project}/configs:/work/configs:ro" in mounts
    assert (project / "runs").stat().st_uid == owner.st_uid
    assert not [mount for mount in mounts if ".env" in mount]
    (project / ".env").write_text("WANDB_API_KEY=hush\n")
    assert f"{project}/.env:/work/.env:ro" in after(run("run", "isotherm").stdout, "--volume")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_in_a_users_folder_runs_as_that_user(tools: Path, run: Run, tmp_path: Path) -> None:
    engine(tools, "podman")
    os.chown(tmp_path / "project", 4321, 8765)
    assert after(run("run", "isotherm").stdout, "--user") == ["4321:8765"]
    created = (tmp_path / "project" / "data").stat()
    assert (created.st_uid, created.st_gid) == (4321, 8765)


def test_rootless_podman_keeps_the_callers_number(tools: Path, run: Run) -> None:
    engine(tools, "podman", rootless=True)
    assert after(run("run", "isotherm").stdout, "--userns") == ["keep-id"]


def test_without_an_image_the_mend_is_said(tools: Path, run: Run) -> None:
    engine(tools, "docker", has_image=False)
    assert "there is no image localhost/isotherm:cpu; fix: make image" in run("run", "isotherm", expect=2).stderr


def test_a_sweep_file_elsewhere_is_mounted(tools: Path, run: Run, tmp_path: Path) -> None:
    engine(tools, "docker")
    (tmp_path / "project" / "mine").mkdir()
    (tmp_path / "project" / "mine" / "sweep.yaml").touch()
    mounts = after(run("run", "isotherm", SWEEP="mine/sweep.yaml").stdout, "--volume")
    assert f"{tmp_path}/project/mine/sweep.yaml:/work/mine/sweep.yaml:ro" in mounts
    mounts = after(run("run", "isotherm", SWEEP="configs/sweeps/quickstart.yaml").stdout, "--volume")
    assert not [mount for mount in mounts if "quickstart" in mount]


def test_plugins_are_mounted_where_they_are_named(tools: Path, run: Run, tmp_path: Path) -> None:
    engine(tools, "docker")
    project = tmp_path / "project"
    theirs = tmp_path / "theirs.py"
    for path in (theirs, project / "parts" / "mine.py", project / "other.py"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    named = ("--plugin", "parts/mine.py", f"--plugin={theirs}", "--plugin", "configs/shared.py", "--plugin=absent.py")
    before = after(run("run", "isotherm").stdout, "--volume")
    said = run("run", "isotherm", "sweep", "x.yaml", *named, ISOTHERM_PLUGINS="parts/mine.py:other.py").stdout
    assert sorted(set(after(said, "--volume")) - set(before)) == sorted(
        (
            f"{project}/parts/mine.py:/work/parts/mine.py:ro",
            f"{theirs}:{theirs}:ro",
            f"{project}/other.py:/work/other.py:ro",
        )
    )
    assert len(after(said, "--volume")) == len(before) + 3, "an engine refuses two of one place"
    assert said.splitlines()[-6:] == list(named), "the command is as it was"


def test_the_key_of_a_google_storage_is_mounted_and_named(tools: Path, run: Run, tmp_path: Path) -> None:
    engine(tools, "docker")
    key = tmp_path / "key.json"
    key.touch()
    said = run("run", "isotherm", GOOGLE_APPLICATION_CREDENTIALS=str(key)).stdout
    assert f"{key}:{key}:ro" in after(said, "--volume")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in after(said, "--env")


def test_files_that_pips_configuration_names_are_mounted_into_the_build(tmp_path: Path, monkeypatch) -> None:
    constraints, index = tmp_path / "constraints.txt", tmp_path / "index"
    constraints.write_text("numpy<3\n")
    (index / "simple").mkdir(parents=True)
    (tmp_path / "pip.conf").write_text(
        f"[global]\nconstraint = {constraints}\nextra-index-url = file://{index}/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "build").mkdir()
    mounts = bench._package_settings(tmp_path / "build")[1::2]
    assert f"{constraints}:{constraints}:ro" in mounts
    assert f"{index}:{index}:ro" in mounts
    assert f"constraint = {constraints}\n" in (tmp_path / "build" / "pip.conf").read_text()


def test_the_build_names_the_commit(tools: Path, run: Run) -> None:
    engine(tools, "podman")
    said = run("build", "--quiet", BASE_IMAGE="my/base", TORCH_INDEX="https://wheels.example/cpu").stdout
    arguments = dict(one.partition("=")[::2] for one in after(said, "--build-arg"))
    assert arguments["VARIANT"] == "cpu"
    assert arguments["BASE_IMAGE"] == "my/base"
    assert arguments["TORCH_INDEX"] == "https://wheels.example/cpu"
    assert arguments["CODE_VERSION"].startswith("0.")
    assert after(said, "--format") == ["docker"], "podman's own format has no health check"
    said = run("build", VARIANT="cuda").stdout
    assert after(said, "--tag") == ["localhost/isotherm:cuda"]
    assert "TORCH_INDEX" not in said
    assert "say cpu or cuda" in run("build", VARIANT="tpu", expect=2).stderr
