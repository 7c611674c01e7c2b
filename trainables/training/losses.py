"""Training losses: what the optimizer minimises. What is reported is always `metrics.py`'s unweighted likelihood.

A loss is split into a weighted sum and a total weight, so that a global batch can be taken in pieces and still give
the gradient of the whole: sum over pieces of ``weighted_sum(piece) / total_weight(global batch)``.

Tensor names: B windows of a batch, K classes.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from trainables.parts import PartConfig
from trainables.schema import Outcome, ResolvedTraining
from trainables.training import loss_registry
from trainables.training.loss_registry import loss
from trainables.training.metrics import Prior


@loss("bce")
class BinaryCrossEntropy:
    """Cross-entropy of a binary label from its logit."""

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: PartConfig) -> Tensor:
        """Cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(outputs_B, y_B, reduction="none")


@loss("cross_entropy")
class CrossEntropy:
    """Cross-entropy of one of several classes from a logit each; what `bce` means for such a task."""

    outcome = "classes"

    def of_windows(self, outputs_BK: Tensor, y_B: Tensor, config: PartConfig) -> Tensor:
        """Cross-entropy in nats."""
        return F.cross_entropy(outputs_BK, y_B, reduction="none")


@loss("label_smoothing")
class LabelSmoothing:
    """Cross-entropy of a label moved towards equal shares of all classes (Szegedy et al. 2016, section 7)."""

    outcome = ("binary", "classes")

    class Config(PartConfig):
        """Keys in `training.loss`."""

        smoothing: float = Field(0.1, ge=0, lt=1, description="share of the label that all classes divide evenly")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        """Cross-entropy in nats of ``y (1 - smoothing) + smoothing / K`` for K classes."""
        if outputs_B.ndim > 1:
            return F.cross_entropy(outputs_B, y_B, reduction="none", label_smoothing=config.smoothing)
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

    outcome = ("binary", "classes")

    class Config(PartConfig):
        """Keys in `training`."""

        focal_gamma: float = Field(2.0, ge=0, description="focusing exponent; in `training`")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        """Focal loss in nats."""
        return _focused(_margin(outputs_B, y_B), config.focal_gamma)


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


def _margin(outputs: Tensor, y_B: Tensor) -> Tensor:
    """The logit [B] of the class that came true against all others, from logits [B], or [B, K] for K classes."""
    if outputs.ndim == 1:
        return outputs * (2 * y_B - 1)
    came_true_BK = F.one_hot(y_B, outputs.shape[1]).bool()
    others_B = outputs.masked_fill(came_true_BK, -torch.inf).logsumexp(dim=1)
    return outputs.gather(1, y_B[:, None])[:, 0] - others_B


def _focused(margin_B: Tensor, gamma: Tensor | float) -> Tensor:
    # (1 - p_t)^gamma through its logarithm: a power of an underflowed zero has no finite gradient for gamma < 1.
    return torch.exp(gamma * F.logsigmoid(-margin_B)) * F.softplus(-margin_B)


@loss("soft_auc")
class SoftAuc:
    """Cross-entropy mixed with a smooth count of wrongly ordered pairs of windows, with whole batches only.

    Yan et al. 2003, 'Optimizing Classifier Performance via an Approximation to the Wilcoxon-Mann-Whitney Statistic',
    with a logistic loss for each pair. Pairs know only differences of logits. The share of cross-entropy keeps the
    probabilities at their level.
    """

    whole_batch = True

    class Config(PartConfig):
        """Keys in `training.loss`."""

        pairs: float = Field(0.5, ge=0, lt=1, description="share of the loss of pairs; the rest is cross-entropy")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        """For each window cross-entropy, and the mean over the windows of the other class."""
        entropy_B = F.binary_cross_entropy_with_logits(outputs_B, y_B, reduction="none")
        sign_B = 2 * y_B - 1
        other_BB = (y_B[:, None] != y_B[None, :]).to(outputs_B.dtype)
        pair_BB = F.softplus(-sign_B[:, None] * (outputs_B[:, None] - outputs_B[None, :]))
        pairs_B = (other_BB * pair_BB).sum(dim=1) / other_BB.sum(dim=1).clamp(min=1)
        return (1 - config.pairs) * entropy_B + config.pairs * pairs_B


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
        balanced: weigh a class by ``1 / (K share of the class)`` of the training split, for K classes, so that all
            classes weigh the same and the mean weight is 1.
        outcome: of the task.
    """

    target: Any
    config: PartConfig
    prior: Prior
    balanced: bool
    outcome: Outcome = "binary"
    _shares: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def total_weight(self, y_B: Tensor) -> Tensor | float:
        """Sum of the windows' weights; depends on the labels alone."""
        weight_B = self._weights(y_B)
        return float(len(y_B)) if weight_B is None else weight_B.sum()

    def weighted_sum(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """Sum over the windows of weight times loss, in nats (squared error: in variances)."""
        weight_B = self._weights(y_B)
        loss_B = self.of_windows(outputs_B, y_B)
        return loss_B.sum() if weight_B is None else (weight_B * loss_B).sum()

    def of_windows(self, outputs_B: Tensor, y_B: Tensor) -> Tensor:
        """The loss of each window, without weights."""
        loss_B: Tensor = self.target.of_windows(outputs_B, self._target(y_B), self.config)
        return loss_B

    def own_weights(self, y_B: Tensor) -> Tensor:
        """The loss's own weights of windows; only where it has some."""
        weight_B: Tensor = self.target.weights(self._labels(y_B), self.config)
        return weight_B

    def _weights(self, y_B: Tensor) -> Tensor | None:
        weight_B: Tensor | None = None
        if self.balanced:
            weight_B = self._balance(y_B)
        if hasattr(self.target, "weights"):
            own_B = self.own_weights(y_B)
            weight_B = own_B if weight_B is None else weight_B * own_B
        return weight_B

    def _target(self, y_B: Tensor) -> Tensor:
        """What outputs are held against: standardised values, or labels."""
        standardised = self.outcome == "value"
        return (y_B - self.prior.mean) / self.prior.deviation if standardised else self._labels(y_B)

    def _labels(self, y_B: Tensor) -> Tensor:
        return y_B.long() if self.outcome == "classes" else y_B

    def _balance(self, y_B: Tensor) -> Tensor:
        if self.outcome == "classes":
            # Made once a device: to bring numbers there makes the host wait, at each step.
            if (share_K := self._shares.get(y_B.device)) is None:
                share_K = torch.tensor(self.prior.shares, dtype=y_B.dtype, device=y_B.device)
                self._shares[y_B.device] = share_K
            return (1 / (len(share_K) * share_K)).gather(0, y_B.long())
        negative, positive = 0.5 / (1 - self.prior.mean), 0.5 / self.prior.mean
        return negative + (positive - negative) * y_B


def make_loss(training: ResolvedTraining, outcome: Outcome, prior: Prior) -> Loss:
    """The loss that a trial trains with, for its task's outcome.

    Raises:
        ConfigError: it is not registered here, or does not suit the task.
    """
    part, config = loss_registry.of_trial(training, outcome)
    return Loss(part.target(), config, prior, training.class_weight == "balanced", outcome)
