"""Ledgers with a story, and for each tracker a bench that reads back what it shows."""

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.config.trackers import TRACKERS
from runner.rundir.ledger import (
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    EventRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.rundir.paths import RunPaths
from runner.tracking.delivery import Delivery
from runner.tracking.mlflow_store import MlflowStore
from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.tracker import Status, Target
from runner.tracking.wandb_tracker import WandbTarget
from tests.runner.tracking.wandb_file import WandbFile, read_wandb
from tests.servers import HttpServer, MlflowServer, WandbServer, free_port
from tests.waiting import PATIENCE_S

A, B = "a" * 12, "b" * 12
SHA = "5f" * 32
# Of MLflow 3.17 with SQLAlchemy 2.1, in every query of runs; in the trackers' own processes it goes to their log.
THIRD_PARTY = ("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for warning in THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(warning))


class Story:
    """Writes a run's ledger as a sweep would."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.ledger = Ledger(paths.ledger)

    def tell(self, record: AnyRecord) -> AnyRecord:
        return self.ledger.append(record)

    def sweep(self, *keys: str) -> AnyRecord:
        config = {"name": self.paths.name, "grid": {"horizon": [1, 5]}}
        started = SweepStarted(run=self.paths.name, keys=keys, config=config, code_version="c0de", versions={})
        return self.tell(started)

    def cell(self, key: str, **spec_blocks: dict[str, Any]) -> AnyRecord:
        spec = {
            "data": {"content_sha256": SHA, "features": ["open", "close"], "tier": "a20"},
            "training": {"lr": 0.001, "early_stopping": None},
            **spec_blocks,
        }
        labels = {"budget": "2m", "model": "patchtst", "horizon": 5, "seed": 0, "axes": {"training.clip": 1.0}}
        sizes = {"n_train": 3000, "n_val": 700, "n_test": 700, "n_val_effective": 140}
        return self.tell(
            CellRecorded(
                key=key,
                name=f"2m h5 {key[0]}",
                labels=labels,
                n_params=2_000_000,
                n_params_non_embedding=1_900_000,
                sizes=sizes,
                spec=spec,
            )
        )

    def attempt(self, key: str, attempt: int = 1, micro_batch: int = 32) -> AnyRecord:
        execution = {"micro_batch": micro_batch, "accumulation": 4, "device": "cpu"}
        return self.tell(AttemptStarted(key=key, attempt=attempt, execution=execution, code_version="c0de"))

    def metrics(self, key: str, step: int, attempt: int = 1, **values: float | None) -> AnyRecord:
        values = values or {"train_loss": 1 / (step + 1), "val_loss": 2 / (step + 2)}
        return self.tell(MetricsRecorded(key=key, attempt=attempt, step=step, epoch=step // 10, values=values))

    def end(self, key: str, status: str = "finished", attempt: int = 1, reason: str = "") -> AnyRecord:
        result = {"val_loss": 0.61, "collapsed": False, "skill": 0.02, "device": "cpu", "test_auc": None}
        return self.tell(CellEnded(key=key, attempt=attempt, status=status, reason=reason, result=result))

    def event(self, message: str, key: str | None = None) -> AnyRecord:
        return self.tell(EventRecorded(what="note", message=message, key=key))

    def sweep_end(self, exit_code: int = 0) -> AnyRecord:
        return self.tell(SweepEnded(exit_code=exit_code, counts={}))

    def whole(self) -> None:
        """Two trials: one is interrupted and resumed two steps earlier, one has too few samples."""
        self.sweep(A, B)
        self.cell(A)
        self.cell(B)
        self.event("a gate")
        self.attempt(A)
        for step in (10, 20, 30):
            self.metrics(A, step)
        self.end(A, "interrupted")
        self.sweep_end(3)
        self.sweep(A, B)
        self.tell(CellEnded(key=B, attempt=0, status="infeasible", reason="12 effective samples"))
        self.attempt(A, 2, micro_batch=16)
        for step in (20, 30, 40):
            self.metrics(A, step, 2)
        self.event("a held trial", A)
        self.end(A, attempt=2)
        self.sweep_end()


@dataclass
class Shown:
    """What a tracker shows of one trial."""

    id: str
    name: str
    open: bool
    succeeded: bool
    labels: dict[str, Any]
    results: dict[str, float]
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def countdown(seconds: float) -> Callable[[], float]:
    """What is left of some seconds."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


class Bench(ABC):
    """One tracker on one run directory."""

    target: Target

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.statuses: list[Status] = []

    def delivery(self) -> Delivery:
        """A new tracker, as after a restart."""
        return Delivery(
            TRACKERS.get(self.target.kind).target(self.target, self.paths),
            self.paths.ledger,
            self.statuses.append,
            self.target.secrets,
        )

    def deliver(self) -> None:
        """All that the ledger holds, in one go, by a new tracker."""
        self.delivery().close(countdown(PATIENCE_S))
        assert not [error for status in self.statuses for error in status.errors]

    @abstractmethod
    def crash(self) -> None:
        """What dies with the tracker's process when that is killed."""

    @abstractmethod
    def shown(self) -> dict[str, Shown]:
        """What the tracker shows, by trial."""


class MlflowBench(Bench):
    target = MlflowTarget()

    def crash(self) -> None:
        pass  # its client keeps nothing between calls

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{self.paths.mlflow_db}")

    def runs(self) -> list[Any]:
        client = self.client()
        experiment = client.get_experiment_by_name("isotherm")
        return list(client.search_runs([experiment.experiment_id])) if experiment else []

    def parents(self) -> list[Any]:
        return [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]

    def shown(self) -> dict[str, Shown]:
        client = self.client()
        shown = {}
        for run in self.runs():
            if "mlflow.parentRunId" not in run.data.tags:
                continue
            history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
            points = {name: [(point.step, point.value) for point in values] for name, values in history.items()}
            key = run.data.tags["isotherm.key"]
            assert key not in shown, "two runs of one trial"
            shown[key] = Shown(
                id=run.info.run_id,
                name=run.info.run_name,
                open=run.info.status == "RUNNING",
                succeeded=run.info.status == "FINISHED",
                labels={name: run.data.tags[name] for name in ("key", "budget", "horizon", "training.clip")},
                results={
                    name.removeprefix("result/"): values[0][1]
                    for name, values in points.items()
                    if name.startswith("result/")
                },
                metrics={name: values for name, values in points.items() if not name.startswith("result/")},
            )
        return shown


class WandbBench(Bench):
    target = WandbTarget()

    def crash(self) -> None:
        import wandb

        wandb.teardown()

    def folders(self) -> list[Path]:
        return sorted(path for path in self.paths.wandb.glob("*run-*") if path.is_dir())

    def of_sweep(self) -> list[Path]:
        return [
            folder for folder in self.folders() if "-sweep" in folder.name
        ]  # of two in one second, one has a number

    def shown(self) -> dict[str, Shown]:
        shown = {}
        for folder in set(self.folders()) - set(self.of_sweep()):
            file = read_wandb(next(folder.glob("*.wandb")))
            key = file.config["key"]
            assert key not in shown, "two directories of one trial"
            rows = [{**row, "step": int(row["step"])} for row in file.rows]
            names = {name for row in rows for name in row if not name.startswith("_") and name not in ("step", "epoch")}
            results = {name: file.summary.get(name) for name in ("val_loss", "collapsed", "skill")}
            shown[key] = Shown(
                id=file.run_id,
                name=file.name,
                open=file.exit_code is None,
                succeeded=file.exit_code == 0,
                labels={name: str(file.config[name]) for name in ("key", "budget", "horizon", "training.clip")},
                results=results if "collapsed" in file.summary else {},
                metrics={name: [(row["step"], row[name]) for row in rows if name in row] for name in names},
            )
        return shown


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, to copy: creating them takes two seconds.

    Its folder has a name that MLflow's own SQL would not survive.
    """
    path = tmp_path_factory.mktemp('mlflow\'s "x" #%:y') / "mlflow.db"
    assert MlflowStore(None, "isotherm", path)._client
    return path


@pytest.fixture(scope="session")
def make_bench(empty_mlflow: Path) -> Iterator[Any]:
    """Build the bench of a tracker on a run directory, in this process."""

    def make(name: str, paths: RunPaths) -> Bench:
        if name == "mlflow":
            shutil.copy(empty_mlflow, paths.mlflow_db)
            return MlflowBench(paths)
        return WandbBench(paths)

    yield make
    import wandb

    wandb.teardown()


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    root = tmp_path / "runs" / "quick"
    root.mkdir(parents=True)
    return RunPaths(root)


@pytest.fixture
def new_story() -> Iterator[Callable[[RunPaths], Story]]:
    """Begin the ledger of a run."""
    stories: list[Story] = []

    def begin(paths: RunPaths) -> Story:
        stories.append(Story(paths))
        return stories[-1]

    yield begin
    for story in stories:
        story.ledger.close()


@pytest.fixture
def story(paths: RunPaths, new_story: Callable[[RunPaths], Story]) -> Story:
    return new_story(paths)


@pytest.fixture(params=["mlflow", "wandb"])
def bench(request: pytest.FixtureRequest, make_bench: Any, paths: RunPaths) -> Bench:
    return make_bench(request.param, paths)


@pytest.fixture
def mlflow_bench(make_bench: Any, paths: RunPaths) -> MlflowBench:
    return make_bench("mlflow", paths)


@pytest.fixture
def wandb_bench(make_bench: Any, paths: RunPaths) -> WandbBench:
    return make_bench("wandb", paths)


@pytest.fixture(name="countdown")
def _countdown() -> Callable[[float], Callable[[], float]]:
    return countdown


@pytest.fixture(name="read_wandb")
def _read_wandb() -> Callable[[Path], WandbFile]:
    return read_wandb


# ---- servers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def http_server() -> Iterator[Callable[..., HttpServer]]:
    """Start servers; they end with the test."""
    servers: list[HttpServer] = []

    def start(answer: Callable[[str, str, Any, bytes], tuple[int, bytes]], port: int = 0) -> HttpServer:
        servers.append(HttpServer(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., WandbServer]]:
    """Start W&B servers that the trackers' processes will find."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    servers: list[WandbServer] = []

    def start(port: int = 0) -> WandbServer:
        servers.append(WandbServer(port))
        monkeypatch.setenv("WANDB_BASE_URL", servers[-1].http.url)
        return servers[-1]

    yield start
    for server in servers:
        server.http.close()


@pytest.fixture
def mlflow_server(tmp_path: Path, empty_mlflow: Path) -> Iterator[MlflowServer]:
    """A server that is not running yet."""
    shutil.copy(empty_mlflow, tmp_path / "server.db")
    server = MlflowServer(tmp_path, free_port())
    yield server
    server.kill()
