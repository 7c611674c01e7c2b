"""Progress of a running or ended sweep, from its ledger alone."""

from collections import Counter
from typing import Any

from runner.rundir import ledger, results, studies
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.studies import StudyState


def collect(paths: RunPaths) -> dict[str, Any]:
    """Status of a run as plain values.

    Raises:
        LedgerError: the ledger is damaged or of another version.
    """
    view = ledger.read(paths.ledger)
    roles = results.roles_of(view)
    cells = [_cell(key, state) | roles.get(key, {"study": "", "role": ""}) for key, state in view.current.items()]
    return {
        "run": paths.name,
        "state": _state(view),
        "exit_code": view.ended.exit_code if view.ended else None,
        "counts": dict(Counter(cell["status"] for cell in cells)),
        "cells": cells,
        "studies": [_study(state) for state in studies.states(view)],
        "orphaned": [
            key for key, state in view.cells.items() if key not in view.current and state.cell.cell_kind == "model"
        ],
        "started_at": view.sweeps[-1].time.isoformat() if view.sweeps else None,
    }


def _state(view: LedgerView) -> str:
    if not view.sweeps:
        return "empty"
    return "ended" if view.ended else "running or killed"


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
        "epoch": state.epochs.get(last, 0),
        "best_val_loss": min((value for value in best if value is not None), default=None),
        "skill": result.get("skill"),
        "collapsed": result.get("collapsed"),
        "reason": state.ended.reason if state.ended else "",
        "last_record_at": state.last_time.isoformat() if state.last_time else None,
    }


def _study(state: StudyState) -> dict[str, Any]:
    best, metric = state.best, state.asked["metric"]
    return {
        "study": state.asked["name"],
        "trials": state.asked["trials"],
        "suggested": len(state.trials),
        "counts": dict(Counter(trial.status for trial in state.trials)),
        "metric": metric,
        "best": None if best is None or best.loss is None else studies.shown(best.loss, metric),
        "best_number": None if best is None else best.number,
        "best_values": None if best is None else best.values,
        "confirming": list(state.confirmed),
    }
