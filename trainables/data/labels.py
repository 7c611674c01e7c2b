"""Labels: the only place that may look ahead, by the task's own number of bars."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.dataset import Dataset, asset_rows
from trainables.errors import ConfigError, DataError, Problem
from trainables.schema import ResolvedTask
from trainables.tasks import lookahead, registry

Array = npt.NDArray[np.float64]

MAX_ASSETS = 4  # that are looked at, evenly spread: a task treats all alike


def make_labels(frame: pd.DataFrame, task: ResolvedTask) -> Array:
    """The task's label of each bar, from bars of the same asset alone.

    Args:
        frame: bars; a long table sorted by asset and date, or one asset's.
        task: of a trial.

    Returns:
        [T] float64; NaN where the task knows none, and where fewer than `task.lookahead` bars follow.

    Raises:
        ConfigError: the task is not registered here as the trial has it, or failed on these bars.
        DataError: labels that are none of the task's outcome.
    """
    chosen = registry.of_trial(task)
    labels_T = np.full(len(frame), np.nan)
    for rows in asset_rows(frame):
        labels_T[rows.start : rows.stop] = _of_one_asset(frame.iloc[rows.start : rows.stop], task, chosen)
    return labels_T


def _of_one_asset(bars: pd.DataFrame, task: ResolvedTask, chosen: registry.Task) -> Array:
    labels_T = lookahead.labels(chosen, bars)
    if wrong := lookahead.wrong_values(labels_T, len(bars), task.n_classes):
        raise DataError(Problem(place=f"task {task.kind}", message=wrong, fix=f"correct it ({_place(chosen)})"))
    labels_T[max(0, len(bars) - task.lookahead) :] = np.nan  # what follows is not complete
    return labels_T


def check_lookahead(dataset: Dataset, task: ResolvedTask) -> None:
    """Return if no label uses bars beyond the task's lookahead: the purge between splits relies on it.

    Seen by changing the future of at most `MAX_ASSETS` assets, at some places (`lookahead.beyond`).

    Raises:
        ConfigError: one does; named with its bar.
    """
    chosen = registry.of_trial(task)
    for number in np.unique(np.linspace(0, len(dataset.rows) - 1, MAX_ASSETS).astype(int)):
        if wrong := lookahead.beyond(chosen, dataset.bars(dataset.rows[number]), task.lookahead):
            fix = f"return the number of bars that its labels use from lookahead ({_place(chosen)})"
            raise ConfigError(Problem(place=f"task {task.kind}", message=wrong, fix=fix))


def _place(chosen: registry.Task) -> str:
    return chosen.part.source.place
