"""Shows a run in W&B: one W&B run per trial and one of the sweep, a group, online with a key and else in files.

Nothing is shown twice. A trial's rows are numbered by their order in the ledger, so a run that is found online is
continued behind the rows that it has. A file cannot be continued: the trial's directory is written anew from the
ledger, and replaces the former one when it is complete.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen

import pandas as pd
from pydantic import SecretStr, TypeAdapter

from runner.config.trackers import tracker
from runner.rundir.ledger import (
    FINAL,
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellState,
    EventRecorded,
    LedgerView,
    MetricsRecorded,
    SweepEnded,
)
from runner.rundir.paths import RunPaths
from runner.tracking import fields
from runner.tracking.causes import WANDB, Cause, cause_of, problem
from runner.tracking.runs_file import RunsFile
from runner.tracking.tracker import RefusedError, Target, Tracker, UnusableError, key_of, ledger_id
from trainables.errors import Problem
from trainables.files import read_json, real_folder, remove_tree, replace_text

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 60.0
REACH_TIMEOUT_S = 5.0
SWEEP = "sweep"  # in the id of the sweep's own run, where trials have their keys
TAG_LENGTH = 64  # W&B refuses longer ones
_SHOWN = (AttemptStarted, MetricsRecorded, CellEnded)  # records that show in a trial's run
_OF_SWEEP = (SweepEnded, EventRecorded)  # in the sweep's: an event holds its report's answer
# Errors that mean that W&B's own service process is gone. Its library does not start a second one.
_SERVICE_GONE = ("MailboxClosedError", "HandleAbandonedError", "ConnectionResetError", "BrokenPipeError")


class WandbTarget(Target):
    """Where W&B is. ``auto`` is online with a key and offline without one."""

    kind: Literal["wandb"] = "wandb"
    mode: Literal["auto", "online", "offline"] = "auto"
    project: str = "isotherm"
    entity: str | None = None
    api_key: SecretStr | None = None

    @property
    def online(self) -> bool:
        """Whether runs are sent to a server."""
        return self.mode == "online" or (self.mode == "auto" and self.api_key is not None)

    def environment(self) -> dict[str, str]:
        """No connection to a W&B service of somebody else, and no reports about this process.

        WANDB_MODE was looked at before; a value that W&B does not know, or an empty one, would end every run here.
        """
        mode = "online" if self.online else "offline"
        return {"WANDB_SERVICE": "", "WANDB_ERROR_REPORTING": "false", "WANDB_MODE": mode}

    def working_folder(self, root: Path) -> Path:
        """Not next to a run: W&B takes settings, a server's address among them, from ``wandb/settings`` where it is."""
        return Path(root.anchor)


@dataclass(frozen=True)
class _About:
    """What a W&B run says apart from its rows; `summary` is None until it has ended."""

    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    notes: str
    config: dict[str, Any]
    summary: dict[str, Any] | None
    exit_code: int


@dataclass
class _Run:
    """A trial or the sweep as a whole: all its rows, and its W&B run while that is open."""

    run_id: str
    rows: list[dict[str, float]] = field(default_factory=list)
    seen: fields.SeenMetrics = field(default_factory=fields.SeenMetrics)
    through: int = -1
    run: Any = None
    sent: int = 0

    def add(self, record: AnyRecord) -> None:
        self.through = record.seq
        if isinstance(record, MetricsRecorded) and (values := self.seen.new(record.step, record.values)):
            # W&B keeps its own counter of rows; the optimizer step is a metric, and the axis of all others.
            self.rows.append(
                {"step": record.step, "epoch": record.epoch, **values, "_timestamp": record.time.timestamp()}
            )


class WandbTracker:
    """The W&B runs of a sweep: one per trial, and one of the sweep when it has ended."""

    name = "wandb"

    def __init__(self, target: WandbTarget, paths: RunPaths) -> None:
        self._target = target
        self._paths = paths
        self._open_runs: dict[str, _Run] = {}
        self._delivered = _Delivered(paths.wandb / "delivered.json", target)
        self._noted = RunsFile(paths.tracker_runs(self.name))

    def consume(self, records: Sequence[AnyRecord], view: LedgerView) -> None:
        """Bring the W&B run of one key, or of the sweep, level with the ledger."""
        key = key_of(records[0])
        relevant = [record for record in records if isinstance(record, _SHOWN if key else _OF_SWEEP)]
        if not relevant or (key is None and view.ended is None):
            return
        trial = self._open_runs.setdefault(key or SWEEP, _Run(f"{ledger_id(view)}-{key or SWEEP}"))
        for record in relevant:
            trial.add(record)
        if trial.through <= self._delivered.through(trial.run_id) and (self._target.online or self._folders(trial)):
            return
        try:
            self._level(trial, key, self._of_sweep(view) if key is None else _of_trial(view.cells[key], view))
        except Exception as error:
            trial.run = None
            happened = error.__cause__ if isinstance(error, UnusableError) else error
            if isinstance(happened, Exception) and (cause := self._cause(happened)) and cause.lasting:
                raise RefusedError from happened
            if type(error).__name__ in _SERVICE_GONE:
                raise UnusableError from error
            raise

    def close(self, complete: bool) -> Mapping[str, Exception]:
        """Finish what is open: it was interrupted."""
        failed: dict[str, Exception] = {}
        for key, trial in self._open_runs.items():
            if trial.run is not None:
                try:
                    self._finish(trial, {"status": "interrupted"}, exit_code=1)
                except Exception as error:
                    failed[key] = error
        return failed

    def explain(self, error: Exception) -> Problem:
        """An error in plain words, with the fix."""
        return problem(error, self._cause(error), "W&B", "wandb.log")

    def _cause(self, error: Exception) -> Cause | None:
        return cause_of(error, WANDB) if self._target.online else None

    # ---- one run -------------------------------------------------------------------------------------------------

    def _level(self, trial: _Run, key: str | None, about: _About) -> None:
        if trial.run is None:
            trial.run = self._open(trial, about)
            trial.sent = trial.run.starting_step
            if key is not None:
                self._noted.note(key, trial.run_id, trial.run.url if self._target.online else None)
        for row in trial.rows[trial.sent :]:
            trial.run.log(row)
            trial.sent += 1
        if about.summary is not None:
            self._finish(trial, about.summary, about.exit_code)

    def _of_sweep(self, view: LedgerView) -> _About:
        """The sweep: its settings, its report's answer, a table of all results, the report itself."""
        import wandb

        sweep, ended = view.sweeps[-1], view.ended
        columns, rows = fields.table(view)
        summary: dict[str, Any] = {"status": fields.sweep_status(view), "cells": len(sweep.keys)}
        # Not a table of W&B's own: that is an artifact, for which a server is asked for more than files and numbers.
        text = pd.DataFrame(rows, columns=columns).to_html(index=False, na_rep="")
        summary["results"] = wandb.Html(text, data_is_not_path=True)
        if fields.answer(view) and self._paths.report_html.is_file() and not self._paths.report_html.is_symlink():
            summary["report"] = wandb.Html(self._paths.report_html.read_text(), inject=False, data_is_not_path=True)
        config = {**sweep.config, "code_version": sweep.code_version, "versions": sweep.versions}
        code = ended.exit_code if ended else 1
        return _About(sweep.run, view.sweeps[0].run, SWEEP, (SWEEP,), fields.answer(view), config, summary, code)

    def _open(self, trial: _Run, about: _About) -> Any:
        import wandb  # half a second; whoever does not track does not pay it

        if self._target.online:
            _reach(wandb.setup().settings.base_url)
        real_folder(self._paths.wandb, self._paths.root)
        before = set(self._folders(trial))
        try:
            run = wandb.init(
                mode="online" if self._target.online else "offline",
                project=self._target.project,
                entity=self._target.entity,
                id=trial.run_id,
                name=about.name,
                group=about.group,
                job_type=about.job_type,
                tags=about.tags,
                notes=about.notes,
                config=about.config,
                allow_val_change=True,
                dir=self._paths.wandb.parent,  # W&B adds the folder `wandb`
                reinit="create_new",
                resume="allow",
                settings=self._settings(),
            )
        except Exception as error:
            for folder in set(self._folders(trial)) - before:  # one more for every try
                remove_tree(folder)
            raise UnusableError from error  # the service takes the run for one in use from now on (wandb 0.31)
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    def _settings(self) -> Any:
        import wandb

        key = self._target.api_key if self._target.online else None
        return wandb.Settings(
            api_key=key.get_secret_value() if key else None,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            finish_timeout=FINISH_TIMEOUT_S,
            finish_timeout_raises=True,
            init_timeout=INIT_TIMEOUT_S,
            label_disable=True,
            quiet=True,
            save_code=False,
            silent=True,
            symlink=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )

    def _finish(self, trial: _Run, summary: Mapping[str, Any], exit_code: int) -> None:
        run, trial.run = trial.run, None
        run.summary.update(dict(summary))
        run.finish(exit_code=exit_code)
        self._delivered.note(trial.run_id, trial.through)
        for folder in self._folders(trial):
            if folder.name != Path(run.settings.sync_dir).name:
                remove_tree(folder)

    def _folders(self, trial: _Run) -> list[Path]:
        """W&B's directories of a trial: ``run-<time>-<id>`` or ``offline-run-<time>-<id>``, perhaps with a number."""
        found = (*self._paths.wandb.glob(f"*run-*-{trial.run_id}"), *self._paths.wandb.glob(f"*run-*-{trial.run_id}-*"))
        return [path for path in found if path.is_dir()]


def _of_trial(state: CellState, view: LedgerView) -> _About:
    """A trial: labels to filter and group by, the resolved specification in full, its results."""
    cell, ended, run = state.cell, state.ended, view.sweeps[0].run
    labels = fields.labels(state)
    attempt = state.attempts[-1] if state.attempts else None
    summary: dict[str, Any] | None = None
    if ended is not None:
        summary = {"status": state.status, "reason": ended.reason, "attempts": len(state.attempts)}
        summary = {**fields.finite(ended.result), **summary}
    return _About(
        name=cell.name,
        group="/".join(filter(None, (run, cell.labels.get("study")))),
        job_type=cell.labels.get("role") or cell.cell_kind,
        tags=[str(labels[name])[:TAG_LENGTH] for name in ("budget", "model", "tier", "timescale") if labels.get(name)],
        notes=f"trial {cell.key} of sweep {run}",
        config={
            "key": cell.key,
            "kind": cell.cell_kind,
            **labels,
            "n_params": cell.n_params,
            "n_params_non_embedding": cell.n_params_non_embedding,
            **cell.sizes,
            "spec": cell.spec,
            "execution": attempt.execution if attempt else {},
            "code_version": attempt.code_version if attempt else "",
        },
        summary=summary,
        exit_code=0 if ended is not None and ended.status in FINAL else 1,
    )


def _reach(url: str) -> None:
    """Ask whether anybody is there, before W&B's library is asked: it cannot begin a run again that it failed to begin.

    Raises:
        OSError: no answer in time, or a server error.
    """
    try:
        urlopen(url, timeout=REACH_TIMEOUT_S).close()
    except HTTPError as error:
        error.close()
        if error.code >= 500:
            raise


_THROUGH: TypeAdapter[dict[str, dict[str, int]]] = TypeAdapter(dict[str, dict[str, int]])


class _Delivered:
    """Up to which ledger record each trial has arrived in full, kept in the folder of W&B's own files."""

    def __init__(self, path: Path, target: WandbTarget) -> None:
        self._path = path
        self._place = f"{target.entity or ''}/{target.project}" if target.online else "offline"
        self._through: dict[str, dict[str, int]] = {}
        try:
            if path.exists():
                self._through = _THROUGH.validate_python(read_json(path))
        except (OSError, ValueError):
            log.warning("%s is damaged; W&B is brought level from the ledger", path)

    def through(self, run_id: str) -> int:
        """The number of the last record that has arrived, or -1."""
        return self._through.get(self._place, {}).get(run_id, -1)

    def note(self, run_id: str, through: int) -> None:
        """Remember it."""
        self._through.setdefault(self._place, {})[run_id] = through
        replace_text(self._path, json.dumps(self._through, indent=1))


@tracker("wandb", config=WandbTarget)
def wandb(config: WandbTarget, paths: RunPaths) -> Tracker:
    """W&B: a run per trial; `tracking.wandb` has its settings."""
    return WandbTracker(config, paths)
