"""Losses, priors and Brier scores of each outcome, in numbers: what the metrics of likelihood are made of.

An outcome's numbers are in one class each, so that nothing else asks which outcome it has.

Array names: N windows, K classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, softmax, xlog1py, xlogy

from trainables.data.splits import class_shares
from trainables.schema import Outcome, ResolvedTask
from trainables.training.bootstrap import Floats

_LOG_2PI = math.log(2 * math.pi)
# Of the mean probability from a rate. A sigmoid of probabilities moves the mean by 0.12 at a rate of 0.5, by 0.05 at
# 0.6, and by more below; an honest model is nearer than this to one of the two rates.
SQUASHED_LEVEL = 0.04
Ranked = tuple[Floats, Floats]  # outputs and labels of 0 and 1


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
    """The numbers of one outcome on the labels of one split."""

    def prior_losses(self) -> Floats:
        """Losses [N] of the prior."""
        ...

    def own_rate_loss(self) -> float:
        """Loss of the split's own rates, which no forecaster knows beforehand."""
        ...

    def series(self) -> Floats:
        """A series [N] of the labels whose dependence over time is that of the losses."""
        ...

    def losses(self, outputs: Floats, residual_variance: float | None) -> Floats:
        """Negative log-likelihoods [N]."""
        ...

    def spread(self, outputs: Floats) -> float:
        """How much predictions vary."""
        ...

    def squashed(self, outputs: Floats) -> bool:
        """Whether outputs look like probabilities where logits are due."""
        ...

    def ranked(self, outputs: Floats) -> list[Ranked]:
        """What AUC and average precision are means over: one class against the rest; empty for values."""
        ...

    def brier(self, outputs: Floats) -> float | None:
        """Brier score; None of values."""
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


class _Binary:
    """Labels 0 and 1, from one logit."""

    def __init__(self, labels_N: Floats, prior: Prior) -> None:
        self._labels_N, self._prior = labels_N, prior

    def prior_losses(self) -> Floats:
        return _of_rate(self._labels_N, self._prior.mean)

    def own_rate_loss(self) -> float:
        return float(_of_rate(self._labels_N, self._labels_N.mean()).mean())

    def series(self) -> Floats:
        """The prior's loss is an affine function of a binary label, which does not move with the training split."""
        return self._labels_N

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

    def ranked(self, outputs: Floats) -> list[Ranked]:
        return [(outputs, self._labels_N)]

    def brier(self, outputs: Floats) -> float | None:
        return float(((expit(outputs) - self._labels_N) ** 2).mean())


class _Classes:
    """Numbers of three classes or more, from a logit each. AUC and average precision are means over one against rest.

    The Brier score is the sum over the classes (Brier 1950), from 0 to 2.
    """

    def __init__(self, labels_N: Floats, prior: Prior) -> None:
        self._labels_N, self._prior = labels_N, prior
        self._is_NK = (labels_N[:, None] == np.arange(len(prior.shares))).astype(np.float64)
        self._own_K = self._is_NK.mean(axis=0)

    def prior_losses(self) -> Floats:
        with np.errstate(divide="ignore"):  # a class that is not there is true nowhere
            return _of_true(np.log(np.asarray(self._prior.shares))[None], self._labels_N)

    def own_rate_loss(self) -> float:
        return float(-xlogy(self._own_K, self._own_K).sum())

    def series(self) -> Floats:
        """Of this split alone, as that of a binary label."""
        with np.errstate(divide="ignore"):
            return _of_true(np.log(self._own_K)[None], self._labels_N)

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

    def ranked(self, outputs: Floats) -> list[Ranked]:
        return list(zip(softmax(outputs, axis=1).T, self._is_NK.T, strict=True))

    def brier(self, outputs: Floats) -> float | None:
        return float(((softmax(outputs, axis=1) - self._is_NK) ** 2).sum(axis=1).mean())


class _Value:
    """Numbers, from their predicted means. The label is standardised with the training split's mean and deviation."""

    def __init__(self, labels_N: Floats, prior: Prior) -> None:
        self._labels_N, self._prior = labels_N, prior
        self._target_N = (labels_N - prior.mean) / prior.deviation

    def prior_losses(self) -> Floats:
        losses_N: Floats = 0.5 * (_LOG_2PI + self._target_N**2)
        return losses_N

    def own_rate_loss(self) -> float:
        return 0.5 * (_LOG_2PI + math.log(self._target_N.var()) + 1)

    def series(self) -> Floats:
        """The loss is quadratic, and volatility clusters."""
        squares_N: Floats = (self._labels_N - self._labels_N.mean()) ** 2
        return squares_N

    def losses(self, outputs: Floats, residual_variance: float | None) -> Floats:
        assert residual_variance is not None
        error_N = (outputs - self._prior.mean) / self._prior.deviation - self._target_N
        return gaussian_losses(error_N, residual_variance / self._prior.variance)

    def spread(self, outputs: Floats) -> float:
        return float(outputs.std() / self._labels_N.std())

    def squashed(self, outputs: Floats) -> bool:
        return False

    def ranked(self, outputs: Floats) -> list[Ranked]:
        return []

    def brier(self, outputs: Floats) -> float | None:
        return None


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
