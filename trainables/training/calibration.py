"""Calibration of binary logits on validation: Platt scaling and isotonic regression; and how good probabilities are.

Array names: N windows, G bins.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from trainables.schema import Calibration
from trainables.training.bootstrap import Floats

_EDGE = 1e-3  # isotonic regression gives 0 and 1, whose loss would be infinite


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A function from logits to calibrated logits.

    Attributes:
        slope, shift: of the logit.
        at_G, probability_G: where there are any, in their place: points of a function of the logit, straight between
            them and constant outside.
    """

    slope: float = 1.0
    shift: float = 0.0
    at_G: Floats | None = None
    probability_G: Floats | None = None

    def __call__(self, logits_N: Floats) -> Floats:
        """Calibrated logits."""
        if self.at_G is None or self.probability_G is None:
            return self.slope * logits_N + self.shift
        found_N: Floats = logit(np.interp(logits_N, self.at_G, self.probability_G))
        return found_N


def calibrator(how: Calibration, logits_N: Floats, labels_N: Floats) -> Calibrator:
    """A calibration that is fitted on these windows.

    ``platt``: a logistic regression on the logit (Platt 1999), without a penalty. ``isotonic``: the best monotone
    function (Zadrozny and Elkan 2002), its probabilities kept within 0.001 and 0.999. Where one class is absent, or all
    logits are equal, there is nothing to fit and logits stay as they are; with ``none`` they always do.
    """
    if how == "none" or np.ptp(labels_N) == 0 or np.ptp(logits_N) == 0:
        return Calibrator()
    if how == "platt":
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(logits_N[:, None], labels_N.astype(int))
        return Calibrator(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=_EDGE, y_max=1 - _EDGE, out_of_bounds="clip").fit(logits_N, labels_N)
    at_G, probability_G = fitted.X_thresholds_, fitted.y_thresholds_
    return Calibrator(at_G=np.asarray(at_G, dtype=np.float64), probability_G=np.asarray(probability_G, np.float64))


def bins(logits_N: Floats, labels_N: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Share of windows, mean probability and rate of positives [G] in bins of (nearly) equal count by probability.

    Equal probabilities are in one bin: their order says nothing, and there are fewer bins where they fill several.
    """
    probability_N = expit(logits_N)
    order = np.argsort(probability_N, kind="stable")
    cuts = np.cumsum([len(part) for part in np.array_split(order, min(count, len(order)))])[:-1]
    ordered_N = probability_N[order]
    ends = np.unique(np.searchsorted(ordered_N, ordered_N[cuts - 1], side="right"))  # of runs of equal probabilities
    parts = [part for part in np.split(order, ends) if len(part)]
    found = [(len(part) / len(order), probability_N[part].mean(), labels_N[part].mean()) for part in parts]
    share_G, mean_G, rate_G = np.array(found, dtype=np.float64).T
    return share_G, mean_G, rate_G


def expected_error(logits_N: Floats, labels_N: Floats, count: int) -> float:
    """Expected calibration error: the mean over bins of |rate - mean probability| (Naeini et al. 2015)."""
    share_G, mean_G, rate_G = bins(logits_N, labels_N, count)
    return float(share_G @ np.abs(rate_G - mean_G))


def brier_parts(logits_N: Floats, labels_N: Floats, count: int) -> dict[str, float]:
    """Murphy's decomposition (1973): Brier score of the bins' means = reliability - resolution + uncertainty.

    Reliability is small where probabilities are right, resolution large where bins differ; uncertainty is the labels'.
    """
    share_G, mean_G, rate_G = bins(logits_N, labels_N, count)
    base = float(labels_N.mean())
    return {
        "reliability": float(share_G @ (rate_G - mean_G) ** 2),
        "resolution": float(share_G @ (rate_G - base) ** 2),
        "uncertainty": base * (1 - base),
    }


def mean_loss(logits_N: Floats, labels_N: Floats) -> float:
    """Mean cross-entropy in nats."""
    value = float(np.mean(np.logaddexp(0, logits_N) - logits_N * labels_N))
    return value if math.isfinite(value) else math.nan
