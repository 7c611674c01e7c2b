"""Training losses: what the optimizer minimises. What is reported is always `metrics.py`'s unweighted likelihood.

A loss is split into a weighted sum and a total weight, so that a global batch can be taken in pieces and still give
the gradient of the whole: sum over pieces of ``weighted_sum(piece) / total_weight(global batch)``.

Tensor names: B windows of a batch.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from trainables.parts import PartConfig
from trainables.schema import ResolvedTraining, TaskKind
from trainables.training import loss_registry
from trainables.training.loss_registry import loss, outcome_of
from trainables.training.metrics import Prior


@loss("bce")
class BinaryCrossEntropy:
    """Cross-entropy of a binary label from its logit."""

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: PartConfig) -> Tensor:
        """Cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(outputs_B, y_B, reduction="none")


@loss("label_smoothing")
class LabelSmoothing:
    """Cross-entropy of a label moved towards one half (Szegedy et al. 2016, section 7)."""

    class Config(PartConfig):
        """Keys in `training.loss`."""

        smoothing: float = Field(0.1, ge=0, lt=1, description="share of the label that both classes divide evenly")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        """Cross-entropy in nats of ``y (1 - smoothing) + smoothing / 2``."""
        target_B = y_B * (1 - config.smoothing) + config.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs_B, target_B, reduction="none")


@loss("weighted")
class Weighted(BinaryCrossEntropy):
    """Cross-entropy with a given weight of positives; `class_weight: balanced` takes it from the training split."""

    class Config(PartConfig):
        """Keys in `training.loss`."""

        positive: float = Field(2.0, gt=0, description="weight of a positive window; a negative one has 1")

    def weights(self, y_B: Tensor, config: Config) -> Tensor:
        """The given weight where the label is 1."""
        return 1 + (config.positive - 1) * y_B


@loss("focal")
class Focal:
    """Focal loss (Lin et al. 2017, 'Focal Loss for Dense Object Detection', eq. 4): ``-(1 - p_t)^gamma log p_t``.

    The modulating factor is part of the loss, not of the weight: the total weight depends on the labels alone.
    """

    class Config(PartConfig):
        """Keys in `training`."""

        focal_gamma: float = Field(2.0, ge=0, description="focusing exponent; in `training`")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        """Focal loss in nats."""
        return _focused(outputs_B * (2 * y_B - 1), config.focal_gamma)


@loss("asymmetric_focal")
class AsymmetricFocal:
    """Focal loss with an exponent for each class (Ridnik et al. 2021, 'Asymmetric Loss', eq. 4, without a margin)."""

    class Config(PartConfig):
        """Keys in `training.loss`."""

        gamma_positive: float = Field(0.0, ge=0, description="focusing exponent where the label is 1")
        gamma_negative: float = Field(4.0, ge=0, description="focusing exponent where the label is 0")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        """Focal loss in nats."""
        gamma_B = config.gamma_negative + (config.gamma_positive - config.gamma_negative) * y_B
        return _focused(outputs_B * (2 * y_B - 1), gamma_B)


def _focused(margin_B: Tensor, gamma: Tensor | float) -> Tensor:
    # (1 - p_t)^gamma through its logarithm: a power of an underflowed zero has no finite gradient for gamma < 1.
    return torch.exp(gamma * F.logsigmoid(-margin_B)) * F.softplus(-margin_B)


@loss("squared_error")
class SquaredError:
    """Squared error of a standardised label, in units of the training variance.

    The model predicts ``(label - mean) / std`` with the training split's mean and deviation: a log return of one per
    cent would otherwise drown in the first predictions of an untrained head.
    """

    outcome = "value"

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: PartConfig) -> Tensor:
        """Squared errors."""
        return (outputs_B - y_B).square()


@dataclass(frozen=True)
class Loss:
    """A registered loss with its config, over windows that can be taken in pieces. No model applies a sigmoid.

    Attributes:
        target: the loss.
        config: its keys.
        prior: of the training split.
        balanced: weigh a class by ``1 / (2 share of the class)`` of the training split, so that both classes weigh the
            same and the mean weight is 1.
    """

    target: Any
    config: PartConfig
    prior: Prior
    balanced: bool

    def total_weight(self, y_B: Tensor) -> Tensor | float:
        """Sum of the windows' weights; depends on the labels alone."""
        weight_B = self._weights(y_B)
        return float(len(y_B)) if weight_B is None else weight_B.sum()

    def weighted_sum(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """Sum over the windows of weight times loss, in nats (squared error: in variances)."""
        weight_B = self._weights(y_B)
        if outcome_of(type(self.target)) == "value":
            y_B = (y_B - self.prior.mean) / self.prior.deviation
        loss_B: Tensor = self.target.of_windows(outputs_B, y_B, self.config)
        return loss_B.sum() if weight_B is None else (weight_B * loss_B).sum()

    def _weights(self, y_B: Tensor) -> Tensor | None:
        weight_B: Tensor | None = None
        if self.balanced:
            negative, positive = 0.5 / (1 - self.prior.mean), 0.5 / self.prior.mean
            weight_B = negative + (positive - negative) * y_B
        if hasattr(self.target, "weights"):
            own_B: Tensor = self.target.weights(y_B, self.config)
            weight_B = own_B if weight_B is None else weight_B * own_B
        return weight_B


def make_loss(training: ResolvedTraining, kind: TaskKind, prior: Prior) -> Loss:
    """The loss that a trial trains with.

    Raises:
        ConfigError: it is not registered here, or does not suit the task.
    """
    part, config = loss_registry.of_trial(training, kind)
    return Loss(part.target(), config, prior, training.class_weight == "balanced")
