"""The wheel, installed, in an empty folder: the tutorials, and parts of one's own through `kill -9`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.workplace import SWEEP, Descendants, Workplace, wait_for
from tests.once import made_once

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```(python|yaml|sh)\n(.*?)```", re.DOTALL)
NAME = re.compile(r"# ([\w.]+)\n")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class Installed(Workplace):
    """A folder in which the command of the wheel is run; nothing of the checkout is on the path."""

    bin: Path = Path()

    def command(self, *arguments: str) -> list[str]:
        return [str(self.bin / "isotherm"), *arguments]

    def environment(self) -> dict[str, str]:
        path = {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        return {name: value for name, value in super().environment().items() if name != "PYTHONPATH"} | path

    def shell(self, command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def install(folder: Path) -> None:
    """Build the wheel from a copy of the packages, and install it where only the libraries are those of this one."""
    source, quiet = folder / "source", ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    for package in ("isotherm", "runner", "trainables"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip")
    subprocess.run([*pip, "wheel", *quiet, "--no-build-isolation", "-w", folder / "dist", source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    [packages] = (folder / "env" / "lib").glob("python3*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # less its own .pth: no checkout
    [wheel] = (folder / "dist").iterdir()
    subprocess.run([*pip, "--python", folder / "env" / "bin" / "python", "install", *quiet, wheel], check=True)


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    bin = made_once(tmp_path_factory, "wheel", install) / "env" / "bin"
    (tmp_path / "empty").mkdir()
    one = Installed(tmp_path / "empty", bin=bin)
    home = one.shell("python -c 'import runner; print(runner.__file__)'")
    assert home.startswith(str(bin.parent))
    yield one
    one.stop()


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda page: page.stem)
def test_every_block_of_a_tutorial_runs(page: Path, place: Installed) -> None:
    """Blocks that begin with a file's name are that file; others are run."""
    commands = []
    for kind, text in BLOCK.findall(page.read_text()):
        if named := NAME.match(text):
            (place.folder / named[1]).write_text(text)
        elif kind == "python":
            (place.folder / "snippet.py").write_text(text)
            place.shell("python snippet.py")
        else:
            assert kind == "sh"
            commands += text.splitlines()
            for command in text.splitlines():
                place.shell(command)
    assert any(command.startswith("isotherm sweep ") for command in commands)
    [results] = place.folder.glob("runs/*/results.parquet")
    assert set(place.results(results.parent.name)["status"]) == {"finished"}


def test_a_model_and_a_loss_of_ones_own_go_on_after_kill_9(place: Installed) -> None:
    for name in ("my_architecture.py", "my_loss.py"):
        shutil.copy(ROOT / "examples" / name, place.folder)
    own = "model: {name: tcn, kernel: 5}\ntraining: {loss: {name: robust, q: 0.5}, "
    place.write(SWEEP.replace("training: {", own).replace("[20k, 60k]", "[60k, 80k]").replace("epochs: 2", "epochs: 6"))
    parts = ("--plugin", "my_architecture.py", "--plugin", "my_loss.py")
    process = place.start("sweep", "sweep.yaml", "--no-tracking", *parts)
    wait_for(place.has_checkpoint, timeout=240)
    left = Descendants.of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=180)
    wait_for(lambda: not left.alive, timeout=90)
    copies = (place.folder / "runs" / "small" / "plugins").iterdir()
    assert sorted(copy.name.split("_", 1)[1] for copy in copies) == ["my_architecture.py", "my_loss.py"]
    place.run("sweep", "sweep.yaml", "--no-tracking", *parts)
    table = place.results()
    assert set(table["status"]) == {"finished"}
    assert set(table["model"]) == {"tcn"}
    assert table["attempts"].max() > 1
    cells = [record for record in place.ledger() if record["kind"] == "cell" and record["cell_kind"] == "model"]
    assert len(cells) == 2
    assert all({"tcn", "robust"} < {part["name"] for part in record["parts"]} for record in cells)
