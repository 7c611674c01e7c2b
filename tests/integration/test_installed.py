"""The wheel, installed, in an empty folder: the tutorials, and parts of one's own through `kill -9`."""

import json
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

from tests.integration.workplace import SWEEP, Workplace
from tests.once import made_once
from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```(python|yaml|sh)\n(.*?)```", re.DOTALL)
OWN = ("my_architecture.py", "my_loss.py")
NAME = re.compile(r"# ([\w.]+)\n")

pytestmark = pytest.mark.slow


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
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
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


def test_a_model_and_a_loss_of_ones_own_are_probed_trained_stopped_resumed_and_reported(
    place: Installed,
) -> None:
    for name in OWN:
        shutil.copy(ROOT / "examples" / name, place.folder)
    own = "model: {name: tcn, kernel: 5}\ntraining: {loss: {name: robust, q: 0.5}, "
    place.write(SWEEP.replace("training: {", own).replace("[20k, 60k]", "[60k]"))
    plugins = tuple(word for name in OWN for word in ("--plugin", name))
    refused = place.run("plan", "sweep.yaml", expect=2)
    assert "no architecture 'tcn' is registered" in refused.stderr
    place.run("debug", "sweep.yaml", "--budget", "60k", "--steps", "3", *plugins)

    process = place.start("sweep", "sweep.yaml", "--no-tracking", *plugins)
    place.wait_for_checkpoint()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 3, place.log()
    resume = "resume with: isotherm sweep sweep.yaml --plugin my_architecture.py --plugin my_loss.py --no-tracking\n"
    assert resume in place.log()

    # The copies in the run directory are as good as the files, which another machine need not have.
    folder = place.folder / "runs" / "small" / "plugins"
    copies = sorted(folder.iterdir(), key=lambda path: path.name.split("_", 1)[1])
    assert [copy.name.split("_", 1)[1] for copy in copies] == list(OWN)
    for name in OWN:
        (place.folder / name).unlink()
    kept = tuple(word for copy in copies for word in ("--plugin", str(copy.relative_to(place.folder))))
    process = place.start("sweep", "sweep.yaml", "--no-tracking", *kept)
    place.wait_for_checkpoint()
    process.kill()
    process.wait(PATIENCE_S)
    wait_for(lambda: not place.workers())
    place.run("sweep", "sweep.yaml", "--no-tracking", *kept)
    table = place.results()
    assert list(table["status"]) == ["finished"]
    assert list(table["model"]) == ["tcn"]
    assert list(table["attempts"]) == [3]
    assert table["skill"].notna().all()
    [cell] = [record for record in place.ledger() if record["kind"] == "cell" and record["cell_kind"] == "model"]
    assert {"tcn", "robust"} < {part["name"] for part in cell["parts"]}
    assert cell["flop_per_window"] > 0
    assert len(list(folder.iterdir())) == len(OWN), "one text, one copy"

    # Without the plugins a run can be read; it cannot be changed under the same version.
    place.run("report", "small")
    assert f"--plugin runs/small/plugins/{copies[0].name}" in (folder.parent / "report.md").read_text()
    assert json.loads(place.run("status", "small", "--json").stdout)["counts"] == {"finished": 1}
    before = place.ledger()
    (place.folder / "tcn.py").write_text((ROOT / "examples" / OWN[0]).read_text().replace("nn.GELU()", "nn.ReLU()"))
    changed = place.run("sweep", "sweep.yaml", "--no-tracking", "--plugin", "tcn.py", *kept[2:], expect=2)
    assert "the architecture 'tcn' (plugin tcn.py) was changed under version 1" in changed.stderr
    assert place.ledger() == before
