"""What simple methods reach on the same windows and splits: every budget is read against them.

Models see a window bar by bar; baselines see a summary of it, which makes them a matter of seconds: the last value, the
mean and the standard deviation of each feature over the context, standardised on the training split. All settings are
fixed and none is chosen on validation, so that a baseline's validation loss flatters it no more than its test loss.

Array names: T rows of the dataset, N windows of a split, F features, S summary columns, K classes.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.baseline_registry import BASELINES, baseline
from trainables.data import scaling
from trainables.data.dataset import Dataset
from trainables.data.splits import SPLITS, SplitName, class_shares
from trainables.data.window_index import WindowIndex
from trainables.errors import DataError, Problem
from trainables.parts import PartConfig
from trainables.schema import BASELINE_NAMES, BaselineSpec

Floats = npt.NDArray[np.float64]
DEFAULT = tuple(BaselineSpec(name=name) for name in BASELINE_NAMES)

MAX_FITTED = 500_000  # windows that a baseline is fitted on; above it some of them, evenly spread
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


class SplitWindows:
    """The windows of one split, as a baseline sees them.

    Attributes:
        classes: labels are numbers of classes, outputs are logits; else labels are values, outputs predicted means.
        n_outputs: numbers for each window: 1, or K for more than two classes.
        n_classes: 0 where labels are values.
        labels_N: float64.
        dates_N: of each window's last bar.
        features: names of the columns of `bars_NLF`.
    """

    def __init__(self, dataset: Dataset, index: WindowIndex, split: SplitName) -> None:
        self._dataset, self._index = dataset, index
        part = self._part = index.splits[split].spread(MAX_FITTED) if split == "train" else index.splits[split]
        self.n_classes = index.task.n_classes
        self.classes = self.n_classes > 0
        self.n_outputs = self.n_classes if index.task.outcome == "classes" else 1
        self.labels_N, self.dates_N, self.features = part.labels_N, part.dates_N, index.features

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def bars_NLF(self) -> Floats:  # noqa: N802
        """Features as presented, before scaling, of each window's bars. Built when asked for: N x L x F numbers."""
        rows_NL = self._part.ends_N[:, None] + np.arange(1 - self._index.task.context, 1)
        return np.asarray(self._index.data.values_TF[rows_NL], dtype=np.float64)

    @cached_property
    def summary_NS(self) -> Floats:  # noqa: N802
        """Last value, mean and standard deviation of each feature, [N, 3 F]."""
        values_TF, ends_N = self._index.data.values_TF, self._part.ends_N
        mean_NF, variance_NF = scaling.moments(values_TF, ends_N, self._index.task.context)
        summary_NS: Floats = np.hstack([values_TF[ends_N], mean_NF, np.sqrt(variance_NF)])
        return summary_NS

    @cached_property
    def volatility_N2(self) -> Floats:  # noqa: N802
        """Logarithm of the returns' standard deviation over the context and over its last bars."""
        return _volatility(self._dataset, self._part.ends_N, self._index.task.context)


def predict(dataset: Dataset, index: WindowIndex, specs: Sequence[BaselineSpec] = DEFAULT) -> list[Prediction]:
    """Fit baselines on the training windows and predict every split.

    Args:
        dataset: the rows.
        index: its windows, which have passed `WindowIndex.check`.
        specs: which baselines.

    Raises:
        DataError: a baseline fails, or gives something else than finite numbers, as many as asked, for each window.
    """
    splits = {name: SplitWindows(dataset, index, name) for name in SPLITS}
    return [_prediction(spec, splits) for spec in specs]


def _prediction(spec: BaselineSpec, splits: Mapping[SplitName, SplitWindows]) -> Prediction:
    part, train = BASELINES.get(spec.name, "baselines"), splits["train"]
    config = part.configure(part.own(spec.config), "baselines")
    model = part.target()

    def refusal(what: str) -> DataError:
        message = f"the baseline {part.name!r} {what}"
        return DataError(Problem(place=part.source.place, message=message, fix="correct it, or leave it out"))

    try:
        model.fit(train, config)
        outputs = {name: np.asarray(model.predict(windows), dtype=np.float64) for name, windows in splits.items()}
    except Exception as error:  # code of somebody else: its words, with its name
        raise refusal(f"fails with {type(error).__name__}: {error}") from error
    for name, outputs_N in outputs.items():
        n = len(splits[name])
        wanted = (n,) if train.n_outputs == 1 else (n, train.n_outputs)
        if outputs_N.shape != wanted or not np.isfinite(outputs_N).all():
            raise refusal(f"must give finite numbers of shape {wanted} for {name}, not {outputs_N.shape}")
    return Prediction(part.name, outputs, None if train.classes else _error(outputs, train.labels_N))


@baseline("prior")
class BaseRate:
    """The training split's base rate, or mean label."""

    def fit(self, windows: SplitWindows, config: PartConfig) -> None:
        """Keep one number, or a logit for each class."""
        if windows.n_outputs > 1:
            self._constant: Floats = np.log(np.asarray(class_shares(windows.labels_N, windows.n_classes)))
            return
        base = float(windows.labels_N.mean())
        self._constant = np.asarray(np.log(base / (1 - base)) if windows.classes else base)

    def predict(self, windows: SplitWindows) -> Floats:
        """The same for every window."""
        return np.repeat(self._constant[None], len(windows), axis=0)


@baseline("linear")
class Linear:
    """Logistic (ridge) regression on the summary of each feature."""

    def fit(self, windows: SplitWindows, config: PartConfig) -> None:
        """Fit on the training windows."""
        self._model = self.model(windows.classes)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
            self._model.fit(self.inputs(windows), windows.labels_N.astype(int) if windows.classes else windows.labels_N)

    def predict(self, windows: SplitWindows) -> Floats:
        """Logits, or predicted means."""
        give = self._model.decision_function if windows.classes else self._model.predict
        return np.asarray(give(self.inputs(windows)), dtype=np.float64)

    def model(self, classes: bool) -> Any:
        """The model, not yet fitted."""
        from sklearn.linear_model import LogisticRegression, Ridge  # here: a second, and a plan needs the names alone
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = LogisticRegression(C=_STRENGTH, max_iter=500) if classes else Ridge(alpha=1 / _STRENGTH)
        return make_pipeline(StandardScaler(), model)

    def inputs(self, windows: SplitWindows) -> Floats:
        """What the model sees."""
        return windows.summary_NS


@baseline("volatility")
class Volatility(Linear):
    """Logistic (ridge) regression on the volatility of past returns alone."""

    def inputs(self, windows: SplitWindows) -> Floats:
        """Volatility over the context and over its last bars."""
        return windows.volatility_N2


@baseline("boosted_trees")
class BoostedTrees(Linear):
    """Gradient-boosted trees on the summary of each feature."""

    def model(self, classes: bool) -> Any:
        """Few, small, slow trees."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(**_TREES)


def _error(outputs: dict[SplitName, Floats], labels_N: Floats) -> float:
    return float(np.mean((outputs["train"] - labels_N) ** 2))


def _volatility(dataset: Dataset, ends_N: npt.NDArray[np.int64], context: int) -> Floats:
    """Log of the returns' standard deviation over the context and over its last bars, [N, 2]."""
    close_T = dataset.number("close")
    return_T1 = np.diff(np.log(close_T), prepend=np.nan)[:, None]
    return_T1[[rows.start for rows in dataset.rows]] = 0
    spans = (context, min(_RECENT_BARS, context))
    columns = [np.sqrt(scaling.moments(return_T1, ends_N, bars)[1]) for bars in spans]
    log_N2: Floats = np.log(np.maximum(np.hstack(columns), _SMALLEST))
    return log_N2
