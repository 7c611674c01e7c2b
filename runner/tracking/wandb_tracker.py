"""Shows a run in W&B: one W&B run a trial, grouped by sweep, online with a key and else in files.

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

from pydantic import SecretStr, TypeAdapter

from runner.config.trackers import tracker
from runner.rundir.ledger import FINAL, AnyRecord, AttemptStarted, CellEnded, CellState, LedgerView, MetricsRecorded
from runner.rundir.paths import RunPaths
from runner.tracking import fields
from runner.tracking.runs_file import RunsFile
from runner.tracking.tracker import Target, Tracker, UnusableError, key_of, ledger_id
from trainables.errors import Problem
from trainables.files import read_json, real_folder, remove_tree, replace_text

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 60.0
REACH_TIMEOUT_S = 5.0
TAG_LENGTH = 64  # W&B refuses longer ones
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


@dataclass
class _Trial:
    """One trial: all its rows, and its W&B run while that is open."""

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
    """The W&B runs of a sweep."""

    name = "wandb"

    def __init__(self, target: WandbTarget, paths: RunPaths) -> None:
        self._target = target
        self._paths = paths
        self._trials: dict[str, _Trial] = {}
        self._delivered = _Delivered(paths.wandb / "delivered.json", target)
        self._runs = RunsFile(paths.tracker_runs(self.name))

    def consume(self, records: Sequence[AnyRecord], view: LedgerView) -> None:
        """Bring the W&B run of one key level with the ledger."""
        key = key_of(records[0])
        relevant = [record for record in records if isinstance(record, AttemptStarted | MetricsRecorded | CellEnded)]
        if key is None or not relevant:
            return
        trial = self._trials.setdefault(key, _Trial(f"{ledger_id(view)}-{key}"))
        for record in relevant:
            trial.add(record)
        if trial.through <= self._delivered.through(trial.run_id) and (self._target.online or self._folders(trial)):
            return
        try:
            self._level(trial, view.cells[key], view)
        except Exception as error:
            trial.run = None
            if type(error).__name__ in _SERVICE_GONE:
                raise UnusableError from error
            raise

    def close(self, complete: bool) -> Mapping[str, Exception]:
        """Finish what is open: it was interrupted."""
        failed: dict[str, Exception] = {}
        for key, trial in self._trials.items():
            if trial.run is not None:
                try:
                    self._finish(trial, {"status": "interrupted"}, exit_code=1)
                except Exception as error:
                    failed[key] = error
        return failed

    def explain(self, error: Exception) -> Problem:
        """An error in plain words, with the fix."""
        text = f"{type(error).__name__}: {error}".lower()
        for words, message, fix in _EXPLANATIONS:
            if any(word in text for word in words):
                return Problem(place="W&B", message=message, fix=fix)
        return Problem(
            place="W&B",
            message=f"{type(error).__name__}: {str(error)[:500]}",
            fix="see wandb.log in the run's logs",
        )

    # ---- one trial -----------------------------------------------------------------------------------------------

    def _level(self, trial: _Trial, state: CellState, view: LedgerView) -> None:
        if trial.run is None:
            trial.run = self._open(trial, state, view)
            trial.sent = trial.run.starting_step
            self._runs.note(state.cell.key, trial.run_id, trial.run.url if self._target.online else None)
        for row in trial.rows[trial.sent :]:
            trial.run.log(row)
            trial.sent += 1
        if state.ended is not None:
            summary = {"status": state.status, "reason": state.ended.reason, "attempts": len(state.attempts)}
            exit_code = 0 if state.ended.status in FINAL else 1
            self._finish(trial, {**fields.finite(state.ended.result), **summary}, exit_code)

    def _open(self, trial: _Trial, state: CellState, view: LedgerView) -> Any:
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
                name=state.cell.name,
                group="/".join(filter(None, (view.sweeps[0].run, state.cell.labels.get("study")))),
                job_type=state.cell.labels.get("role") or state.cell.cell_kind,
                tags=_tags(state),
                notes=f"trial {state.cell.key} of sweep {view.sweeps[0].run}",
                config=_config(state),
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

    def _finish(self, trial: _Trial, summary: Mapping[str, Any], exit_code: int) -> None:
        run, trial.run = trial.run, None
        run.summary.update(dict(summary))
        run.finish(exit_code=exit_code)
        self._delivered.note(trial.run_id, trial.through)
        for folder in self._folders(trial):
            if folder.name != Path(run.settings.sync_dir).name:
                remove_tree(folder)

    def _folders(self, trial: _Trial) -> list[Path]:
        """W&B's directories of a trial: ``run-<time>-<id>`` or ``offline-run-<time>-<id>``, perhaps with a number."""
        found = (*self._paths.wandb.glob(f"*run-*-{trial.run_id}"), *self._paths.wandb.glob(f"*run-*-{trial.run_id}-*"))
        return [path for path in found if path.is_dir()]


def _tags(state: CellState) -> list[str]:
    """What a table of runs is filtered by."""
    labels = fields.labels(state)
    return [str(labels[name])[:TAG_LENGTH] for name in ("budget", "model", "tier", "timescale") if labels.get(name)]


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


def _config(state: CellState) -> dict[str, Any]:
    """Labels to filter and group by, and the resolved spec in full."""
    attempt = state.attempts[-1] if state.attempts else None
    return {
        "key": state.cell.key,
        "kind": state.cell.cell_kind,
        **fields.labels(state),
        "n_params": state.cell.n_params,
        "n_params_non_embedding": state.cell.n_params_non_embedding,
        **state.cell.sizes,
        "spec": state.cell.spec,
        "execution": attempt.execution if attempt else {},
        "code_version": attempt.code_version if attempt else "",
    }


_LATER = "what is missing is sent when it is reachable, or later by `isotherm sync`"
_EXPLANATIONS = (
    (
        ("401", "403", "authenticationerror", "permission", "invalid api key", "api key must"),
        "it refuses this key",
        "correct WANDB_API_KEY, or tracking.wandb.entity and project",
    ),
    (
        ("api_key not configured", "no api key", "not logged in", "usageerror"),
        "there is no key for the online mode",
        "set WANDB_API_KEY, or tracking.wandb.mode: offline",
    ),
    (
        ("connection refused", "deadline exceeded", "timed out", "timeout", "commerror", "urlerror", "http error 5"),
        "it does not answer",
        f"look at the network, or set tracking.wandb.mode: offline; {_LATER}",
    ),
)


@tracker("wandb", config=WandbTarget)
def wandb(config: WandbTarget, paths: RunPaths) -> Tracker:
    """W&B: a run a trial; `tracking.wandb` has its settings."""
    return WandbTracker(config, paths)
