"""Areas under the ROC curve and average precision under many weightings of the same windows.

Array names: N windows, R rows of weights, G groups of windows with equal outputs.
"""

import numpy as np

from trainables.training.bootstrap import Floats


class Ranking:
    """Windows sorted by output once, for the AUC under many weightings."""

    def __init__(self, outputs_N: Floats, labels_N: Floats) -> None:
        self.order = np.argsort(outputs_N, kind="stable")
        sorted_N = outputs_N[self.order]
        self._positive_N = labels_N[self.order]
        self._group_starts_G = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])

    def measures(self, weight_RN: Floats) -> dict[str, Floats]:
        """Both, under each row of weights [R, N] in the windows' own order."""
        sorted_RN = weight_RN[:, self.order]
        return {"auc": self.auc(sorted_RN), "ap": self.average_precision(sorted_RN)}

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
