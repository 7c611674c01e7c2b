"""A secret in every variable is found nowhere: no file, no command line, no name, while a command runs and after."""

import os
import resource
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.integration.workplace import Workplace
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

# What isotherm, Ray, MLflow, W&B, boto and pyarrow read, and some that belong to nobody here.
VARIABLES = (
    *("WANDB_API_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
    *("AZURE_STORAGE_CONNECTION_STRING", "GOOGLE_API_KEY", "HF_TOKEN", "GITHUB_TOKEN"),
    *("RAY_AUTH_TOKEN", "RAY_REDIS_PASSWORD", "MLFLOW_S3_ENDPOINT_TOKEN", "DATABASE_PASSWORD"),
)
NOBODY = "http://127.0.0.1:9"  # the port of `discard`, where nobody listens
SWEEP = """\
name: small
data: {source: sp500}
task: {kind: threshold, context: 60}
training: {epochs: 2, global_batch: 128, lr: 1.0e-3}
grid: {budget: [20k], horizon: [1], seed: [0]}
baselines: [prior]
execution: {device: cpu, micro_batch: 64, threads: 1, checkpoint_interval_s: 0.5}
thermal: {require_sensors: false}
tracking: {mlflow: {uri: "http://127.0.0.1:9"}}
"""


@dataclass
class Canaries(Workplace):
    """A workplace whose environment is full of secrets, with temporary files, home and cache of its own."""

    secret: str = field(default_factory=lambda: f"canary{secrets.token_hex(16)}")
    temp: Path = Path()
    more: dict[str, str] = field(default_factory=dict)
    searched: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """The installed script: `python -m` would import from the current folder, as its user asked."""
        return [str(Path(sys.executable).with_name("isotherm")), *arguments]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISOTHERM_", "RAY_"))}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        places = {"HOME": str(home), "TMPDIR": str(self.temp), "ISOTHERM_CACHE_DIR": str(self.folder / "cache")}
        return {**kept, **dict.fromkeys(VARIABLES, self.secret), **places, "WANDB_BASE_URL": NOBODY, **self.more}

    def set_traps(self) -> None:
        """Modules in the current folder, under names that our processes import, that leave a file when they are run."""
        leave = f"import os; open({str(self.temp)!r} + '/sprung-' + str(os.getpid()), 'w').close()\n"
        (self.folder / "runner").mkdir()
        for name in ("random.py", "json.py", "torch.py", "ray.py", "mlflow.py", "wandb.py", "runner/__init__.py"):
            (self.folder / name).write_text(leave)

    def at_most(self, seconds: float) -> Callable[[], bool]:
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    def found(self) -> list[str]:
        """Files, links, names and command lines with the secret in them."""
        places = [path for root in (self.folder, self.temp) for path in below(root)]
        return [*(str(path) for path in places if self._in(path)), *self._command_lines()]

    def _in(self, path: Path) -> bool:
        needle = self.secret.encode()
        try:
            if path.is_symlink():
                return needle in os.readlink(os.fsencode(path))
            if needle in os.fsencode(path) or not path.is_file():
                return needle in os.fsencode(path)
            found = path.stat()
            version = (found.st_mtime_ns, found.st_size)
            if self.searched.get(path) == version:
                return False
            if needle in path.read_bytes():
                return True
            self.searched[path] = version
            return False
        except OSError:  # it was removed meanwhile
            return False

    def _command_lines(self) -> Iterator[str]:
        for process in psutil.process_iter():
            try:
                if self.secret in " ".join((process.name(), *process.cmdline())):
                    yield f"process {process.pid}: {process.cmdline()}"
            except psutil.Error:
                continue


def below(folder: Path) -> Iterator[Path]:
    """All that is in a folder while processes write there; unlike `rglob`, passes over what is removed meanwhile."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    # Ray's sockets need a short path
    temp = Path("/tmp") / f"c{secrets.token_hex(2)}"
    temp.mkdir(mode=0o700)
    place = Canaries(tmp_path, temp=temp)
    place.write(SWEEP)
    yield place
    place.stop()
    subprocess.run(["rm", "-rf", str(temp)], check=True)


def watch(place: Canaries, process: subprocess.Popen[str], until: Callable[[], bool] = lambda: False) -> list[str]:
    """Search again and again until the process ends, or as long as asked."""
    found: set[str] = set()
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and not until():
        assert time.monotonic() < deadline, place.log(len(place.started) - 1)
        found |= set(place.found())
        time.sleep(0.5)
    return sorted(found | set(place.found()))


def open_to_others(folder: Path) -> list[str]:
    """Ray's and Tune's folders that another user could enter."""
    found = []
    for path in folder.glob("isotherm-*"):  # torch has one of its own there
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # it was removed since
            continue
        if not stat.S_ISDIR(mode) or mode & 0o077:
            found.append(f"{path} {mode & 0o777:o}")
    return found


def test_a_sweep_shows_no_secret_and_runs_nothing_of_the_current_folder(canaries: Canaries) -> None:
    canaries.set_traps()
    canaries.slow = False
    before = os.umask(0o077)
    try:
        process = canaries.start("sweep", "sweep.yaml")
    finally:
        os.umask(before)
    open_folders: set[str] = set()

    def look() -> bool:
        open_folders.update(open_to_others(canaries.temp))
        return False

    assert not watch(canaries, process, look)
    assert process.returncode == 0, canaries.log()
    assert not open_folders, open_folders
    assert not list(canaries.temp.glob("sprung-*"))
    made = [path for name in ("runs", "data", "cache") for path in (canaries.folder / name).rglob("*")]
    assert len(made) > 20
    assert not [path for path in made if path.lstat().st_mode & 0o077 and not path.is_symlink()], "the umask is 077"
    assert list(canaries.results()["status"]) == ["finished"]
    # what did not arrive anywhere is offered again, and to nobody; a crash then leaves nothing, either
    sync = canaries.start("sync", "small")
    assert not watch(canaries, sync, canaries.at_most(6))
    crash(canaries, sync)


def crash(place: Canaries, process: subprocess.Popen[str], number: signal.Signals = signal.SIGABRT) -> None:
    """End a process as an assertion in a library does. Core files are the host's business."""
    process.send_signal(number)
    process.wait(PATIENCE_S)
    assert not place.found()


@pytest.fixture
def no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@pytest.mark.usefixtures("no_core")
@pytest.mark.parametrize(
    ("command", "crashed"),
    [
        (("debug", "sweep.yaml", "--budget", "20k", "--steps", "30", "--profile"), ("--set", "training.epochs=200")),
        (("doctor", "sweep.yaml"), ()),
    ],
    ids=["debug", "doctor"],
)
def test_commands_and_their_crashes_show_no_secret(
    canaries: Canaries, command: tuple[str, ...], crashed: tuple[str, ...]
) -> None:
    process = canaries.start(*command)
    assert not watch(canaries, process)
    assert process.returncode in (0, 1), canaries.log()
    process = canaries.start(*(command if not crashed else (*command[:4], *crashed)))
    assert not watch(canaries, process, canaries.at_most(3))
    crash(canaries, process)


@pytest.mark.usefixtures("no_core")
def test_crashes_of_a_sweep_show_no_secret(canaries: Canaries) -> None:
    """Of a worker and then of the driver; SIGKILL leaves no more behind, but also nobody who cleans up."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        process = canaries.start("sweep", "sweep.yaml", "--set", "training.epochs=4")
        before = canaries.checkpoints()
        assert not watch(canaries, process, lambda: bool(canaries.checkpoints() - before))  # noqa: B023
        canaries.trial_worker().send_signal(number)
        assert not watch(canaries, process, canaries.at_most(3))
        crash(canaries, process, number)


@pytest.mark.parametrize(
    "given",
    [
        {"MLFLOW_TRACKING_URI": "http://me:{}@127.0.0.1:9"},
        {"ISOTHERM_TRACKING__MLFLOW__URI": "http://me:{}@127.0.0.1:9"},
        {"ISOTHERM_STORAGE_PATH": "s3://key:{}@bucket/folder"},
        {"ISOTHERM_STORAGE_PATH": "s3://bucket/folder?secret_key={}"},
    ],
    ids=str,
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(canaries: Canaries, given: dict[str, str]) -> None:
    canaries.write(SWEEP.replace("tracking:", "#"))
    canaries.more = {name: value.format(canaries.secret) for name, value in given.items()}
    process = canaries.start("doctor", "sweep.yaml")
    assert not watch(canaries, process)
    assert process.returncode == 2, canaries.log()
    assert "must not hold user information" in canaries.log()
