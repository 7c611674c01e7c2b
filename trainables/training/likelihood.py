"""Losses, priors and ranking measures of each outcome, in numbers: what `metrics` makes the scores of a trial of.

An outcome's numbers are in one class each, so that nothing else asks which outcome it has.

Array names: N windows, K classes, R rows of weights, G groups of windows with equal outputs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, softmax, xlog1py, xlogy

from trainables.data.splits import class_shares
from trainables.schema import Outcome, ResolvedTask
from trainables.training.bootstrap import Floats
from trainables.training.ranking import Ranking

_LOG_2PI = math.log(2 * math.pi)
# Of the mean probability from a rate. A sigmoid of probabilities moves the mean by 0.12 at a rate of 0.5, by 0.05 at
# 0.6, and by more below; an honest model is nearer than this to one of the two rates.
SQUASHED_LEVEL = 0.04
Means = Callable[[Floats], Floats]  # weighted means [R] of values [N]


@dataclass(frozen=True)
class Prior:
    """What is known without looking, from the training split.

    Attributes:
        mean: of the labels; of binary ones the share of positives.
        variance: of the labels.
        shares: of the classes; empty where labels are values.
    """

    mean: float
    variance: float
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, labels_N: Floats, task: ResolvedTask) -> "Prior":
        """From the labels of the training split."""
        return cls(float(labels_N.mean()), float(labels_N.var()), class_shares(labels_N, task.n_classes))

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)


class Likelihood(Protocol):
    """The numbers of one outcome on the labels of one split.

    Attributes:
        prior_N: losses of the prior.
        own_rate_loss: loss of the split's own rates, which no forecaster knows beforehand.
        ranges: smallest and largest possible value of each number that has one.
        series_N: a series of the labels whose dependence over time is that of the losses.
    """

    prior_N: Floats
    own_rate_loss: float
    ranges: Mapping[str, tuple[float, float]]
    series_N: Floats

    def losses(self, outputs: Floats, residual_variance: float | None) -> Floats:
        """Negative log-likelihoods [N]."""
        ...

    def spread(self, outputs: Floats) -> float:
        """How much predictions vary."""
        ...

    def squashed(self, outputs: Floats) -> bool:
        """Whether outputs look like probabilities where logits are due."""
        ...

    def measures(self, outputs: Floats, weight_RN: Floats, means: Means) -> dict[str, Floats]:
        """AUC, average precision and Brier score [R] under weights, NaN where a class has none; empty for values."""
        ...


def binary_losses(logits_N: Floats, labels_N: Floats) -> Floats:
    """Cross-entropies of labels 0 and 1."""
    losses_N: Floats = np.logaddexp(0, logits_N) - logits_N * labels_N
    return losses_N


def class_losses(logits_NK: Floats, labels_N: Floats) -> Floats:
    """Cross-entropies of class numbers."""
    return _of_true(log_softmax(logits_NK, axis=1), labels_N)


def gaussian_losses(error_N: Floats, variance: float) -> Floats:
    """Negative log densities of errors with this variance."""
    losses_N: Floats = 0.5 * (_LOG_2PI + math.log(variance) + error_N**2 / variance)
    return losses_N


_Ranges = Mapping[str, tuple[float, float]]
_OF_CLASSES = {"loss": (0.0, math.inf), "skill": (-math.inf, 1.0), "auc": (0.0, 1.0), "ap": (0.0, 1.0)}


class _Binary:
    """Labels 0 and 1, from one logit."""

    ranges: _Ranges = _OF_CLASSES | {"brier": (0.0, 1.0)}

    def __init__(self, labels_N: Floats, prior: Prior) -> None:
        self._labels_N, self._prior = labels_N, prior
        self.prior_N = _of_rate(labels_N, prior.mean)
        self.own_rate_loss = float(_of_rate(labels_N, labels_N.mean()).mean())
        # The prior's loss is an affine function of a binary label: the label itself has the same dependence over time
        # and does not move with the training split.
        self.series_N = labels_N

    def losses(self, outputs: Floats, residual_variance: float | None) -> Floats:
        return binary_losses(outputs, self._labels_N)

    def spread(self, outputs: Floats) -> float:
        return float(expit(outputs).std())

    def squashed(self, outputs: Floats) -> bool:
        """Logits of a common class may all lie between 0 and 1, too, but their mean probability is then its share."""
        mean = float(expit(outputs).mean())
        rates = (self._prior.mean, float(self._labels_N.mean()))
        inside = bool(outputs.min() >= 0 and outputs.max() <= 1)
        return inside and min(abs(mean - rate) for rate in rates) > SQUASHED_LEVEL

    def measures(self, outputs: Floats, weight_RN: Floats, means: Means) -> dict[str, Floats]:
        brier_R = means((expit(outputs) - self._labels_N) ** 2)
        return {**Ranking(outputs, self._labels_N).measures(weight_RN), "brier": brier_R}


class _Classes:
    """Numbers of three classes or more, from a logit each. AUC and average precision are means over one against rest.

    The Brier score is the sum over the classes (Brier 1950), from 0 to 2.
    """

    ranges: _Ranges = _OF_CLASSES | {"brier": (0.0, 2.0)}

    def __init__(self, labels_N: Floats, prior: Prior) -> None:
        self._labels_N, self._prior = labels_N, prior
        classes_K = np.arange(len(prior.shares))
        self._is_NK = (labels_N[:, None] == classes_K).astype(np.float64)
        self._own_K = self._is_NK.mean(axis=0)
        with np.errstate(divide="ignore"):  # a class that is not there is true nowhere
            self.prior_N = _of_true(np.log(np.asarray(prior.shares))[None], labels_N)
            # of this split alone, as that of a binary label
            self.series_N = _of_true(np.log(self._own_K)[None], labels_N)
        self.own_rate_loss = float(-xlogy(self._own_K, self._own_K).sum())

    def losses(self, outputs: Floats, residual_variance: float | None) -> Floats:
        return class_losses(outputs, self._labels_N)

    def spread(self, outputs: Floats) -> float:
        """The largest of the classes: a model that never moves any of them has collapsed."""
        return float(softmax(outputs, axis=1).std(axis=0).max())

    def squashed(self, outputs: Floats) -> bool:
        mean_K = softmax(outputs, axis=1).mean(axis=0)
        inside = bool(outputs.min() >= 0 and outputs.max() <= 1)
        rates = (np.asarray(self._prior.shares), self._own_K)
        return inside and min(float(np.abs(mean_K - rate_K).max()) for rate_K in rates) > SQUASHED_LEVEL

    def measures(self, outputs: Floats, weight_RN: Floats, means: Means) -> dict[str, Floats]:
        probability_NK = softmax(outputs, axis=1)
        brier_R = means(((probability_NK - self._is_NK) ** 2).sum(axis=1))
        each = [
            Ranking(one_N, is_N).measures(weight_RN)
            for one_N, is_N in zip(probability_NK.T, self._is_NK.T, strict=True)
        ]
        return {**{name: np.mean([one[name] for one in each], axis=0) for name in each[0]}, "brier": brier_R}


class _Value:
    """Numbers, from their predicted means. The label is standardised with the training split's mean and deviation."""

    ranges: _Ranges = dict.fromkeys(("loss", "skill"), (-math.inf, math.inf))  # a density's loss may be negative

    def __init__(self, labels_N: Floats, prior: Prior) -> None:
        self._deviation, self._prior = float(labels_N.std()), prior
        self._target_N = (labels_N - prior.mean) / prior.deviation
        self.prior_N = 0.5 * (_LOG_2PI + self._target_N**2)
        self.own_rate_loss = 0.5 * (_LOG_2PI + math.log(self._target_N.var()) + 1)
        self.series_N = (labels_N - labels_N.mean()) ** 2  # the loss is quadratic, and volatility clusters

    def losses(self, outputs: Floats, residual_variance: float | None) -> Floats:
        assert residual_variance is not None
        error_N = (outputs - self._prior.mean) / self._prior.deviation - self._target_N
        return gaussian_losses(error_N, residual_variance / self._prior.variance)

    def spread(self, outputs: Floats) -> float:
        return float(outputs.std() / self._deviation)

    def squashed(self, outputs: Floats) -> bool:
        return False

    def measures(self, outputs: Floats, weight_RN: Floats, means: Means) -> dict[str, Floats]:
        return {}


_OF: dict[Outcome, Callable[[Floats, Prior], Likelihood]] = {"binary": _Binary, "classes": _Classes, "value": _Value}


def likelihood(outcome: Outcome, labels_N: npt.NDArray[np.float64], prior: Prior) -> Likelihood:
    """The numbers of an outcome on these labels."""
    return _OF[outcome](labels_N, prior)


def _of_true(log_p_NK: Floats, labels_N: Floats) -> Floats:
    """Losses [N] of log probabilities [N, K] or [1, K]: those of the class that is true."""
    is_NK = labels_N[:, None] == np.arange(log_p_NK.shape[1])
    losses_N: Floats = -np.where(is_NK, log_p_NK, 0.0).sum(axis=1)
    return losses_N


def _of_rate(labels_N: Floats, rate: float) -> Floats:
    return np.asarray(-(xlogy(labels_N, rate) + xlog1py(1 - labels_N, -rate)), dtype=np.float64)
