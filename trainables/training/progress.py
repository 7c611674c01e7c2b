"""How far a trial is: what a checkpoint holds in addition to model, optimizer and random numbers."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from torch import Tensor

from trainables.schema import EarlyStopping
from trainables.training.metrics import Scores
from trainables.training.result import MetricRow

Position = tuple[int, int, bool]


@dataclass
class TrialProgress:
    """Counters and books of the work itself.

    Attributes:
        step: optimizer steps done; position in the epoch and learning rate follow from it.
        epoch: epochs trained and evaluated.
        stopped: early stopping has ended training.
        samples: windows trained on.
        loss: training loss of the latest step.
        epoch_loss: sum of the training losses of the epoch's steps so far.
        best_epoch: epoch with the best metric so far (`selection_value`), counted from 1; None before the first.
        best_metric: that metric.
        reference: metric that early stopping measures improvement against.
        epochs_without_improvement: epochs since that reference was set.
        rows: metrics of all epochs.
    """

    step: int = 0
    epoch: int = 0
    stopped: bool = False
    samples: int = 0
    loss: float | None = None
    epoch_loss: float = 0.0
    best_epoch: int | None = None
    best_metric: float = float("nan")
    reference: float | None = None
    epochs_without_improvement: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    peak_bytes: int = 0
    rows: list[MetricRow] = field(default_factory=list)

    @property
    def position(self) -> Position:
        """The position of training; two equal positions have equal tensors."""
        return self.step, self.epoch, self.stopped

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        return cls(**(state | {"rows": [MetricRow(**row) for row in state["rows"]]}))

    def watch(self, value: float, rule: EarlyStopping | None) -> None:
        """Take note of the latest epoch's metric; stop if it has not improved by `min_delta` for `patience` epochs."""
        if self.best_epoch is None or _gain(value, self.best_metric, rule.metric if rule else "val_loss") > 0:
            self.best_epoch, self.best_metric = self.epoch, value
        if rule is None:
            return
        gain = None if self.reference is None else _gain(value, self.reference, rule.metric)
        if gain is None or gain > rule.min_delta:
            self.reference, self.epochs_without_improvement = value, 0
        else:
            self.epochs_without_improvement += 1
            self.stopped = self.epochs_without_improvement >= rule.patience


@dataclass
class Waits:
    """Seconds spent at the gate; kept apart from `TrialProgress`, as they go on while everything else is paused."""

    held_seconds: float = 0.0
    throttled_seconds: float = 0.0


@dataclass(frozen=True)
class Judged:
    """The epoch that the trial would be judged by if it ended now.

    Attributes:
        epoch: counted from 1.
        outputs: float64 outputs [N], or [N, K] of K classes, for validation and, where there is one, its selection part
            (values: label units).
        residual_variance: of values only.
        weights: the model's state, on the CPU.
    """

    epoch: int
    outputs: dict[str, Tensor]
    residual_variance: float | None
    weights: dict[str, Tensor]

    def state(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def selection_value(scores: Scores, rule: EarlyStopping | None) -> float:
    """The metric that decides which epoch is best: early stopping's, else the loss.

    NaN where it has no value (AUC of one class): then no later epoch is better.
    """
    if rule is None or rule.metric == "val_loss":
        return scores.loss
    return float("nan") if scores.auc is None else scores.auc


def _gain(value: float, than: float, metric: str) -> float:
    return than - value if metric == "val_loss" else value - than
