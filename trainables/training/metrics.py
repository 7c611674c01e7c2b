"""What a trial is judged by: likelihood, skill over the prior, ranking, calibration, collapse, each with an interval.

Losses are mean unweighted negative log-likelihoods in nats, whatever the training loss was. A value, such
as a log return, is first standardised with the training split's mean and deviation: its likelihood is a density far
above 1, its loss negative, and neither a ratio to the prior nor a power law means anything for negative losses.

Array names: N windows, K classes, T dates, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.schema import COLLAPSED_SPREAD, ResolvedTask
from trainables.training import batches
from trainables.training.bootstrap import BlockBootstrap, Floats
from trainables.training.likelihood import Prior, likelihood

__all__ = ["Intervals", "Prior", "Scorer", "Scores", "is_collapsed"]

MEASURES = ("auc", "ap", "brier")


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
        self._dates_N, self._task = dates_N, task
        self._of = likelihood(task.outcome, np.asarray(labels_N, dtype=np.float64), prior)

    def scores(self, outputs: npt.ArrayLike, residual_variance: float | None = None) -> Scores:
        """Score one model.

        Args:
            outputs: logits [N], of classes [N, K]; of values the predicted means [N], in label units.
            residual_variance: of values the training split's mean squared error, in label units squared.
        """
        outputs = np.asarray(outputs, dtype=np.float64)
        loss = float(self._of.losses(outputs, residual_variance).mean())
        prior_loss = float(self._of.prior_N.mean())
        once_1N = np.ones((1, len(outputs)))
        found = self._of.measures(outputs, once_1N, lambda values_N: np.array([values_N.mean()]))
        measures = {name: float(value_1[0]) for name, value_1 in found.items()}
        if math.isnan(measures.get("auc", math.nan)):
            measures.pop("ap", None)  # without one of the classes there is nothing to rank
        return Scores(
            loss=loss,
            prior_loss=prior_loss,
            own_rate_loss=self._of.own_rate_loss,
            skill=1 - loss / prior_loss,
            spread=self._of.spread(outputs),
            squashed=self._of.squashed(outputs),
            **{name: measures[name] if math.isfinite(measures.get(name, math.nan)) else None for name in MEASURES},
        )

    def intervals(self, outputs: npt.ArrayLike, residual_variance: float | None = None) -> Intervals:
        """95 % intervals by `batches`; arguments as of `scores`."""
        outputs = np.asarray(outputs, dtype=np.float64)
        weight_RN = batches.leave_one_out(self._dates_N)
        windows_R = weight_RN.sum(axis=1)

        def means(values_N: Floats) -> Floats:
            means_R: Floats = (weight_RN @ values_N) / np.where(windows_R, windows_R, np.nan)
            return means_R

        loss_R = means(self._of.losses(outputs, residual_variance))
        values = {"loss": loss_R, "skill": 1 - loss_R / means(self._of.prior_N)}
        values |= self._of.measures(outputs, weight_RN, means)
        bounds: dict[str, float | None] = {}
        for name in ("loss", "skill", *MEASURES):
            known = batches.interval(values[name], self._of.ranges[name]) if name in values else (None, None)
            bounds[f"{name}_low"], bounds[f"{name}_high"] = known
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
        return BlockBootstrap(self._dates_N, self._of.series_N, horizon=task.lookahead, label=label)
