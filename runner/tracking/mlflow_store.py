"""Runs in MLflow: found again by their tags, created once, written in batches."""

import getpass
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from runner.tracking import fields, models
from runner.tracking.causes import MLFLOW, OLDER_DATABASE, Cause, cause_of, problem
from trainables.errors import ConfigError, Problem

# Longer than the slowest server that is still of use: a call that is given up was often done all the same.
HTTP_TIMEOUT_S = 30
ARTIFACT_TRIES = 3
LOCK_TIMEOUT_S = 60.0
# Limits of MLflow's `runs/log-batch` (REST API reference).
PARAMS_A_BATCH = 100
METRICS_A_BATCH = 1000
NAME_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 5000  # of MLflow before 3.0; later ones take 8000

RUNNING = "RUNNING"
KEY, LEDGER, ROLE, RUN_NAME = "isotherm.key", "isotherm.ledger", "isotherm.role", "isotherm.run"
THROUGH, ARTIFACT, OWNED = "isotherm.through", "isotherm.artifact_sha256", "isotherm.owned"
STUDY = "isotherm.study"
RESULT, REPORT, DATASET = "isotherm.result_sha256", "isotherm.report_sha256", "isotherm.dataset"
MODEL = "isotherm.model"  # id of the model that was logged
NOTE = "mlflow.note.content"  # shown as the run's description
PARENT = "mlflow.parentRunId"
# The view for training, and not that of MLflow's GenAI features: its pages ask the tag, or a switch in the browser that
# the address can set (seen with 3.17).
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}
TRAINING_PAGE = "workflowType=machine_learning"
# MLflow writes the place of its default experiment into SQL text as it is: a path with an apostrophe would end that.
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
_ESCAPED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})  # SQLAlchemy reads a path in a URI as percent-encoded


@dataclass
class Run:
    """What is known of a run in MLflow.

    Attributes:
        metrics: names that had values when the run was found.
        seen: points that are there, as far as they were asked for or written.
    """

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    metrics: set[str] = field(default_factory=set)
    seen: fields.SeenMetrics = field(default_factory=fields.SeenMetrics)

    @property
    def through(self) -> int:
        """Number of the last ledger record that has arrived in full."""
        return int(self.tags.get(THROUGH, -1))


@dataclass(frozen=True)
class Point:
    """A value of a metric at an optimizer step."""

    name: str
    value: float
    step: int
    time: datetime


class MlflowStore:
    """One experiment of an MLflow server or database.

    Args:
        uri: server or database; None is the SQLite file `database`, with artifacts in ``mlartifacts`` next to it.
        experiment: its name; it is created where it is missing.
        database: the SQLite file.
    """

    def __init__(self, uri: str | None, experiment: str, database: Path) -> None:
        self._local = uri is None
        self._database = database.parent.resolve() / database.name
        self._artifacts = self._database.parent / "mlartifacts"
        self.uri = uri or f"sqlite:///{str(self._database).translate(_ESCAPED)}"
        self._experiment_name = experiment
        self._experiment = ""
        self._connected: Any = None
        self._artifact_failures: dict[str, int] = {}

    # ---- finding and creating ------------------------------------------------------------------------------------

    def sweep(self, ledger: str, name: str, start: datetime, tags: Mapping[str, str]) -> Run:
        """The parent run of a ledger; `tags` are for one that is created."""
        found = self._search(f"tags.`{LEDGER}` = '{ledger}' and tags.`{ROLE}` = 'sweep'")
        if found:
            return _known(self._one(found))
        return self.create(name, start, {**tags, LEDGER: ledger, ROLE: "sweep", RUN_NAME: name})

    def studies(self, parent: Run) -> dict[str, Run]:
        """The runs of a search's studies, by the study's identity."""
        return self._children(parent, STUDY)

    def trials(self, parent: Run) -> dict[str, Run]:
        """All children of a parent, by key."""
        return self._children(parent, KEY)

    def _children(self, parent: Run, tag: str) -> dict[str, Run]:
        by_tag: dict[str, list[Any]] = {}
        for run in self._search(f"tags.`{PARENT}` = '{parent.run_id}'"):
            if (value := run.data.tags.get(tag)) is not None:
                by_tag.setdefault(value, []).append(run)
        return {value: _known(self._one(runs)) for value, runs in by_tag.items()}

    def create(self, name: str, start: datetime, tags: dict[str, str]) -> Run:
        """A new run."""
        run = self._client.create_run(self._experiment_id, _milliseconds(start), tags, name)
        return Run(run.info.run_id, run.info.status, dict(tags))

    def address(self, run: Run) -> str | None:
        """Where a browser shows a run; None for a database."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        return f"{self.uri.rstrip('/')}/#/experiments/{self._experiment_id}/runs/{run.run_id}?{TRAINING_PAGE}"

    @property
    def _client(self) -> Any:
        """MLflow's client; the database's tables are created at its first use."""
        if self._connected is None:
            from mlflow import MlflowClient  # two seconds; whoever does not track does not pay them

            if self._local:
                # two sweeps that start at once must not both create the tables
                with FileLock(f"{self._database}.lock", timeout=LOCK_TIMEOUT_S):
                    os.environ[ARTIFACT_ROOT] = self._artifacts.as_uri()
                    self._connected = MlflowClient(tracking_uri=self.uri)
            else:
                self._connected = MlflowClient(tracking_uri=self.uri)
        return self._connected

    @property
    def _experiment_id(self) -> str:
        if not self._experiment:
            name = self._experiment_name
            found = self._client.get_experiment_by_name(name)
            if found is None:
                location = self._artifacts.as_uri() if self._local else None
                self._experiment = str(self._client.create_experiment(name, location, TRAINING_VIEW))
            elif found.lifecycle_stage != "active":
                raise ValueError(f"the experiment {name!r} was deleted")
            else:
                self._experiment = str(found.experiment_id)
        return self._experiment

    def _search(self, where: str) -> list[Any]:
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment_id], where, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _one(self, runs: list[Any]) -> Any:
        """One of several runs of the same trial.

        A server that responds too late may have created a run that we know nothing of, and we another. Only the one
        that was written to has more than the tags of its creation; the others are removed.
        """
        first, *others = sorted(runs, key=lambda run: (-len(run.data.params), -len(run.data.tags), run.info.run_id))
        for run in others:
            if not run.data.params and not run.data.metrics:
                self._client.delete_run(run.info.run_id)
        return first

    # ---- writing -------------------------------------------------------------------------------------------------

    def write_params(self, run: Run, params: Mapping[str, str]) -> None:
        """Write parameters that are not there; those that are cannot be changed."""
        from mlflow.entities import Param

        short = {name[:NAME_LENGTH]: value[:PARAM_LENGTH] for name, value in params.items()}
        new = [Param(name, value) for name, value in short.items() if name not in run.params]
        for batch in _chunks(new, PARAMS_A_BATCH):
            self._client.log_batch(run.run_id, params=batch)
        run.params.update(short)

    def write_points(self, run: Run, points: Sequence[Point]) -> None:
        """Write points of metrics."""
        from mlflow.entities import Metric

        for batch in _chunks(points, METRICS_A_BATCH):
            metrics = [Metric(point.name, point.value, _milliseconds(point.time), point.step) for point in batch]
            self._client.log_batch(run.run_id, metrics=metrics)

    def write_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        """Write tags that are not there or have another value."""
        from mlflow.entities import RunTag

        short = {name[:NAME_LENGTH]: value[:TAG_LENGTH] for name, value in tags.items()}
        new = {name: value for name, value in short.items() if run.tags.get(name) != value}
        for batch in _chunks([RunTag(name, value) for name, value in new.items()], PARAMS_A_BATCH):
            self._client.log_batch(run.run_id, tags=batch)
        run.tags.update(new)

    def write_status(self, run: Run, status: str, ended: datetime | None = None) -> None:
        """Set a run's status, with the time of its end where it has ended."""
        if run.status == status:
            return
        if status == RUNNING:
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status, _milliseconds(ended or datetime.now(UTC)))
        run.status = status

    def write_artifact(self, run: Run, name: str, content: Mapping[str, Any], tag: str = ARTIFACT) -> dict[str, str]:
        """Keep a JSON document unless it is there. A store that takes none does not hold up metrics for ever.

        Returns:
            The tag that says so, to be written with others.
        """
        digest = sha256(fields.text(content).encode()).hexdigest()
        return self._keep(run, tag, digest, lambda: self._client.log_dict(run.run_id, dict(content), name))

    def write_report(self, run: Run, report: Path) -> dict[str, str]:
        """Keep a report unless it is there, likewise; none where there is no file."""
        if not report.is_file() or report.is_symlink():
            return {}
        digest = sha256(report.read_bytes()).hexdigest()
        return self._keep(run, REPORT, digest, lambda: self._client.log_artifact(run.run_id, str(report)))

    def write_dataset(self, run: Run, data: Mapping[str, Any]) -> dict[str, str]:
        """Name the data as the run's input. Returns the tag that says so."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = str(data.get("content_sha256") or "")
        if not digest:
            return {}
        name = f"{'+'.join(map(str, data.get('assets', ()))) or 'data'}-{data.get('tier', '')}"[:NAME_LENGTH]
        dataset = Dataset(name, digest[:36], "isotherm", fields.text({"content_sha256": digest}))
        self._client.log_inputs(
            run.run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        )
        return {DATASET: digest}

    def _keep(self, run: Run, tag: str, digest: str, write: Callable[[], object]) -> dict[str, str]:
        failures = self._artifact_failures.get(run.run_id, 0)
        if run.tags.get(tag) == digest or failures >= ARTIFACT_TRIES:
            return {}
        try:
            self._check_artifacts(run)
            write()
        except Exception:
            self._artifact_failures[run.run_id] = failures + 1
            raise
        return {tag: digest}

    def log_model(self, run: Run, folder: Path, register_as: str | None) -> str:
        """Log an exported trial as a model of its run, unless it is there; returns the model's id."""
        self._check_artifacts(run)
        return models.log(self._client, self.uri, self._experiment_id, run.run_id, folder, register_as)

    def _check_artifacts(self, run: Run) -> None:
        """A database that somebody else made may name any folder as the place of a run's artifacts.

        Raises:
            ConfigError: they would be written elsewhere than in ``mlartifacts``.
        """
        if not self._local:
            return
        uri = str(self._client.get_run(run.run_id).info.artifact_uri)
        place = Path(url2pathname(urlsplit(uri).path)) if urlsplit(uri).scheme in ("file", "") else None
        if place is None or not place.resolve().is_relative_to(self._artifacts):
            message = f"keeps the artifacts of run {run.run_id} at {uri!r}, which is not in {self._artifacts}"
            fix = "its artifacts are left out; remove the database to have it made anew by `isotherm sync`"
            raise ConfigError(Problem(place=str(self._database), message=message, fix=fix))

    def learn_steps(self, run: Run, name: str) -> None:
        """Ask which steps of a metric are there, if that is not known."""
        if name in run.metrics and not run.seen.knows(name):
            run.seen.add(name, {point.step for point in self._client.get_metric_history(run.run_id, name)})

    # ---- explaining ----------------------------------------------------------------------------------------------

    def cause(self, error: Exception) -> Cause | None:
        """What an error means, as far as it is known."""
        found = cause_of(error, MLFLOW)
        version = re.search(r"found version (\w+)", str(error))
        return OLDER_DATABASE if found and found.lasting and version and _is_known_schema(version[1]) else found

    def explain(self, error: Exception) -> Problem:
        """An error in plain words, with the fix."""
        if isinstance(error, ConfigError):
            return error.problems[0]
        return problem(error, self.cause(error), f"MLflow at {self.uri}", "mlflow.log")


def _is_known_schema(version: str) -> bool:
    """Whether the MLflow that is installed knows a version of the database's tables, and so can bring it up to date."""
    package = find_spec("mlflow")
    folders = package.submodule_search_locations if package else None
    return bool(folders and list(Path(folders[0]).glob(f"store/db_migrations/versions/{version}_*.py")))


def _known(run: Any) -> Run:
    """What a found run records about itself."""
    return Run(run.info.run_id, run.info.status, dict(run.data.tags), set(run.data.params), set(run.data.metrics))


def user_name() -> str:
    """Who runs this process; a number where the host knows no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
