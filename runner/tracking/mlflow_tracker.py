"""Shows a run in MLflow: one parent run per sweep, one child per trial.

Trials of a search are children of their study's run, which is a child of the sweep's.

Nothing is shown twice: runs are found by tags, parameters that are there are left alone, and the tag
``isotherm.through`` holds the number of the last ledger record that has arrived in full. Where a call was cut off
before that tag could be written, the metrics' histories tell what had arrived.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from runner.config.trackers import tracker
from runner.rundir.ledger import AnyRecord, CellState, LedgerView, MetricsRecorded
from runner.rundir.paths import RunPaths
from runner.serving.choice import best_of_each
from runner.tracking import fields, models
from runner.tracking.mlflow_store import (
    DATASET,
    HTTP_TIMEOUT_S,
    KEY,
    LEDGER,
    MODEL,
    NOTE,
    OWNED,
    PARENT,
    RESULT,
    ROLE,
    RUN_NAME,
    RUNNING,
    STUDY,
    THROUGH,
    MlflowStore,
    Point,
    Run,
    user_name,
)
from runner.tracking.runs_file import RunsFile
from runner.tracking.tracker import RefusedError, Target, Tracker, key_of, ledger_id
from trainables.errors import Problem

KILLED = "KILLED"
# MLflow knows fewer outcomes than the ledger; the tag `status` has the ledger's.
MLFLOW_STATUS = {
    "running": RUNNING,
    "finished": "FINISHED",
    "diverged": "FINISHED",
    "infeasible": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "out_of_memory": "FAILED",
    "thermal_stop": KILLED,
    "interrupted": KILLED,
}


class MlflowTarget(Target):
    """Where MLflow is. `uri` None is the database in the run's parent folder, shared by all runs there."""

    kind: Literal["mlflow"] = "mlflow"
    uri: str | None = None
    experiment: str = "isotherm"
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    log_model: Literal["best", "all", "none"] = "none"
    register_as: str | None = None
    data_root: str = ""  # absolute; of the data that trials were trained on

    def environment(self) -> dict[str, str]:
        """MLflow's client takes time limits and credentials from the environment alone."""
        revealed = self.revealed()
        credentials = {name: revealed[name] for name in ("username", "password", "token")}
        return {
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the default's seven take minutes; we try again ourselves
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(HTTP_TIMEOUT_S),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **{f"MLFLOW_TRACKING_{name.upper()}": value for name, value in credentials.items() if value},
        }


class MlflowTracker:
    """A run's parent and children in MLflow."""

    name = "mlflow"

    def __init__(self, target: MlflowTarget, paths: RunPaths) -> None:
        self._store = MlflowStore(target.uri, target.experiment, paths.mlflow_db)
        self._report = paths.report_html
        self._parent: Run | None = None
        self._studies: dict[str, Run] = {}
        self._trials: dict[str, Run] = {}
        self._target = target
        self._exporter = models.Exporter(paths, Path(target.data_root))
        self._refused: set[str] = set()  # keys that cannot be exported
        self._runs = RunsFile(paths.tracker_runs(self.name))

    def consume(self, records: Sequence[AnyRecord], view: LedgerView) -> None:
        """Bring the run of one key, or the parent, level with the ledger."""
        key = key_of(records[0])
        try:
            if key is None:
                self._level_sweep(view)
            elif key in view.cells and fields.shown(view.cells[key]):
                self._level_trial(view.cells[key], records, view)
        except Exception as error:
            # How much arrived is unknown now: MLflow is asked again before the next try.
            self._parent = None
            self._studies.clear()
            self._trials.clear()
            if (cause := self._store.cause(error)) and cause.lasting:
                raise RefusedError from error
            raise

    def close(self, complete: bool) -> Mapping[str, Exception]:
        """Leave no run RUNNING: what is open now was interrupted."""
        parents = (self._parent,) if self._parent else ()
        for run in (*self._trials.values(), *self._studies.values(), *parents):
            if run.status == RUNNING:
                self._store.write_status(run, KILLED)
        return {}

    def explain(self, error: Exception) -> Problem:
        """An error in plain words, with the fix."""
        return self._store.explain(error)

    def _level_sweep(self, view: LedgerView) -> None:
        if not view.sweeps:
            return
        parent = self._open(view)
        sweep, ended = view.sweeps[-1], view.ended
        about = {"code_version": sweep.code_version, "cells": str(len(sweep.keys))}
        self._store.write_params(parent, {name: fields.text(value) for name, value in fields.flatten(sweep.config)})
        self._store.write_tags(parent, {**about, **self._store.write_artifact(parent, "sweep.json", sweep.config)})
        if answer := fields.answer(view):
            self._store.write_tags(parent, {NOTE: answer, **self._store.write_report(parent, self._report)})
        status = MLFLOW_STATUS[fields.sweep_status(view)]
        for run in (*self._studies.values(), parent):
            self._store.write_status(run, status, ended.time if ended else None)
        if ended is not None and self._target.log_model == "best":
            for state in best_of_each(view):
                if state.cell.key in self._trials:
                    self._log_model(self._trials[state.cell.key], state.cell.key)

    def _level_trial(self, state: CellState, records: Sequence[AnyRecord], view: LedgerView) -> None:
        parent = self._open(view)
        run = self._trials.get(state.cell.key) or self._create(parent, state, view)
        self._runs.note(state.cell.key, run.run_id, self._store.address(run))
        if fresh := [record for record in records if record.seq > run.through]:
            self._bring(run, state, fresh)
        if state.status != "finished" or state.cell.cell_kind != "model":
            return
        if self._target.log_model == "all":
            self._log_model(run, state.cell.key)
        elif self._target.log_model == "best" and view.ended is None and state in best_of_each(view):
            self._exported(state.cell.key)  # while others train, so that the sweep's end need not wait for it

    def _bring(self, run: Run, state: CellState, fresh: Sequence[AnyRecord]) -> None:
        """Bring a trial's run level with new records."""
        fixed = {"key": state.cell.key, "budget": state.cell.labels.get("budget"), **fields.fixed(state)}
        self._store.write_params(run, {name: fields.text(value) for name, value in fixed.items()})
        self._store.write_points(run, self._points(run, state, fresh))
        if run.params and DATASET not in run.tags:
            self._store.write_tags(run, self._store.write_dataset(run, state.cell.spec.get("data", {})))
        artifact = self._store.write_artifact(run, "spec.json", state.cell.spec)
        if results := fields.results(state):
            artifact |= self._store.write_artifact(run, "result.json", results, RESULT)
        ended_at = state.ended.time if state.ended else None
        self._store.write_status(run, MLFLOW_STATUS[state.status], ended_at)
        tags = {name: fields.text(value) for name, value in fields.changing(state).items()}
        self._store.write_tags(run, {**tags, **artifact, THROUGH: str(fresh[-1].seq)})

    def _log_model(self, run: Run, key: str) -> None:
        """Log a trial's model, once."""
        if MODEL in run.tags or (folder := self._exported(key)) is None:
            return
        self._store.write_tags(run, {MODEL: self._store.log_model(run, folder, self._target.register_as)})

    def _exported(self, key: str) -> Path | None:
        """A trial's export; None where there can be none, which is raised once."""
        if key in self._refused:
            return None
        try:
            return self._exporter.folder(key)
        except models.ModelExportError:
            self._refused.add(key)
            raise

    def _points(self, run: Run, state: CellState, fresh: Sequence[AnyRecord]) -> list[Point]:
        """Points that are not there yet: metrics by optimizer step, and headline results under ``result/``."""
        rows = [(record.step, record.time, record.values) for record in fresh if isinstance(record, MetricsRecorded)]
        if state.ended and (results := fields.headlines(state)):
            values: dict[str, float | None] = {f"result/{name}": value for name, value in results.items()}
            rows.append((fields.last_step(state), state.ended.time, values))
        points = []
        for step, time, row in rows:
            for name in row:
                self._store.learn_steps(run, name)
            points += [Point(name, value, step, time) for name, value in run.seen.new(step, row).items()]
        return points

    def _open(self, view: LedgerView) -> Run:
        """The sweep's parent run; its children are looked up once, all together."""
        if self._parent is None:
            first = view.sweeps[0]
            parent = self._store.sweep(ledger_id(view), first.run, first.time, _source(first.code_version))
            self._store.write_tags(parent, {OWNED: "yes"})  # before it has children: distinguishes it from a duplicate
            self._studies = self._store.studies(parent)
            self._trials = self._store.trials(parent)
            for study in self._studies.values():
                self._trials |= self._store.trials(study)
            self._parent = parent
        return self._parent

    def _create(self, parent: Run, state: CellState, view: LedgerView) -> Run:
        key = state.cell.key
        above = self._study(parent, state, view) or parent
        tags = {PARENT: above.run_id, KEY: key, ROLE: "trial", LEDGER: ledger_id(view), RUN_NAME: view.sweeps[0].run}
        tags |= _source(state.attempts[-1].code_version if state.attempts else "")
        self._trials[key] = self._store.create(state.cell.name, fields.began(state), tags)
        return self._trials[key]

    def _study(self, parent: Run, state: CellState, view: LedgerView) -> Run | None:
        """The run of the study that a trial belongs to; None where it belongs to none."""
        name = state.cell.labels.get("study")
        asked = next((study for study in view.studies.values() if study["name"] == name), None)
        if asked is None:
            return None
        identity = str(asked["study"])
        if identity not in self._studies:
            tags = {PARENT: parent.run_id, STUDY: identity, ROLE: "study", LEDGER: ledger_id(view)}
            tags |= {RUN_NAME: view.sweeps[0].run}
            self._studies[identity] = self._store.create(asked["name"], view.sweeps[-1].time, tags)
            about = {name: fields.text(asked[name]) for name in ("space", "trials", "metric", "axes")}
            self._store.write_tags(self._studies[identity], {OWNED: "yes", **about})
            status = MLFLOW_STATUS[fields.sweep_status(view)]
            self._store.write_status(self._studies[identity], status, view.ended.time if view.ended else None)
        return self._studies[identity]


def _source(code_version: str) -> dict[str, str]:
    """The columns of MLflow's table of runs: user, source, and the commit, as far as the version names one."""
    commit = code_version.partition("+g")[2].partition(".")[0]
    tags = {"mlflow.user": user_name(), "mlflow.source.name": "isotherm sweep", "mlflow.source.type": "LOCAL"}
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


@tracker("mlflow", config=MlflowTarget)
def mlflow(config: MlflowTarget, paths: RunPaths) -> Tracker:
    """MLflow: a parent run, and a child per trial; `tracking.mlflow` has its settings."""
    return MlflowTracker(config, paths)
