"""Ensembles: the mean of what the seeds of one size predict, as rows of their own. Nothing is trained.

Probabilities are averaged, of values the predicted means; each ensemble holds all finished trials that differ in the
seed alone. It says nothing about a law of size: an ensemble of m trials takes m times the parameters at use.

Array names: M trials, N windows, K classes.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, logsumexp

from runner import baselines
from runner.planning.plan import Plan
from runner.rundir import comparable, results
from runner.rundir.ledger import CellRecorded, CellState
from runner.rundir.predictions import read_predictions
from runner.rundir.recorder import Recorder
from trainables.baselines import Prediction
from trainables.data import catalog
from trainables.data.splits import SplitName
from trainables.data.window_index import WindowIndex, index_windows
from trainables.errors import DataError, Problem
from trainables.schema import MetricSpec, Outcome
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import Floats

SPLITS: tuple[SplitName, ...] = ("validation", "test")

log = logging.getLogger(__name__)


def run(plan: Plan, recorder: Recorder, data_root: Path, metrics: Sequence[MetricSpec] = ()) -> None:
    """Record an ensemble of each size with two finished seeds or more that the ledger does not hold yet.

    One whose predictions cannot be read or combined is left out, and the log says why.

    Raises:
        OSError: the ledger or a file of predictions cannot be written.
    """
    groups: dict[str, list[CellState]] = {}
    for state in recorder.view.compared.values():
        if state.status == "finished":
            groups.setdefault(repr(results.without_seed(state.cell.spec)), []).append(state)
    places = {comparable.identity(cell.spec.model_dump(mode="json")): cell for cell in plan.grid.cells}
    indexes: dict[str, WindowIndex] = {}
    for members in groups.values():
        cell, place = recorded(members), comparable.identity(members[0].cell.spec)
        known = recorder.view.cells.get(cell.key)
        if len(members) < 2 or place not in places or (known is not None and known.final):
            continue
        try:
            if place not in indexes:
                asked = places[place]
                indexes[place] = index_windows(catalog.load(asked.entry, data_root), asked.spec.data, asked.spec.task)
            tables = [read_predictions(plan.paths, state.cell.key) for state in members]
            prediction = _mean(cell.name, members, tables, indexes[place])
        except DataError as error:
            log.warning("no ensemble %s: %s", cell.name, error)
            continue
        baselines.record_outputs(cell, prediction, indexes[place], plan.paths, recorder, metrics, 0.0)


def recorded(members: Sequence[CellState]) -> CellRecorded:
    """The cell record of the ensemble of some trials."""
    first, keys = members[0].cell, sorted(state.cell.key for state in members)
    spec = {**results.without_seed(first.spec), "ensemble": {"members": keys}}
    axes = {name: value for name, value in (first.labels.get("axes") or {}).items() if name != "training.seed"}
    labels = {name: value for name, value in first.labels.items() if name not in ("seed", "role")} | {"axes": axes}
    name = "-".join(part for part in first.name.split("-") if part != f"s{first.labels.get('seed')}")
    return CellRecorded(
        key=baselines.key_of(spec),
        name=f"{name}-ensemble{len(members)}",
        cell_kind="ensemble",
        labels=labels,
        n_params=first.n_params,
        n_params_non_embedding=first.n_params_non_embedding,
        sizes=first.sizes,
        spec=spec,
        parts=first.parts,
    )


def _mean(name: str, members: Sequence[CellState], tables: Sequence[Any], index: WindowIndex) -> Prediction:
    """Mean predictions for each split.

    Of values the residual variance is the mean of the members': that of their mean is never larger.

    Raises:
        DataError: a member's predictions are not of the windows of the data.
    """
    outputs: dict[SplitName, Floats] = {}
    for split in SPLITS:
        part = index.splits[split]
        frames = [table[table["split"] == split] for table in tables]
        for frame in frames:
            same = len(frame) == len(part) and np.array_equal(frame["date"].to_numpy("datetime64[ns]"), part.dates_N)
            if not same or not np.array_equal(frame["asset"].to_numpy(str), part.assets_N):
                raise DataError(Problem(place=name, message=f"a trial's {split} predictions are of other windows"))
        each = np.stack([prediction_tables.outputs(frame) for frame in frames])
        outputs[split] = mean_outputs(each, index.task.outcome)
    variances = [state.ended.result.get("train_residual_variance") for state in members if state.ended]
    known = [value for value in variances if value is not None]
    return Prediction(name, outputs, float(np.mean(known)) if known else None)


def mean_outputs(outputs: Floats, outcome: Outcome) -> Floats:
    """Outputs of the mean prediction, from those of each trial: [M, N] or [M, N, K]."""
    if outcome == "value":
        mean_N: Floats = outputs.mean(axis=0)
        return mean_N
    if outcome == "classes":
        log_p_NK: Floats = logsumexp(log_softmax(outputs, axis=2), axis=0) - np.log(len(outputs))
        return log_p_NK
    # of the smaller probability, so that neither end is rounded to 0 or 1
    rises_N = expit(outputs).mean(axis=0)
    falls_N = expit(-outputs).mean(axis=0)
    found_N: Floats = np.log(rises_N) - np.log(falls_N)
    return found_N
