"""Calibration of binary logits on validation: Platt scaling and isotonic regression; and how good probabilities are.

Array names: N windows, G bins.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from trainables.training.bootstrap import Floats

Calibration = Literal["platt", "isotonic"]
_EDGE = 1e-3  # isotonic regression gives 0 and 1, whose loss would be infinite


def calibrator(how: Calibration, logits_N: Floats, labels_N: Floats) -> Callable[[Floats], Floats]:
    """A function from logits to calibrated logits, fitted on these windows.

    ``platt``: a logistic regression on the logit (Platt 1999), without a penalty. ``isotonic``: the best monotone
    function (Zadrozny and Elkan 2002), its probabilities kept within 0.001 and 0.999. Where one class is absent, or all
    logits are equal, there is nothing to fit and logits stay as they are.
    """
    if np.ptp(labels_N) == 0 or np.ptp(logits_N) == 0:
        return lambda values_N: values_N
    if how == "platt":
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(logits_N[:, None], labels_N.astype(int))
        slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
        return lambda values_N: slope * values_N + shift
    from sklearn.isotonic import IsotonicRegression

    monotone = IsotonicRegression(y_min=_EDGE, y_max=1 - _EDGE, out_of_bounds="clip").fit(logits_N, labels_N)
    return lambda values_N: np.asarray(logit(monotone.predict(values_N)), dtype=np.float64)


def bins(logits_N: Floats, labels_N: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Share of windows, mean probability and rate of positives [G] in bins of (nearly) equal count by probability."""
    probability_N = expit(logits_N)
    order = np.argsort(probability_N, kind="stable")
    parts = [part for part in np.array_split(order, min(count, len(order))) if len(part)]
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
