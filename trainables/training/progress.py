"""How far a trial is: what a checkpoint holds in addition to model, optimizer and random numbers."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from torch import Tensor

from trainables.schema import EarlyStopping
from trainables.training.result import MetricRow

Position = tuple[int, int, bool]


@dataclass
class TrialProgress:
    """Counters and books of the work itself.

    Attributes:
        step: optimizer steps done; position in the epoch and learning rate follow from it.
        epoch: epochs trained and evaluated.
        stopped: early stopping has ended training.
        samples: windows trained on, in `train_seconds`.
        loss: training loss of the latest step.
        epoch_loss: sum of the training losses of the epoch's steps so far.
        best_epoch: epoch with the best metric so far (`TrialScorer.of_epoch`), counted from 1; None before the first.
        best_metric: that metric.
        reference: metric that early stopping measures improvement against.
        epochs_without_improvement: epochs since that reference was set.
        waited_seconds: of `train_seconds`, for windows that were not gathered yet.
        rows: metrics of all epochs.
        branched_from: key of the trial that the steps before `branched_at` were made in; empty: in this one.
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
    waited_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    peak_bytes: int = 0
    branched_from: str = ""
    branched_at: int = 0
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

    def branch(self, key: str) -> dict[str, Any]:
        """The state of a trial that leaves the trial `key` here; windows and seconds count from now on."""
        books = {"samples": 0, "train_seconds": 0.0, "evaluation_seconds": 0.0, "waited_seconds": 0.0}
        return self.state() | books | {"branched_from": key, "branched_at": self.step}

    def watch(self, value: float, rule: EarlyStopping | None, *, lower_is_better: bool = True) -> None:
        """Take note of the latest epoch's metric; stop if it has not improved by `min_delta` for `patience` epochs.

        An epoch without a finite value improves nothing. As long as none has had one the latest epoch is the best.
        """
        if not math.isfinite(value):
            value = math.nan  # an infinite one would pass for better than every other
        sign = 1 if lower_is_better else -1
        if self.best_epoch is None or not math.isfinite(self.best_metric) or sign * (self.best_metric - value) > 0:
            self.best_epoch, self.best_metric = self.epoch, value
        if rule is None:
            return
        known = self.reference if self.reference is not None and math.isfinite(self.reference) else None
        gain = math.inf if known is None else sign * (known - value)
        if math.isfinite(value) and gain > rule.min_delta:
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
        weights: the model's state, on the CPU; None while the model itself has it. Where the last epoch is judged,
            none before the end of training, which is when the model has them.
    """

    epoch: int
    outputs: dict[str, Tensor]
    residual_variance: float | None
    weights: dict[str, Tensor] | None = None

    def state(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
