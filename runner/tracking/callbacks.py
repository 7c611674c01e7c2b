"""Tune callbacks that show an experiment in MLflow or W&B and can neither slow nor end it.

In a sweep they deliver its ledger. In any other Tune script they keep a ledger of their own, written from Tune's hooks,
and deliver that: what a tracker could not take is in the file and is delivered later, to the same runs.

    from ray import tune
    from isotherm.tune import MlflowCallback

    run_config = tune.RunConfig(callbacks=[MlflowCallback(uri="http://127.0.0.1:5000", experiment="prices")])
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from ray.tune import Callback

from runner.config.settings import MlflowSpec, Secrets, WandbEnvironment, WandbSpec
from runner.rundir.paths import DATA, RUNS, RunPaths
from runner.tracking.experiment_ledger import ExperimentLedger
from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.tracker import OwnTarget, Target, TrackerQueue, TrackerReport
from runner.tracking.wandb_tracker import WandbTarget

log = logging.getLogger(__name__)

SYNC_TIMEOUT_S = 300.0
END_TIMEOUT_S = 10.0  # the longest that the end of an experiment waits for its tracker


class TrackerCallback(Callback, ABC):  # type: ignore[misc]
    """Delivers what Tune reports to one tracker, from a process of the tracker's own.

    No hook raises or waits for a tracker. A pickled callback (Tune pickles its callbacks into the experiment's
    snapshot, and `Tuner.restore` reads them back) holds settings and no secrets; these are read from the environment
    again.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        """Set the callback up; nothing is started or written before the first trial starts.

        Args:
            folder: where the experiment's ledger and logs go; None = ``runs/<experiment>/<tracker>`` below the current
                directory. Keep it: a restarted experiment continues the same runs from there.
        """
        self._folder = Path(folder).absolute() if folder is not None else None
        self._ledger: ExperimentLedger | None = None
        self._queue: TrackerQueue | None = None
        self._failed = False

    @abstractmethod
    def target(self, secrets: Secrets | None = None) -> Target:
        """Where the tracker is. Secrets are read from the environment or ``.env`` if they are not given."""

    def of_sweep(self, secrets: Secrets, paths: RunPaths) -> Self:
        """Deliver the ledger of a sweep, which its driver writes."""
        self._queue = TrackerQueue(self.target(secrets), paths)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ledger": None, "_queue": None}

    def sync(self, timeout_s: float = SYNC_TIMEOUT_S) -> TrackerReport:
        """Deliver what earlier experiments with this folder could not; doing it twice changes nothing.

        Args:
            timeout_s: seconds, at most.

        Raises:
            ValueError: the callback was made without a folder.
        """
        if self._folder is None:
            raise ValueError("name the folder that the experiment's callback used: folder=...")
        queue = TrackerQueue(self.target(), RunPaths(self._folder))
        queue.start()
        return queue.close(timeout_s)

    @property
    def queue(self) -> TrackerQueue | None:
        """What delivers; None before the first trial starts."""
        return self._queue

    # ---- Tune's hooks --------------------------------------------------------------------------------------------

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts, or starts again."""
        self._observe(trial, lambda ledger: ledger.started(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reports metrics."""
        self._observe(trial, lambda ledger: ledger.reported(trial, result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended in good order."""
        self._observe(trial, lambda ledger: ledger.completed(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed."""
        self._observe(trial, lambda ledger: ledger.failed(trial))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Deliver what 10 s allow; of a sweep, whose last round this may not be, its driver does that."""
        if self._ledger is None or self._queue is None:
            return
        try:
            self._ledger.close(trials)
            report = self._queue.close(END_TIMEOUT_S)
            if report.pending:
                log.warning(
                    "%s: %d records have not arrived\n    fix: %s(folder=%r).sync() delivers them",
                    report.name,
                    report.pending,
                    type(self).__name__,
                    str(self._folder),
                )
            self._ledger = self._queue = None
        except Exception:
            log.exception("%s: the end of the experiment could not be delivered", type(self).__name__)

    def _observe(self, trial: Any, event: Callable[[ExperimentLedger], None]) -> None:
        if self._failed:
            return
        try:
            if self._queue is None:
                self._open(trial)
            if self._ledger is not None:
                event(self._ledger)
            assert self._queue is not None
            self._queue.start()
        except Exception:  # an exception in a callback would end the experiment
            self._failed = True
            log.exception("%s failed and does nothing more; the experiment continues", type(self).__name__)

    def _open(self, trial: Any) -> None:
        target = self.target()
        experiment = str(trial.storage.experiment_dir_name)
        paths = RunPaths(self._folder or (RUNS / experiment / target.kind).absolute())
        self._folder = paths.root
        self._ledger = ExperimentLedger(paths, experiment)
        self._queue = TrackerQueue(target, paths)


class MlflowCallback(TrackerCallback):
    """Shows an experiment in MLflow: a parent run, and a child per trial."""

    def __init__(
        self, uri: str | None = None, experiment: str = "isotherm", *, folder: str | Path | None = None
    ) -> None:
        """Set the callback up. Credentials come from ``MLFLOW_TRACKING_USERNAME``, ``_PASSWORD`` and ``_TOKEN``.

        Args:
            uri: of the tracking server; None = an SQLite file next to `folder`.
            experiment: the MLflow experiment's name.
            folder: see `TrackerCallback`.

        Raises:
            ValueError: the URI holds user information.
        """
        super().__init__(folder)
        self._spec = MlflowSpec(uri=uri, experiment=experiment)

    @classmethod
    def of(cls, spec: MlflowSpec) -> "MlflowCallback":
        """As a sweep's settings ask for it."""
        made = cls(spec.uri, spec.experiment)
        made._spec = spec
        return made

    def target(self, secrets: Secrets | None = None) -> Target:
        """Where MLflow is. Credentials go to the address that they were set for, and to no database."""
        spec, secrets = self._spec, secrets or Secrets()
        if spec.uri is None or not secrets.are_for(spec.uri):
            if spec.uri is not None and (secrets.mlflow_tracking_token or secrets.mlflow_tracking_password):
                log.warning("MLflow's credentials are for MLFLOW_TRACKING_URI: they are not sent to %s", spec.uri)
            return MlflowTarget(**self._plain())
        return MlflowTarget(
            **self._plain(),
            username=secrets.mlflow_tracking_username,
            password=secrets.mlflow_tracking_password,
            token=secrets.mlflow_tracking_token,
        )

    def _plain(self) -> dict[str, Any]:
        """All that is no credential. The tracker's process works elsewhere: the data folder is a whole path."""
        return {**self._spec.model_dump(), "data_root": str(DATA.resolve())}


class WandbCallback(TrackerCallback):
    """Shows an experiment in W&B: a run per trial, grouped by experiment."""

    def __init__(
        self,
        project: str = "isotherm",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline"] = "auto",
        *,
        folder: str | Path | None = None,
    ) -> None:
        """Set the callback up. The key comes from ``WANDB_API_KEY``.

        Args:
            project: the W&B project's name.
            entity: team or user; None = the key's default.
            mode: ``auto`` is online with a key and offline without one.
            folder: see `TrackerCallback`.
        """
        super().__init__(folder)
        self._spec = WandbSpec(project=project, entity=entity, mode=mode)

    def target(self, secrets: Secrets | None = None) -> Target:
        """Where W&B is."""
        secrets = secrets or Secrets()
        # Disabled by WANDB_MODE is offline here: what is recorded stays on this host.
        spec = WandbEnvironment().limit(self._spec) or self._spec.model_copy(update={"mode": "offline"})
        return WandbTarget(mode=spec.mode, project=spec.project, entity=spec.entity, api_key=secrets.wandb_api_key)


class OwnCallback(TrackerCallback):
    """Shows an experiment in a tracker of one's own, by its name as a part."""

    def __init__(self, name: str, config: Mapping[str, Any], *, folder: str | Path | None = None) -> None:
        """Set the callback up.

        Args:
            name: as it is registered.
            config: its keys.
            folder: see `TrackerCallback`.
        """
        super().__init__(folder)
        self._name, self._config = name, dict(config)

    def target(self, secrets: Secrets | None = None) -> Target:
        """What it is made of."""
        return OwnTarget(kind=self._name, config=self._config)
