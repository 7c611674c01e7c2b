"""Training losses: what the optimizer minimises. What is reported is always `metrics.py`'s unweighted likelihood.

A loss is split into a weighted sum and a total weight, so that a global batch can be taken in pieces and still give
the gradient of the whole: sum over pieces of ``weighted_sum(piece) / total_weight(global batch)``.

Tensor names: B windows of a batch.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.errors import ConfigError, Problem
from trainables.schema import ResolvedTraining, TaskKind
from trainables.training.metrics import Prior


class Loss(Protocol):
    """A loss over windows that can be taken in pieces. Model outputs are logits; no model applies a sigmoid."""

    def total_weight(self, y_B: Tensor) -> Tensor | float:
        """Sum of the windows' weights; depends on the labels alone."""
        ...

    def weighted_sum(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """Sum over the windows of weight times loss, in nats (squared error: in variances)."""
        ...


@dataclass(frozen=True)
class _ClassWeights:
    positive: float = 1.0
    negative: float = 1.0

    def of(self, y_B: Tensor) -> Tensor | None:
        if self.positive == self.negative == 1.0:
            return None
        return self.negative + (self.positive - self.negative) * y_B

    def total(self, y_B: Tensor) -> Tensor | float:
        weight_B = self.of(y_B)
        return float(len(y_B)) if weight_B is None else weight_B.sum()


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Cross-entropy of a binary label from its logit."""

    weights: _ClassWeights

    def total_weight(self, y_B: Tensor) -> Tensor | float:
        """Sum of the class weights."""
        return self.weights.total(y_B)

    def weighted_sum(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """Sum of class weight times cross-entropy, in nats."""
        return F.binary_cross_entropy_with_logits(outputs_B, y_B, weight=self.weights.of(y_B), reduction="sum")


@dataclass(frozen=True)
class Focal:
    """Focal loss (Lin et al. 2017, 'Focal Loss for Dense Object Detection', eq. 4): ``-(1 - p_t)^gamma log p_t``.

    The modulating factor is part of the loss, not of the weight: the total weight depends on the labels alone.
    """

    weights: _ClassWeights
    gamma: float

    def total_weight(self, y_B: Tensor) -> Tensor | float:
        """Sum of the class weights."""
        return self.weights.total(y_B)

    def weighted_sum(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """Sum of class weight times focal loss, in nats."""
        margin_B = outputs_B * (2 * y_B - 1)
        # (1 - p_t)^gamma through its logarithm: a power of an underflowed zero has no finite gradient for gamma < 1.
        loss_B = torch.exp(self.gamma * F.logsigmoid(-margin_B)) * F.softplus(-margin_B)
        weight_B = self.weights.of(y_B)
        return loss_B.sum() if weight_B is None else (weight_B * loss_B).sum()


@dataclass(frozen=True)
class SquaredError:
    """Squared error of a standardised label.

    The model predicts ``(label - mean) / std`` with the training split's mean and deviation: a log return of one per
    cent would otherwise drown in the first predictions of an untrained head.
    """

    prior: Prior

    def total_weight(self, y_B: Tensor) -> float:
        """Number of windows."""
        return float(len(y_B))

    def weighted_sum(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """Sum of squared errors in units of the training variance."""
        return (outputs_B - (y_B - self.prior.mean) / self.prior.deviation).square().sum()


def make_loss(training: ResolvedTraining, kind: TaskKind, prior: Prior) -> Loss:
    """The loss that a trial trains with.

    Balanced class weights are ``1 / (2 share of the class)`` of the training split, so that both classes weigh the same
    and the mean weight is 1.

    Raises:
        ConfigError: a classification loss or class weights were asked for in regression.
    """
    if kind == "regression":
        if training.loss != "bce" or training.class_weight != "none":
            raise ConfigError(
                Problem(
                    place="training.loss" if training.loss != "bce" else "training.class_weight",
                    message="a regression task is trained with squared error and has no classes",
                    fix="leave training.loss and training.class_weight at their defaults, or choose another task.kind",
                )
            )
        return SquaredError(prior)
    balanced = training.class_weight == "balanced"
    weights = _ClassWeights(0.5 / prior.mean, 0.5 / (1 - prior.mean)) if balanced else _ClassWeights()
    return Focal(weights, training.focal_gamma) if training.loss == "focal" else BinaryCrossEntropy(weights)
