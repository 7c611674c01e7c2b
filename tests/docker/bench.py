"""The image, built once, and folders in which containers of it run. Needs podman, runc and debootstrap, and root."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/isotherm-test-base:bookworm"
CERTIFICATES = Path("/etc/ssl/certs")
IMAGE = "localhost/isotherm-test:cpu"
USER = 1000
NEEDED = ("podman", "runc", "debootstrap")
# As a host without nested control groups and without a network of containers' own needs it.
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
[containers]
netns = "host"
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
"""
CANARY = "canary-5f2c0a"  # stands in every file that must not reach the image


def missing() -> str:
    """Why no container can be run here; empty where one can."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs the Debian packages {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "needs root"


def call(*command: str | Path, expect: int = 0, timeout: float = PATIENCE_S, **options: Any) -> str:
    """Run a command to its end; its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert done.returncode == expect, f"{command}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """The caller's, without settings of its own, with podman's configuration for this host."""
    conf = folder / "containers.conf"
    conf.write_text(CONTAINERS_CONF)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISOTHERM_", "WANDB_", "RAY_"))}
    # Beside other tests a sweep may need longer to end than the 30 s that are the default.
    return {**kept, "CONTAINERS_CONF": str(conf), "ENGINE": "podman", "IMAGE": IMAGE, "GRACE": "120"}


def build(folder: Path) -> None:
    """Build the image by docker/build, from a copy of this tree with secrets, runs and data beside the source."""
    around = environment(folder)
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        _make_base(folder)
    source = folder / "source"
    for name in call("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "A copy")):
        call(*git, *command, cwd=source)
    for name in (".env", "runner/.env", "runs/old/ledger.jsonl", "data/prices.csv", ".git/description"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(CANARY)
    around |= {"BASE_IMAGE": BASE, "TORCH_INDEX": "", "VARIANT": "cpu"}
    former = _image_id()
    call(source / "docker" / "build", "--quiet", *_package_settings(folder), env=around, timeout=PATIENCE_S)
    if former and former != _image_id():  # else each change of the source leaves one of 2.5 GB behind
        subprocess.run(["podman", "rmi", former], env=around, capture_output=True, check=False)


def _image_id() -> str:
    found = subprocess.run(["podman", "image", "inspect", "--format={{.Id}}", IMAGE], capture_output=True, text=True)
    return found.stdout.strip()


def _make_base(folder: Path) -> None:
    """A stand-in for the official Python image, on a host that reaches no registry."""
    tree = folder / "base"
    packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
    call("debootstrap", "--variant=minbase", packages, "bookworm", tree, timeout=PATIENCE_S)
    call("tar", "-C", tree, "-cf", folder / "base.tar", ".")
    call("podman", "import", "--quiet", folder / "base.tar", BASE)
    shutil.rmtree(tree)
    (folder / "base.tar").unlink()


def _package_settings(folder: Path) -> list[str]:
    """Arguments that let pip in the build see this host's settings, and the files and folders that these name."""
    lines, named = ["[global]"], set[Path]()
    for line in call(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        key, value = name.rpartition(".")[2], value.strip("'\"")
        if not any(known.startswith(f"{key} =") for known in lines):
            lines.append(f"{key} = {value}")
        for word in value.split():
            path = Path(word.removeprefix("file://").removesuffix("/simple"))
            if path.is_absolute() and path.exists() and not path.is_relative_to(CERTIFICATES):
                named.add(path)
    conf = folder / "pip.conf"
    conf.write_text("\n".join(lines) + "\n")
    mounts = [f"{conf}:/etc/pip.conf:ro", *(f"{one}:{one}:ro" for one in [CERTIFICATES, *sorted(named)])]
    return [word for mount in mounts for word in ("--volume", mount)]


@dataclass
class Bench:
    """A project's folder of an ordinary user's, and containers started in it."""

    folder: Path
    around: dict[str, str]
    started: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def make(self, target: str, *variables: str, expect: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a target of this Makefile in the folder."""
        command = ["make", "--silent", "-f", str(ROOT / "Makefile"), target, *variables]
        done = subprocess.run(
            command, cwd=self.folder, env=self.around, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == expect, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def start(self, name: str, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start docker/run without waiting for its end."""
        self.started.append(name)
        around = {**self.around, "NAME": name, "SWEEP": "sweep.yaml", **variables}
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [str(ROOT / "docker" / "run"), *command],
                cwd=self.folder,
                env=around,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        return process

    def podman(self, *arguments: str, expect: int = 0) -> str:
        return call("podman", *arguments, env=self.around, expect=expect, timeout=PATIENCE_S)

    def ledger(self, run: str) -> list[dict[str, Any]]:
        path = self.folder / "runs" / run / "ledger.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def logs(self) -> str:
        """What started processes have said."""
        return "".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))

    def clear(self) -> None:
        """Remove what was started here."""
        for name in self.started:
            subprocess.run(["podman", "rm", "--force", "--time", "1", name], env=self.around, capture_output=True)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE_S)
