"""Many descents at once: starts of one fit, or the resamples of one design.

Levenberg and Marquardt's damped Gauss-Newton steps on Huber terms by iterated reweighting (Holland and Welsch 1977,
'Robust regression using iteratively reweighted least-squares'): a residual beyond the width counts with width / |r|.

Array names: R descents, N points, J parts of a loss (E and the terms), P numbers of a law, F free ones among them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DAMPING = 1e-3  # the first; times _LESS after a gain and _MORE after none
_LESS, _MORE, _MOST = 0.2, 5.0, 1e10
_LONGEST = 1.5  # a step of any parameter: an e-fold and a half of E or A


@dataclass(frozen=True)
class Points:
    """What all descents have in common.

    Attributes:
        x: log of each variable about its mean, one array [N] a term.
        group_N: group of each point, from 0.
        weight_N: weight of each point's Huber term.
        places_P: which free parameter each of a law's numbers is.
        low_F, high_F: bounds.
    """

    x: tuple[Floats, ...]
    group_N: Ints
    weight_N: Floats
    places_P: Ints
    low_F: Floats
    high_F: Floats

    def residuals(self, free_RF: Floats, y_RN: Floats) -> tuple[Floats, Floats]:
        """Predicted log loss less the given one, and each part's share [J, R, N] of the predicted loss."""
        theta_RP = free_RF[:, self.places_P]
        groups = len(self.places_P) - 2 * len(self.x)
        parts_JRN = np.empty((1 + len(self.x), *y_RN.shape))
        parts_JRN[0] = theta_RP[:, self.group_N]
        for term, x_N in enumerate(self.x):
            at = groups + 2 * term
            parts_JRN[term + 1] = theta_RP[:, at, None] - theta_RP[:, at + 1, None] * x_N
        top_RN = parts_JRN.max(axis=0)
        parts_JRN -= top_RN
        np.exp(parts_JRN, out=parts_JRN)
        sum_RN = parts_JRN.sum(axis=0)
        parts_JRN /= sum_RN
        return top_RN + np.log(sum_RN) - y_RN, parts_JRN

    def derivatives(self, share_JRN: Floats) -> Floats:
        """Of the predicted log losses by the free parameters: [R, F, N]."""
        groups = len(self.places_P) - 2 * len(self.x)
        found_RFN = np.zeros((share_JRN.shape[1], len(self.low_F), share_JRN.shape[2]))
        for group in range(groups):
            found_RFN[:, self.places_P[group]] = share_JRN[0] * (self.group_N == group)
        for term, x_N in enumerate(self.x):
            height, exponent = self.places_P[groups + 2 * term : groups + 2 * term + 2]
            found_RFN[:, height] += share_JRN[term + 1]
            found_RFN[:, exponent] -= share_JRN[term + 1] * x_N
        return found_RFN

    def values(self, residual_RN: Floats, width: float) -> Floats:
        """The sums of weighted Huber terms."""
        clipped_RN = np.clip(residual_RN, -width, width)
        summed_R: Floats = (clipped_RN * (residual_RN - 0.5 * clipped_RN)) @ self.weight_N
        return summed_R


def descend(points: Points, free_RF: Floats, y_RN: Floats, width: float, *, steps: int, gain: float) -> Floats:
    """The free parameters where each descent ends.

    Args:
        points: the design.
        free_RF: the starts.
        y_RN: log losses.
        width: of the Huber terms.
        steps: of a descent, at most.
        gain: a descent ends with a step that lowers its objective by a smaller share.
    """
    result_RF = np.clip(free_RF, points.low_F, points.high_F)
    at_R = np.arange(len(result_RF))  # descents that go on
    free_RF = result_RF.copy()
    damping_R = np.full(len(free_RF), _DAMPING)
    residual_RN, share_JRN = points.residuals(free_RF, y_RN)
    value_R = points.values(residual_RN, width)
    for _ in range(steps):
        step_RF = _steps(points, free_RF, residual_RN, share_JRN, damping_R, width)
        tried_RF = np.clip(free_RF + step_RF, points.low_F, points.high_F)
        new_RN, new_JRN = points.residuals(tried_RF, y_RN)
        new_R = points.values(new_RN, width)
        better_R = new_R < value_R
        ended_R = (value_R - new_R <= gain * value_R) & (better_R | (damping_R >= _MOST))
        ended_R |= (tried_RF == free_RF).all(axis=1)
        free_RF = np.where(better_R[:, None], tried_RF, free_RF)
        residual_RN = np.where(better_R[:, None], new_RN, residual_RN)
        share_JRN = np.where(better_R[:, None], new_JRN, share_JRN)
        value_R = np.where(better_R, new_R, value_R)
        damping_R = np.where(better_R, np.maximum(damping_R * _LESS, 1e-12), np.minimum(damping_R * _MORE, _MOST))
        if ended_R.any():
            result_RF[at_R[ended_R]] = free_RF[ended_R]
            on_R = ~ended_R
            at_R, free_RF, y_RN, residual_RN = at_R[on_R], free_RF[on_R], y_RN[on_R], residual_RN[on_R]
            share_JRN, value_R, damping_R = share_JRN[:, on_R], value_R[on_R], damping_R[on_R]
            if not len(at_R):
                break
    result_RF[at_R] = free_RF
    return result_RF


def _steps(
    points: Points, free_RF: Floats, residual_RN: Floats, share_JRN: Floats, damping_R: Floats, width: float
) -> Floats:
    """The damped steps; 0 for a parameter at a bound that the objective would cross."""
    slope_RFN = points.derivatives(share_JRN)
    weight_RN = points.weight_N * width / np.maximum(np.abs(residual_RN), width)
    weighted_RFN = slope_RFN * weight_RN[:, None, :]
    gradient_RF = (weighted_RFN @ residual_RN[:, :, None])[:, :, 0]
    normal_RFF = weighted_RFN @ slope_RFN.transpose(0, 2, 1)
    held_RF = (free_RF <= points.low_F) & (gradient_RF > 0) | (free_RF >= points.high_F) & (gradient_RF < 0)
    gradient_RF[held_RF] = 0.0
    normal_RFF[held_RF] = 0.0
    normal_RFF.transpose(0, 2, 1)[held_RF] = 0.0
    f = np.arange(free_RF.shape[1])
    diagonal_RF = normal_RFF[:, f, f]
    scale_R1 = diagonal_RF.max(axis=1, keepdims=True)
    normal_RFF[:, f, f] += damping_R[:, None] * diagonal_RF + 1e-12 * scale_R1 + 1e-300 + held_RF
    step_RF = -np.linalg.solve(normal_RFF, gradient_RF[:, :, None])[:, :, 0]
    return np.asarray(np.clip(step_RF, -_LONGEST, _LONGEST), dtype=np.float64)
