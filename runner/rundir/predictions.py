"""The predictions of a run's trials and baselines, as read back from its folder."""

import logging
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from runner.rundir.paths import RunPaths
from trainables import tables
from trainables.errors import DataError, Problem
from trainables.training import predictions as prediction_tables

PLACE = ["asset", "date"]
_COLUMNS: dict[str, tables.Kind] = {
    "date": "time", "asset": "text", "split": "text", "label": "number",
}  # fmt: skip

log = logging.getLogger(__name__)


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
    return frame[frame["split"] == split].sort_values(PLACE, ignore_index=True)


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
