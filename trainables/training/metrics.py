"""What a trial is judged by: likelihood, skill over the prior, ranking, calibration, collapse, each with an interval.

Losses are mean unweighted negative log-likelihoods in nats, whatever the training loss was. In regression the label is
first standardised with the training split's mean and deviation: the likelihood of a raw log return is a density far
above 1, its loss negative, and neither a ratio to the prior nor a power law means anything for negative losses.

Array names: N windows, T dates, R resamples, G groups of windows with equal outputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, xlog1py, xlogy

from trainables.schema import COLLAPSED_SPREAD, TaskSpec
from trainables.training import batches
from trainables.training.bootstrap import BlockBootstrap, Floats

# Of the mean probability from a rate. A sigmoid of probabilities moves the mean by 0.12 at a rate of 0.5, by 0.05 at
# 0.6, and by more below; an honest model is nearer than this to one of the two rates.
SQUASHED_LEVEL = 0.04
_LOG_2PI = math.log(2 * math.pi)
# Smallest and largest possible value of each number; in regression a loss is that of a density and may be negative.
_RANGES = {"loss": (0.0, math.inf), "skill": (-math.inf, 1.0), **dict.fromkeys(("auc", "ap", "brier"), (0.0, 1.0))}
_RANGES_OF_REGRESSION = dict.fromkeys(("loss", "skill"), (-math.inf, math.inf))


@dataclass(frozen=True)
class Prior:
    """What is known without looking: the label's mean (share of positives) and variance in the training split."""

    mean: float
    variance: float

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Numbers of one split.

    Attributes:
        loss: mean negative log-likelihood in nats (regression: Gaussian with the training residual variance).
        prior_loss: the same for the training split's base rate (regression: mean and variance).
        own_rate_loss: the same for this split's own rate, which no forecaster knows beforehand.
        skill: ``1 - loss / prior_loss``.
        spread: standard deviation of the predicted probability (regression: of the mean, over the target's).
        squashed: whether the outputs look like probabilities where logits are due: all within 0 and 1, and their mean
            probability off both the training split's rate and this one's. A sigmoid too many does that.
        auc, ap, brier: area under the ROC curve, average precision, Brier score; None in regression, and the first
            two where one class is absent.
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
        self, labels_N: npt.ArrayLike, dates_N: npt.NDArray[np.datetime64], *, task: TaskSpec, prior: Prior
    ) -> None:
        self._regression = task.kind == "regression"
        self._labels_N = np.asarray(labels_N, dtype=np.float64)
        self._dates_N = dates_N
        self._task = task
        self._prior = prior
        if self._regression:
            self._target_N = (self._labels_N - prior.mean) / prior.deviation
            self._prior_N = 0.5 * (_LOG_2PI + self._target_N**2)
            own = 0.5 * (_LOG_2PI + math.log(self._target_N.var()) + 1)
        else:
            self._target_N = self._labels_N
            self._prior_N = _cross_entropy(self._labels_N, prior.mean)
            own = float(_cross_entropy(self._labels_N, self._labels_N.mean()).mean())
        self._own_rate_loss = own

    def scores(self, outputs_N: npt.ArrayLike, residual_variance: float | None = None) -> Scores:
        """Score one model.

        Args:
            outputs_N: logits; in regression the predicted means, in label units.
            residual_variance: in regression the training split's mean squared error, in label units squared.
        """
        outputs_N = np.asarray(outputs_N, dtype=np.float64)
        loss, prior_loss = float(self._losses(outputs_N, residual_variance).mean()), float(self._prior_N.mean())
        auc = ap = brier = None
        squashed = False
        if self._regression:
            spread = float(outputs_N.std() / self._labels_N.std())
        else:
            probability_N = expit(outputs_N)
            spread = float(probability_N.std())
            squashed = self._squashed(outputs_N, float(probability_N.mean()))
            brier = float(np.mean((probability_N - self._labels_N) ** 2))
            if 0 < self._labels_N.sum() < len(self._labels_N):
                ranking = _Ranking(outputs_N, self._labels_N)
                once_1N = np.ones((1, len(outputs_N)))
                auc, ap = float(ranking.auc(once_1N)[0]), float(ranking.average_precision(once_1N)[0])
        return Scores(
            loss=loss,
            prior_loss=prior_loss,
            own_rate_loss=self._own_rate_loss,
            skill=1 - loss / prior_loss,
            spread=spread,
            squashed=squashed,
            auc=auc,
            ap=ap,
            brier=brier,
        )

    def intervals(self, outputs_N: npt.ArrayLike, residual_variance: float | None = None) -> Intervals:
        """95 % intervals by `batches`; arguments as of `scores`."""
        outputs_N = np.asarray(outputs_N, dtype=np.float64)
        weight_RN = batches.leave_one_out(self._dates_N)
        windows_R = weight_RN.sum(axis=1)

        def means(values_N: Floats) -> Floats:
            means_R: Floats = (weight_RN @ values_N) / np.where(windows_R, windows_R, np.nan)
            return means_R

        loss_R = means(self._losses(outputs_N, residual_variance))
        values = {"loss": loss_R, "skill": 1 - loss_R / means(self._prior_N)}
        if not self._regression:
            ranking = _Ranking(outputs_N, self._labels_N)
            sorted_RN = weight_RN[:, ranking.order]
            values |= {
                "auc": ranking.auc(sorted_RN),
                "ap": ranking.average_precision(sorted_RN),
                "brier": means((expit(outputs_N) - self._labels_N) ** 2),
            }
        ranges = _RANGES_OF_REGRESSION if self._regression else _RANGES
        bounds: dict[str, float | None] = {}
        for name in _RANGES:
            known = batches.interval(values[name], ranges[name]) if name in values else (None, None)
            bounds[f"{name}_low"], bounds[f"{name}_high"] = known
        return Intervals(**bounds)

    def loss_resamples(self, outputs: Sequence[npt.ArrayLike], *, count: int) -> Floats:
        """Losses [R, K] of several models' logits under the first `count` paired resamples."""
        losses = [self._losses(np.asarray(outputs_N, dtype=np.float64), None) for outputs_N in outputs]
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

    def _squashed(self, outputs_N: Floats, mean: float) -> bool:
        """Logits of a common class may all lie between 0 and 1, too, but their mean probability is then its share."""
        rates = (self._prior.mean, float(self._labels_N.mean()))
        inside = bool(outputs_N.min() >= 0 and outputs_N.max() <= 1)
        return inside and min(abs(mean - rate) for rate in rates) > SQUASHED_LEVEL

    def _losses(self, outputs_N: Floats, residual_variance: float | None) -> Floats:
        if not self._regression:
            return np.logaddexp(0, outputs_N) - outputs_N * self._labels_N
        assert residual_variance is not None
        variance = residual_variance / self._prior.variance
        error_N = (outputs_N - self._prior.mean) / self._prior.deviation - self._target_N
        losses_N: Floats = 0.5 * (_LOG_2PI + math.log(variance) + error_N**2 / variance)
        return losses_N

    def _resamples(self) -> BlockBootstrap:
        task = self._task
        # The prior's loss is an affine function of a binary label: the label itself has the same dependence over time
        # and does not move with the training split. Regression's is quadratic, which is where volatility clusters.
        series_N = (self._labels_N - self._labels_N.mean()) ** 2 if self._regression else self._labels_N
        label = f"{task.kind}:{task.threshold:g}:{task.price}" if task.kind == "threshold" else task.kind
        return BlockBootstrap(self._dates_N, series_N, horizon=task.horizon, label=label)


class _Ranking:
    """Windows sorted by output once, for the AUC under many weightings."""

    def __init__(self, outputs_N: Floats, labels_N: Floats) -> None:
        self.order = np.argsort(outputs_N, kind="stable")
        sorted_N = outputs_N[self.order]
        self._positive_N = labels_N[self.order]
        self._group_starts_G = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])

    def auc(self, weight_RN: Floats) -> Floats:
        """AUC under each row of weights, in sorted order; NaN where a class has no weight.

        The share of (positive, negative) pairs in the right order, ties counting half (Mann and Whitney 1947).
        """
        positive_RG = np.add.reduceat(weight_RN * self._positive_N, self._group_starts_G, axis=1)
        negative_RG = np.add.reduceat(weight_RN, self._group_starts_G, axis=1) - positive_RG
        below_RG = np.cumsum(negative_RG, axis=1)
        pairs_R = positive_RG.sum(axis=1) * below_RG[:, -1]
        ordered_R = np.einsum("rg,rg->r", positive_RG, below_RG - 0.5 * negative_RG)
        with np.errstate(invalid="ignore"):
            auc_R: Floats = ordered_R / pairs_R
        return auc_R

    def average_precision(self, weight_RN: Floats) -> Floats:
        """Average precision under each row of weights, in sorted order; NaN where no positive has weight.

        Sum over thresholds of the gain in recall times the precision, as scikit-learn defines it.
        """
        positive_RG = np.add.reduceat(weight_RN * self._positive_N, self._group_starts_G, axis=1)[:, ::-1]
        size_RG = np.add.reduceat(weight_RN, self._group_starts_G, axis=1)[:, ::-1]
        with np.errstate(invalid="ignore"):
            precision_RG = np.cumsum(positive_RG, axis=1) / np.cumsum(size_RG, axis=1)
            # before the first window that has weight there is nothing to gain, and the precision is 0 / 0
            gains_R = np.where(positive_RG > 0, positive_RG * precision_RG, 0.0).sum(axis=1)
            ap_R: Floats = gains_R / positive_RG.sum(axis=1)
        return ap_R


def _cross_entropy(labels_N: Floats, rate: float) -> Floats:
    return np.asarray(-(xlogy(labels_N, rate) + xlog1py(1 - labels_N, -rate)), dtype=np.float64)
