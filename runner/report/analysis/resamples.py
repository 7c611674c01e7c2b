"""Losses of trials under shared resamples of the periods that they were judged on, from their predictions on disk.

Array names: N windows of a split, R resamples, K trials.
"""

from collections.abc import Sequence

import numpy as np

from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.predictions import PLACE, predictions
from trainables.schema import ResolvedTask
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import Floats
from trainables.training.metrics import Prior, Scorer

COUNT = 1000  # an end of the interval of a mean then moves by 0.08 of its deviation; with 100 by 0.27


def loss_resamples(paths: RunPaths, view: LedgerView, keys: Sequence[str], split: str) -> Floats | None:
    """Losses [R, K] of trials of one horizon.

    None where predictions are missing or not of the same windows, and where labels are values, whose unit of loss the
    ledger does not hold.
    """
    task = _task(view, keys)
    if task is None or task.outcome == "value":
        return None
    frames = [predictions(paths, key, split) for key in keys]
    first = frames[0]
    if first is None or not len(first):
        return None
    outputs = []
    for frame in frames:
        if frame is None or not frame[[*PLACE, "label"]].equals(first[[*PLACE, "label"]]):
            return None
        outputs.append(prediction_tables.outputs(frame))
    labels_N = first["label"].to_numpy(dtype=np.float64)
    dates_N = first["date"].to_numpy().astype("datetime64[ns]")
    scorer = Scorer(labels_N, dates_N, task=task, prior=Prior.of(labels_N, task))
    return scorer.loss_resamples(outputs, count=COUNT)


def _task(view: LedgerView, keys: Sequence[str]) -> ResolvedTask | None:
    spec = view.cells[keys[0]].cell.spec.get("task") if keys else None
    return ResolvedTask.model_validate(spec) if spec is not None else None


def why_missing(paths: RunPaths, view: LedgerView, keys: Sequence[str], split: str) -> str:
    """Why `loss_resamples` has nothing for these trials, in words."""
    task = _task(view, keys)
    if task is None:
        return "the ledger does not hold the task"
    if task.outcome == "value":
        return "predictions of values do not give the losses"
    frames = [predictions(paths, key, split) for key in keys]
    missing = sum(frame is None or not len(frame) for frame in frames)
    if missing:
        return f"predictions of {missing} of {len(keys)} trials are missing or damaged"
    return "the trials' predictions are of different windows"
