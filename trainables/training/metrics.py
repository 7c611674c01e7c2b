"""What a trial is judged by: likelihood, skill over the prior, ranking, calibration, collapse, each with an interval.

Losses are mean unweighted negative log-likelihoods in nats, whatever the training loss was. A value, such
as a log return, is first standardised with the training split's mean and deviation: its likelihood is a density far
above 1, its loss negative, and neither a ratio to the prior nor a power law means anything for negative losses.

Array names: N windows, K classes, T dates, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainables.schema import COLLAPSED_SPREAD, MetricSpec, ResolvedTask
from trainables.training.bootstrap import BlockBootstrap, Floats, label_span
from trainables.training.likelihood import Prior, likelihood
from trainables.training.metric_registry import OF_EVERY_TRIAL, MetricWindows, value_of, with_interval

__all__ = ["Intervals", "Prior", "Scorer", "Scores", "is_collapsed"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Numbers of one split.

    Attributes:
        loss: mean negative log-likelihood in nats (values: Gaussian with the training residual variance).
        prior_loss: the same for the training split's base rates (values: mean and variance).
        own_rate_loss: the same for this split's own rates, which no forecaster knows beforehand.
        skill: ``1 - loss / prior_loss``.
        spread: standard deviation of the predicted probability, of several classes the largest (values: of the mean,
            over the target's).
        squashed: whether the outputs look like probabilities where logits are due: all within 0 and 1, and their mean
            probability off both the training split's rate and this one's. A sigmoid too many does that.
        auc, ap, brier: area under the ROC curve, average precision, Brier score; None of values, and the first two
            where a class is absent. Of three classes or more the mean over one against the rest, and the sum of the
            classes' Brier scores.
    """

    loss: float
    prior_loss: float
    own_rate_loss: float
    skill: float
    spread: float
    auc: float | None
    ap: float | None
    brier: float | None
    squashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """95 % intervals of one split's numbers; None where one is unknown (`batches.interval`)."""

    loss_low: float | None
    loss_high: float | None
    auc_low: float | None
    auc_high: float | None
    ap_low: float | None
    ap_high: float | None
    brier_low: float | None
    brier_high: float | None
    skill_low: float | None
    skill_high: float | None


def is_collapsed(scores: Scores, intervals: Intervals) -> bool:
    """Whether a model predicts (next to) one number, or is worse than the prior beyond doubt."""
    below_prior = intervals.skill_high is not None and intervals.skill_high < 0
    return scores.spread < COLLAPSED_SPREAD or below_prior


class Scorer:
    """Scores model outputs against the labels of one split. Free of PyTorch: baselines are scored by it, too."""

    def __init__(
        self, labels_N: npt.ArrayLike, dates_N: npt.NDArray[np.datetime64], *, task: ResolvedTask, prior: Prior
    ) -> None:
        self._labels_N, self._task = np.asarray(labels_N, dtype=np.float64), task
        self._windows = MetricWindows(dates_N, np.full(len(dates_N), ""), outcome=task.outcome, prior=prior)
        self._of = likelihood(task.outcome, self._labels_N, prior)

    def scores(self, outputs: npt.ArrayLike, residual_variance: float | None = None) -> Scores:
        """Score one model.

        Args:
            outputs: logits [N], of classes [N, K]; of values the predicted means [N], in label units.
            residual_variance: of values the training split's mean squared error, in label units squared.
        """
        outputs = np.asarray(outputs, dtype=np.float64)
        found = {name: self.value(MetricSpec(name=name), outputs, residual_variance) for name in OF_EVERY_TRIAL}
        loss, skill = found.pop("loss"), found.pop("skill")
        return Scores(
            loss=loss,
            prior_loss=float(self._of.prior_losses().mean()),
            own_rate_loss=self._of.own_rate_loss(),
            skill=skill,
            spread=self._of.spread(outputs),
            squashed=self._of.squashed(outputs),
            **{name: value if math.isfinite(value) else None for name, value in found.items()},
        )

    def value(self, metric: MetricSpec, outputs: Floats, residual_variance: float | None = None) -> float:
        """Any metric of the registry; NaN where it has no value.

        Raises:
            ConfigError: no such metric, or no such keys.
        """
        return value_of(metric, self._labels_N, outputs, replace(self._windows, residual_variance=residual_variance))

    def intervals(self, outputs: npt.ArrayLike, residual_variance: float | None = None) -> Intervals:
        """95 % intervals by `batches`; arguments as of `scores`."""
        outputs = np.asarray(outputs, dtype=np.float64)
        windows = replace(self._windows, residual_variance=residual_variance)
        bounds: dict[str, float | None] = {}
        for name in OF_EVERY_TRIAL:
            _, low, high = with_interval(MetricSpec(name=name), self._labels_N, outputs, windows)
            bounds |= {f"{name}_low": low, f"{name}_high": high}
        return Intervals(**bounds)

    def loss_resamples(self, outputs: Sequence[npt.ArrayLike], *, count: int) -> Floats:
        """Losses [R, K] of several models' logits under the first `count` paired resamples."""
        losses = [self._of.losses(np.asarray(one, dtype=np.float64), None) for one in outputs]
        resamples = self._resamples()
        pieces: list[Floats] = []
        missing = count
        for counts_RT in resamples.counts():
            part_RT = counts_RT[:missing]
            pieces.append(np.column_stack([resamples.means(part_RT, losses_N) for losses_N in losses]))
            missing -= len(part_RT)
            if missing <= 0:
                break
        return np.concatenate(pieces)

    def _resamples(self) -> BlockBootstrap:
        task = self._task
        keys = (f"{one:g}" if isinstance(one, float) else str(one) for one in task.config.values())
        label = ":".join([task.kind, *keys])
        horizon = label_span(self._windows.dates_N, task.lookahead)
        return BlockBootstrap(self._windows.dates_N, self._of.series(), horizon=horizon, label=label)
