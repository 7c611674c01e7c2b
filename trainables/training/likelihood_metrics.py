"""The metrics that every trial has: likelihood, skill over the prior, ranking and calibration.

Array names: N windows.
"""

import math
from collections.abc import Callable

import numpy as np

from trainables.parts import PartConfig
from trainables.training import ranking
from trainables.training.likelihood import Likelihood, likelihood
from trainables.training.metric_registry import Floats, MetricWindows, metric

SHARE = (0.0, 1.0)
POSITIVE, BELOW_ONE = (0.0, math.inf), (-math.inf, 1.0)  # of values the loss is a density's: it may be negative


def _of(labels_N: Floats, windows: MetricWindows) -> Likelihood:
    assert windows.prior is not None  # a table of predictions alone is never asked for these
    return likelihood(windows.outcome, labels_N, windows.prior)


@metric("loss", lower_is_better=True, within={"binary": POSITIVE, "classes": POSITIVE})
def loss(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float:
    """Mean negative log-likelihood in nats; of values with the residual variance of training."""
    return float(_of(labels_N, windows).losses(outputs, windows.residual_variance).mean())


@metric("skill", within={"binary": BELOW_ONE, "classes": BELOW_ONE})
def skill(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float:
    """1 - loss / loss of the prior."""
    of = _of(labels_N, windows)
    return 1 - float(of.losses(outputs, windows.residual_variance).mean()) / float(of.prior_losses().mean())


@metric("auc", within={"binary": SHARE, "classes": SHARE})
def auc(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float | None:
    """Area under the ROC curve; of several classes the mean over one against the rest."""
    return _ranked(ranking.auc, labels_N, outputs, windows)


@metric("ap", within={"binary": SHARE, "classes": SHARE})
def ap(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float | None:
    """Average precision; of several classes the mean over one against the rest."""
    return _ranked(ranking.average_precision, labels_N, outputs, windows)


@metric("brier", lower_is_better=True, within={"binary": SHARE, "classes": (0.0, 2.0)})
def brier(labels_N: Floats, outputs: Floats, config: PartConfig, windows: MetricWindows) -> float | None:
    """Brier score; of several classes the sum over them (Brier 1950), from 0 to 2."""
    return _of(labels_N, windows).brier(outputs)


def _ranked(
    measure: Callable[[Floats, Floats], float], labels_N: Floats, outputs: Floats, windows: MetricWindows
) -> float | None:
    each = [measure(*one) for one in _of(labels_N, windows).ranked(outputs)]
    return float(np.mean(each)) if each else None
