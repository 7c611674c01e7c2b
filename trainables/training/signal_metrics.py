"""Metrics that somebody who acts on predictions looks at: signals, calibration, ranks by date, errors of values.

Those of signals and of calibration are for binary labels and have no value for others; `r2` and `directional_accuracy`
are for values. A signal is a window whose probability is at or above a threshold. The threshold is given, or chosen on
validation and then applied to both splits: nothing is ever chosen on test.

Array names: N windows.
"""

import math
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.special import expit

from trainables.parts import PartConfig
from trainables.schema import Calibration
from trainables.training import calibration
from trainables.training.metric_registry import Floats, MetricWindows, metric

MIN_ASSETS = 3  # of one date, for a correlation of ranks over them


class SignalConfig(PartConfig):
    """When a window is a signal; without `threshold` and `top`, where F-beta is largest on validation."""

    threshold: float | None = Field(None, gt=0, lt=1, description="probability from which on a window is a signal")
    top: float | None = Field(
        None, gt=0, lt=1, description="share of the validation windows that are signals; sets the threshold"
    )
    beta: float = Field(1.0, gt=0, le=100, description="weight of recall in F-beta")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.threshold is not None and self.top is not None:
            raise ValueError("threshold and top are two ways to say when a window is a signal; give one")
        return self


class BinsConfig(PartConfig):
    """Keys of calibration metrics."""

    bins: int = Field(10, ge=2, le=1000, description="of about equally many windows, by probability")
    calibrate: Calibration = Field("none", description="fitted on validation, before")


class CalibratedConfig(PartConfig):
    """Which calibration."""

    method: Literal["platt", "isotonic"] = Field("platt", description="fitted on validation")


def threshold_of(logits_N: Floats, labels_N: Floats, config: SignalConfig) -> float:
    """The logit from which on a window is a signal, chosen on these windows unless it is given.

    NaN where there is no positive label to choose by.
    """
    if config.threshold is not None:
        return math.log(config.threshold / (1 - config.threshold))
    if config.top is not None:
        return float(np.quantile(logits_N, 1 - config.top))
    order = np.argsort(-logits_N, kind="stable")
    hits_N, signals_N = np.cumsum(labels_N[order]), np.arange(1, len(order) + 1)
    if not len(order) or not hits_N[-1]:
        return math.nan
    weight = config.beta**2
    scores_N = (1 + weight) * hits_N / (signals_N + weight * hits_N[-1])
    scores_N[:-1][np.diff(logits_N[order]) == 0] = -1.0  # a threshold cannot part equal outputs
    return float(logits_N[order][int(np.argmax(scores_N))])


def _signals(labels_N: Floats, outputs: Floats, config: SignalConfig, windows: MetricWindows) -> "Signals | None":
    if not _binary(labels_N, outputs):
        return None
    known, given = windows.validation or (labels_N, outputs), config.threshold is not None
    limit = threshold_of(outputs if given else known[1], labels_N if given else known[0], config)
    return None if math.isnan(limit) else Signals(labels_N, outputs >= limit)


class Signals:
    """Counts of signals and of positive labels."""

    def __init__(self, labels_N: Floats, signal_N: npt.NDArray[np.bool_]) -> None:
        self.windows = len(labels_N)
        self.count, self.positive = int(signal_N.sum()), float(labels_N.sum())
        self.hits = float(labels_N[signal_N].sum())

    @property
    def precision(self) -> float | None:
        """Share of signals that were right."""
        return self.hits / self.count if self.count else None

    @property
    def recall(self) -> float | None:
        """Share of positive labels that had a signal."""
        return self.hits / self.positive if self.positive else None


def _binary(labels_N: Floats, outputs: Floats) -> bool:
    return outputs.ndim == 1 and bool(np.isin(labels_N, (0, 1)).all())


@metric("precision", config=SignalConfig)
def precision(labels_N: Floats, outputs: Floats, config: SignalConfig, windows: MetricWindows) -> float | None:
    """Share of signals that were right; none where there is no signal."""
    found = _signals(labels_N, outputs, config, windows)
    return found.precision if found else None


@metric("recall", config=SignalConfig)
def recall(labels_N: Floats, outputs: Floats, config: SignalConfig, windows: MetricWindows) -> float | None:
    """Share of positive labels that had a signal."""
    found = _signals(labels_N, outputs, config, windows)
    return found.recall if found else None


@metric("f_beta", config=SignalConfig)
def f_beta(labels_N: Floats, outputs: Floats, config: SignalConfig, windows: MetricWindows) -> float | None:
    """Weighted harmonic mean of precision and recall (van Rijsbergen 1979); 0 where no signal is right."""
    found = _signals(labels_N, outputs, config, windows)
    if found is None or not found.positive:
        return None
    weight = config.beta**2
    return (1 + weight) * found.hits / (found.count + weight * found.positive)


@metric("lift", config=SignalConfig)
def lift(labels_N: Floats, outputs: Floats, config: SignalConfig, windows: MetricWindows) -> float | None:
    """Precision over the share of positive labels: 1 is no better than acting at random."""
    found = _signals(labels_N, outputs, config, windows)
    if found is None or found.precision is None or not found.positive:
        return None
    return found.precision * found.windows / found.positive


@metric("signals", config=SignalConfig)
def signals(labels_N: Floats, outputs: Floats, config: SignalConfig, windows: MetricWindows) -> float | None:
    """How many windows are signals, of 1,000."""
    found = _signals(labels_N, outputs, config, windows)
    return 1000 * found.count / found.windows if found else None


@metric("ece", config=BinsConfig, lower_is_better=True)
def ece(labels_N: Floats, outputs: Floats, config: BinsConfig, windows: MetricWindows) -> float | None:
    """Expected calibration error of the probabilities."""
    logits_N = _calibrated(labels_N, outputs, config.calibrate, windows)
    return None if logits_N is None else calibration.expected_error(logits_N, labels_N, config.bins)


@metric("brier_reliability", config=BinsConfig, lower_is_better=True)
def brier_reliability(labels_N: Floats, outputs: Floats, config: BinsConfig, windows: MetricWindows) -> float | None:
    """The part of the Brier score that calibration could take away."""
    logits_N = _calibrated(labels_N, outputs, config.calibrate, windows)
    return None if logits_N is None else calibration.brier_parts(logits_N, labels_N, config.bins)["reliability"]


@metric("brier_resolution", config=BinsConfig)
def brier_resolution(labels_N: Floats, outputs: Floats, config: BinsConfig, windows: MetricWindows) -> float | None:
    """How much of the labels' own variance the bins of probability explain."""
    logits_N = _calibrated(labels_N, outputs, config.calibrate, windows)
    return None if logits_N is None else calibration.brier_parts(logits_N, labels_N, config.bins)["resolution"]


@metric("brier_uncertainty", config=BinsConfig, lower_is_better=True)
def brier_uncertainty(labels_N: Floats, outputs: Floats, config: BinsConfig, windows: MetricWindows) -> float | None:
    """Variance of the labels: the Brier score of the split's own rate."""
    binary = _binary(labels_N, outputs)
    return calibration.brier_parts(outputs, labels_N, config.bins)["uncertainty"] if binary else None


@metric("calibrated_loss", config=CalibratedConfig, lower_is_better=True)
def calibrated_loss(
    labels_N: Floats, outputs: Floats, config: CalibratedConfig, windows: MetricWindows
) -> float | None:
    """Mean negative log-likelihood after calibration on validation, in nats."""
    logits_N = _calibrated(labels_N, outputs, config.method, windows)
    return None if logits_N is None else calibration.mean_loss(logits_N, labels_N)


@metric("calibrated_brier", config=CalibratedConfig, lower_is_better=True)
def calibrated_brier(
    labels_N: Floats, outputs: Floats, config: CalibratedConfig, windows: MetricWindows
) -> float | None:
    """Brier score after calibration on validation."""
    logits_N = _calibrated(labels_N, outputs, config.method, windows)
    return None if logits_N is None else float(np.mean((expit(logits_N) - labels_N) ** 2))


def _calibrated(labels_N: Floats, outputs: Floats, how: Calibration, windows: MetricWindows) -> Floats | None:
    if not _binary(labels_N, outputs):
        return None
    known = windows.validation or (labels_N, outputs)
    return calibration.calibrator(how, known[1], known[0])(outputs)


@metric("rank_ic")
def rank_ic(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float | None:
    """Mean over dates of Spearman's correlation of output and label over the assets of one date, three or more."""
    found_T = _ranks_by_date(labels_N, outputs, windows)
    return float(found_T.mean()) if len(found_T) else None


@metric("rank_ic_t")
def rank_ic_t(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float | None:
    """t-statistic of `rank_ic`: mean over standard error. Dates count as independent, also where labels overlap."""
    found_T = _ranks_by_date(labels_N, outputs, windows)
    if len(found_T) < 2 or not found_T.std():
        return None
    return float(found_T.mean() / (found_T.std(ddof=1) / math.sqrt(len(found_T))))


def _ranks_by_date(labels_N: Floats, outputs: Floats, windows: MetricWindows) -> Floats:
    from scipy.stats import rankdata  # here: it takes a second to import

    if outputs.ndim == 2:
        return np.zeros(0)
    order = np.argsort(windows.dates_N, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(windows.dates_N[order].astype(np.int64)) != 0])
    found = [
        np.corrcoef(rankdata(outputs[part]), rankdata(labels_N[part]))[0, 1]
        for part in np.split(order, starts[1:])
        if len(part) >= MIN_ASSETS and np.ptp(outputs[part]) and np.ptp(labels_N[part])
    ]
    return np.array(found, dtype=np.float64)


@metric("r2")
def r2(labels_N: Floats, outputs: Floats, config: PartConfig) -> float | None:
    """1 - squared error over that of the forecast 0, which is the naive one of returns (Campbell and Thompson 2008)."""
    total = float(np.sum(labels_N**2))
    if outputs.ndim == 2 or _binary(labels_N, outputs) or not total:
        return None
    return 1 - float(np.sum((labels_N - outputs) ** 2)) / total


@metric("directional_accuracy")
def directional_accuracy(labels_N: Floats, outputs: Floats, config: PartConfig) -> float | None:
    """Share of values whose sign is predicted; labels of 0 are left out."""
    moved_N = labels_N != 0
    if outputs.ndim == 2 or _binary(labels_N, outputs) or not moved_N.any():
        return None
    return float(np.mean((outputs[moved_N] > 0) == (labels_N[moved_N] > 0)))
