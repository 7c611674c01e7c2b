"""Losses of trials under shared resamples of the periods that they were judged on, from their predictions on disk.

Array names: N windows of a split, R resamples, K trials.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from trainables import tables
from trainables.errors import DataError, Problem
from trainables.schema import ResolvedTask
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import Floats
from trainables.training.metrics import Prior, Scorer

COUNT = 1000  # an end of the interval of a mean then moves by 0.08 of its deviation; with 100 by 0.27
_PLACE = ["date", "asset"]
_COLUMNS: dict[str, tables.Kind] = {
    "date": "time", "asset": "text", "split": "text", "label": "number",
}  # fmt: skip

log = logging.getLogger(__name__)


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
        if frame is None or not frame[[*_PLACE, "label"]].equals(first[[*_PLACE, "label"]]):
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


def predictions(paths: RunPaths, key: str, split: str) -> pd.DataFrame | None:
    """Date, asset, label and outputs of a trial's windows of one split, in order; None where there are none on disk.

    Raises:
        TooLargeError: what is there would not fit into memory.
    """
    path = paths.prediction(key)
    try:
        frame = _read(path, path.stat().st_mtime_ns)
    except OSError:  # missing: the report is made from what there is
        return None
    except tables.TooLargeError:
        raise
    except DataError as error:
        log.warning("left out: %s", error)
        return None
    return frame[frame["split"] == split].sort_values(_PLACE, ignore_index=True)


def read_predictions(paths: RunPaths, key: str) -> pd.DataFrame:
    """All windows of a trial or baseline: date, asset, split, label and logit, or a logit for each class.

    Raises:
        DataError: there are none, the file is damaged, or it would not fit into memory.
    """
    path = paths.prediction(key)
    if not path.exists():
        fix = "predictions are written when a trial ends; run the sweep again if it did"
        raise DataError(Problem(place=str(path), message="no predictions", fix=fix))
    return _table(path)


@lru_cache(maxsize=64)  # the trials of one series, as a rule: both splits and the calibration need them
def _read(path: Path, changed_ns: int) -> pd.DataFrame:
    return _table(path)


def _table(path: Path) -> pd.DataFrame:
    try:
        outputs = prediction_tables.columns_among(pq.read_schema(path).names)
    except (OSError, ValueError, pa.ArrowException):
        outputs = prediction_tables.columns(1)  # what is wrong with it is said where it is read
    columns: dict[str, tables.Kind] = {**_COLUMNS, **dict.fromkeys(outputs, "number")}
    return tables.read(path, str(path), max_bytes=tables.RUN_BYTES, columns=columns)
