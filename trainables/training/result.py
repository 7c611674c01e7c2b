"""What a trial reports to its caller: reports on the way, and a result at the end."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainables.training.gate import Action
from trainables.training.metrics import Intervals, Prior, Scores


@dataclass(frozen=True)
class MetricRow:
    """Metrics at the end of an epoch; a metric without a value is left out.

    Attributes:
        step: optimizer steps done.
        epoch: epochs done.
        values: train_loss (as optimised, dropout on), lr, val_loss, skill, val_spread, and for classes val_auc, val_ap,
            val_brier; selection_loss and selection_auc where validation has a part that chooses epochs.
    """

    step: int
    epoch: int
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SliceReport:
    """What one call of `Trainer.advance` did.

    Attributes:
        kind: ``heartbeat`` where the gate left no time for work and there are no rows, else ``progress``.
        step: optimizer steps done, of `total_steps` (early stopping may end a trial before).
        epoch: epochs done.
        loss: training loss of the latest step, as optimised.
        gradient_norm: L2 norm of its gradient before clipping; None where nothing is on the device.
        rows: metrics that are new since the last report; after a resume all of them again, as the last ones before a
            crash may never have arrived.
        action: what the gate said.
        saved: whether the present state is in the store, so that ending now loses nothing.
        done: the trial is over; `Trainer.result` is ready.
        held_s: seconds spent in HOLD and RELEASE in the whole trial.
        throttled_s: seconds spent in THROTTLE in the whole trial.
        train_s: seconds spent in optimizer steps in the whole trial; steps lost in a crash do not count.
    """

    kind: Literal["progress", "heartbeat"]
    step: int
    total_steps: int
    epoch: int
    loss: float | None
    gradient_norm: float | None
    rows: list[MetricRow]
    action: Action
    saved: bool
    done: bool
    held_s: float
    throttled_s: float
    train_s: float


def share_columns(prior: Prior) -> dict[str, float | None]:
    """Shares of three classes or more in the training split; of two `train_base_rate` says them."""
    shares = prior.shares if len(prior.shares) > 2 else ()
    return {f"train_share_{number}": share for number, share in enumerate(shares)}


def split_columns(prefix: str, scores: Scores, intervals: Intervals | None = None) -> dict[str, float | None]:
    """Numbers of a split by column name: ``val_loss``, ``val_auc_low``, ...

    Validation is the split that speaks for a trial: its skill and prior loss have no prefix.
    """
    values: dict[str, float | None] = asdict(scores) | (asdict(intervals) if intervals else {})
    bare = ("prior_loss", "skill") if prefix == "val" else ()
    return {name if bare and name.startswith(bare) else f"{prefix}_{name}": value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        status: ``finished``, or ``diverged`` where a loss, gradient or output stopped being finite.
        reason: what diverged and when; empty otherwise.
        epochs: epochs done and evaluated.
        steps: optimizer steps done.
        best_epoch: epoch (counted from 1) with the best metric on the selection part of validation, or on validation
            where there is no such part and nothing is chosen; None where none was evaluated.
        judged_epoch: epoch whose weights all numbers are of: the last one or the best, as asked; None likewise.
        collapsed: see `metrics.is_collapsed`, on validation; None where none was evaluated.
        train_base_rate: mean label of the training split; of binary labels the share of positives.
        train_residual_variance: of values only, of the judged weights, in label units squared.
        train_seconds: in optimizer steps alone; the basis of `samples_per_second`.
        evaluation_seconds: in forward passes for validation and test.
        peak_bytes: CUDA allocator's peak, or the process's peak resident size on a CPU.
        branched_from, branched_at: key of the trial that the first steps were made in, and how many; seconds are those
            of the others. None where all were made in this trial.
        data_wait_share: share of `train_seconds` in which steps were idle, as windows were not gathered yet.
        columns_by_split: numbers of validation (``val_loss``, ``prior_loss``, ``skill``, ...) and of test
            (``test_loss``, ``test_prior_loss``, ``test_skill``, ...), with their intervals (``..._low``, ``..._high``);
            ``train_skill``, with dropout off; and ``train_share_0``, ... of three classes or more.
    """

    status: Literal["finished", "diverged"]
    reason: str
    epochs: int
    steps: int
    best_epoch: int | None
    judged_epoch: int | None
    collapsed: bool | None
    diverged: bool
    train_base_rate: float
    train_residual_variance: float | None
    train_seconds: float
    evaluation_seconds: float
    held_seconds: float
    throttled_seconds: float
    samples_per_second: float | None
    peak_bytes: int
    data_wait_share: float | None
    columns_by_split: dict[str, float | None]
    branched_from: str | None = None
    branched_at: int | None = None

    def columns(self) -> dict[str, Any]:
        """All as one flat row."""
        row = asdict(self)
        splits: dict[str, Any] = row.pop("columns_by_split")
        if self.branched_from is None:
            row = {name: value for name, value in row.items() if not name.startswith("branched_")}
        return row | splits
