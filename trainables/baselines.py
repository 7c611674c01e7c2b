"""What simple methods reach on the same windows and splits: every budget is read against them.

Models see a window bar by bar; baselines see a summary of it, which makes them a matter of seconds: the last value, the
mean and the standard deviation of each feature over the context, standardised on the training split. All settings are
fixed and none is chosen on validation, so that a baseline's validation loss flatters it no more than its test loss.

Array names: T rows of the dataset, N windows of a split, F features, S summary columns, K classes.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainables.data.dataset import Dataset, asset_rows
from trainables.data.splits import SPLITS, SplitName, class_shares
from trainables.data.window_index import WindowIndex
from trainables.schema import ResolvedTask

Floats = npt.NDArray[np.float64]

NAMES = ("prior", "volatility", "linear", "boosted_trees")
VERSION = 1  # part of a baseline's identity: a change of what is computed below must raise it
_STRENGTH = 0.01  # inverse of the L2 penalty: overlapping windows of noisy data are far fewer samples than they count
_RECENT_BARS = 10
_SMALLEST = 1e-6  # volatility whose logarithm is taken
# Few, small, slow trees: on a few thousand overlapping windows the library's defaults fit the noise.
_TREES: dict[str, Any] = {
    "max_iter": 100,
    "learning_rate": 0.04,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 50,
    "l2_regularization": 10.0,
    "early_stopping": False,  # scikit-learn would draw its validation windows at random, among their overlaps
    "random_state": 0,
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """One baseline's outputs for each split: logits [N], of classes [N, K]; of values predicted means in label units.

    `residual_variance` is of values the training split's mean squared error, else None.
    """

    name: str
    outputs: dict[SplitName, Floats]
    residual_variance: float | None


def predict(dataset: Dataset, index: WindowIndex) -> list[Prediction]:
    """Fit all baselines of `NAMES` on the training windows and predict every split.

    Args:
        dataset: the rows.
        index: its windows, which have passed `WindowIndex.check`.
    """
    classes = index.task.n_classes > 0
    labels_N = index.splits["train"].labels_N
    constant = _constant(labels_N, index.task)
    outputs: dict[str, dict[SplitName, Floats]] = {
        "prior": {name: np.repeat(constant[None], len(index.splits[name]), axis=0) for name in SPLITS}
    }
    summary = {name: _summary(index.data.values_TF, index, name) for name in SPLITS}
    volatility_T = _returns(dataset)
    volatility = {name: _volatility(volatility_T, index, name) for name in SPLITS}
    linear = _linear(classes)
    trees = (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(**_TREES)
    for name, model, inputs in (
        ("volatility", linear(), volatility),
        ("linear", linear(), summary),
        ("boosted_trees", trees, summary),
    ):
        outputs[name] = _fitted(model, inputs, labels_N, classes=classes)
    return [Prediction(name, outputs[name], None if classes else _error(outputs[name], labels_N)) for name in NAMES]


def _constant(labels_N: Floats, task: ResolvedTask) -> Floats:
    """The output of who knows the training labels alone: a number, or a logit for each class."""
    if task.outcome == "classes":
        logit_K: Floats = np.log(np.asarray(class_shares(labels_N, task.n_classes)))
        return logit_K
    base = float(labels_N.mean())
    return np.asarray(np.log(base / (1 - base)) if task.n_classes else base)


def _linear(classes: bool) -> Callable[[], Any]:
    def make() -> Any:
        model = LogisticRegression(C=_STRENGTH, max_iter=500) if classes else Ridge(alpha=1 / _STRENGTH)
        return make_pipeline(StandardScaler(), model)

    return make


def _fitted(model: Any, inputs: dict[SplitName, Floats], labels_N: Floats, *, classes: bool) -> dict[SplitName, Floats]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
        model.fit(inputs["train"], labels_N.astype(int) if classes else labels_N)
    give = model.decision_function if classes else model.predict
    return {name: np.asarray(give(x_NS), dtype=np.float64) for name, x_NS in inputs.items()}


def _error(outputs: dict[SplitName, Floats], labels_N: Floats) -> float:
    return float(np.mean((outputs["train"] - labels_N) ** 2))


def _summary(values_TF: Floats, index: WindowIndex, split: SplitName) -> Floats:
    """Last value, mean and standard deviation of each feature, [N, 3 F]."""
    ends_N, bars = index.splits[split].ends_N, index.task.context
    # rows that warm up are in no window; differences of running sums lose least about a common origin
    origin_F = np.nanmedian(values_TF, axis=0)
    shifted_TF = np.nan_to_num(values_TF - origin_F)
    mean_NF, deviation_NF = _moments(shifted_TF, ends_N, bars)
    summary_NS: Floats = np.hstack([shifted_TF[ends_N], mean_NF, deviation_NF])
    return summary_NS


def _returns(dataset: Dataset) -> Floats:
    """Log return of each row's close on the one before, [T, 1]; 0 at the first row of an asset."""
    close_T = dataset.frame["close"].to_numpy(dtype=np.float64)
    return_T = np.zeros(len(close_T))
    for rows in asset_rows(dataset.frame):
        return_T[rows.start + 1 : rows.stop] = np.diff(np.log(close_T[rows.start : rows.stop]))
    return return_T[:, None]


def _volatility(return_T1: Floats, index: WindowIndex, split: SplitName) -> Floats:
    """Log of the returns' standard deviation over the context and over its last bars, [N, 2]."""
    ends_N, context = index.splits[split].ends_N, index.task.context
    spans = (context, min(_RECENT_BARS, context))
    columns = [_moments(return_T1, ends_N, bars)[1] for bars in spans]
    log_N2: Floats = np.log(np.maximum(np.hstack(columns), _SMALLEST))
    return log_N2


def _moments(values_TF: Floats, ends_N: npt.NDArray[np.int64], bars: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the last `bars` rows up to and including each end."""
    zero_1F = np.zeros((1, values_TF.shape[1]))
    sums = [np.vstack([zero_1F, np.cumsum(power, axis=0)]) for power in (values_TF, values_TF**2)]
    mean_NF, square_NF = ((total[ends_N + 1] - total[ends_N + 1 - bars]) / bars for total in sums)
    deviation_NF: Floats = np.sqrt(np.maximum(square_NF - mean_NF**2, 0.0))
    return mean_NF, deviation_NF
