"""The table of a model's predictions: one row per window, with a logit, or with one for each class.

Array names: N windows, K classes.
"""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.training.bootstrap import Floats

PLACE = ("date", "asset", "split", "label")
ONE = "logit"  # of values the predicted mean
_CLASS = re.compile(r"logit_(\d{1,6})")


def columns(n_outputs: int) -> tuple[str, ...]:
    """The columns of the outputs: ``logit``, or ``logit_0``, ``logit_1``, ... in the order of the classes."""
    return (ONE,) if n_outputs == 1 else tuple(f"{ONE}_{number}" for number in range(n_outputs))


def table(
    dates_N: npt.NDArray[np.datetime64],
    assets_N: npt.NDArray[np.str_],
    split: str,
    labels_N: npt.NDArray[np.float32],
    outputs: Floats,
) -> pd.DataFrame:
    """Columns date, asset, split, label and those of the outputs [N] or [N, K]."""
    place = {"date": dates_N, "asset": assets_N, "split": split, "label": labels_N}
    each = outputs[:, None] if outputs.ndim == 1 else outputs
    return pd.DataFrame({**place, **dict(zip(columns(each.shape[1]), each.T, strict=True))})


def outputs(frame: pd.DataFrame) -> Floats:
    """The outputs [N] or [N, K] of a table's rows."""
    names = columns_among(frame.columns)
    return frame[names[0] if len(names) == 1 else list(names)].to_numpy(dtype=np.float64)


def columns_among(names: Iterable[str]) -> tuple[str, ...]:
    """The columns of the outputs that a table with these columns has, or should have."""
    names = list(names)
    return columns(1 if ONE in names else len([name for name in names if _CLASS.fullmatch(name)]) or 1)
