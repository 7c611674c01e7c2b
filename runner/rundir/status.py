"""Progress of a running or ended sweep, from its ledger and the lock on it."""

from collections import Counter
from typing import Any

from runner.host import clock
from runner.rundir import ledger, requests, results, studies
from runner.rundir.ledger import FINAL, CellRecorded, CellState, LedgerView, SweepStarted
from runner.rundir.paths import RunPaths
from runner.rundir.studies import StudyState

MEASURED_SHARE = 0.01  # of the work must be done before a time left is worth saying
OVERHEAD_PARAMETERS = 100_000  # a step of a tiny model costs about as much as one of this size


def collect(paths: RunPaths) -> dict[str, Any]:
    """Status of a run as plain values.

    Raises:
        LedgerError: the ledger is damaged or of another version.
    """
    view, done_before = LedgerView(), 0.0
    for record in ledger.records(paths.ledger):
        view.apply(record)
        if isinstance(record, SweepStarted):
            done_before = _done(view)
    state = _state(view, paths)
    roles = results.roles_of(view)
    cells = [_cell(key, state) | roles.get(key, {"study": "", "role": ""}) for key, state in view.current.items()]
    return {
        "run": paths.name,
        "state": state,
        "eta_seconds": _eta_s(view, done_before) if state == "running" else None,
        "exit_code": view.ended.exit_code if view.ended else None,
        "counts": dict(Counter(cell["status"] for cell in cells)),
        "cells": cells,
        "studies": [_study(state) for state in studies.states(view)],
        "orphaned": [
            key for key, state in view.cells.items() if key not in view.current and state.cell.cell_kind == "model"
        ],
        "started_at": view.sweeps[-1].time.isoformat() if view.sweeps else None,
    }


def _state(view: LedgerView, paths: RunPaths) -> str:
    """One of: empty, ended, killed (no process writes the ledger, and it has no end), running, paused, stopping."""
    if not view.sweeps:
        return "empty"
    if not requests.is_running(paths):
        return "ended" if view.ended else "killed"
    if view.ended or paths.stop_request.exists():
        return "stopping"  # after the end, trackers and report
    return "paused" if paths.paused.exists() else "running"


def _eta_s(view: LedgerView, done_before: float) -> float | None:
    """Seconds left at the rate since the sweep was started, weighted by work; None before anything was measured."""
    done = _done(view)
    left = sum(_work(state.cell) for state in view.current.values()) - done
    gained = done - done_before
    if gained <= MEASURED_SHARE * (left + done):
        return None
    return (clock.now() - view.sweeps[-1].time).total_seconds() * left / gained


def _done(view: LedgerView) -> float:
    return sum(_work(state.cell) * _fraction(state) for state in view.current.values())


def _fraction(state: CellState) -> float:
    return 1.0 if state.status in FINAL else max(state.metrics, default=0) / max(1, _steps(state.cell))


def _steps(cell: CellRecorded) -> int:
    """Optimizer steps of a whole trial; 0 where the ledger does not have them, as for a baseline."""
    training = cell.spec.get("training")
    if not training or not training.get("epochs") or not training.get("global_batch"):
        return 0
    return int(training["epochs"]) * max(1, (cell.sizes.get("n_train") or 0) // int(training["global_batch"]))


def _work(cell: CellRecorded) -> float:
    """About proportional to the time that a trial takes."""
    steps = _steps(cell)
    return float(steps and steps * cell.spec["training"]["global_batch"] * ((cell.n_params or 0) + OVERHEAD_PARAMETERS))


def _cell(key: str, state: CellState) -> dict[str, Any]:
    last = max(state.metrics, default=0)
    best = [values["val_loss"] for values in state.metrics.values() if values.get("val_loss") is not None]
    result = state.ended.result if state.ended else {}
    return {
        "key": key,
        "name": state.cell.name,
        "status": state.status,
        "attempts": len(state.attempts),
        "step": last,
        "total_steps": _steps(state.cell) or None,
        "epoch": state.epochs.get(last, 0),
        "best_val_loss": min((value for value in best if value is not None), default=None),
        "skill": result.get("skill"),
        "collapsed": result.get("collapsed"),
        "reason": state.ended.reason if state.ended else "",
        "last_record_at": state.last_time.isoformat() if state.last_time else None,
    }


def _study(state: StudyState) -> dict[str, Any]:
    best = state.best
    return {
        "study": state.asked["name"],
        "trials": state.asked["trials"],
        "suggested": len(state.trials),
        "counts": dict(Counter(trial.status for trial in state.trials)),
        "metric": state.objective.metric,
        "best": None if best is None or best.loss is None else state.objective.as_loss(best.loss),
        "best_number": None if best is None else best.number,
        "best_key": None if best is None else best.key,
        "best_values": None if best is None else best.values,
        "confirming": list(state.confirmed),
    }
