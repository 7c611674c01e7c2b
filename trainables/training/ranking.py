"""Areas under the ROC curve and average precision under many weightings of the same windows.

Array names: N windows, R rows of weights, G groups of windows with equal outputs.
"""

import numpy as np

from trainables.training.bootstrap import Floats


class Ranking:
    """Windows sorted by output once, for both measures under many weightings."""

    def __init__(self, outputs_N: Floats, labels_N: Floats) -> None:
        self.order = np.argsort(outputs_N, kind="stable")
        sorted_N = outputs_N[self.order]
        self._positive_N = labels_N[self.order]
        self._group_starts_G = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])

    def measures(self, weight_RN: Floats) -> dict[str, Floats]:
        """Both, under each row of weights [R, N] in the windows' own order."""
        # a row at a time: what one needs stays in the cache, which 9 rows of 65,600 windows do not (4 times as fast)
        rows = np.array([self._row(weight_N[self.order]) for weight_N in weight_RN])
        return {"auc": rows[:, 0], "ap": rows[:, 1]}

    def _row(self, weight_N: Floats) -> tuple[float, float]:
        """AUC and average precision under weights in sorted order; NaN where a class, or the positives, have none.

        The AUC is the share of (positive, negative) pairs in the right order, ties counting half (Mann and Whitney
        1947). Average precision is the sum over thresholds of the gain in recall times the precision, as scikit-learn
        defines it.
        """
        positive_G, size_G = self._grouped(weight_N * self._positive_N), self._grouped(weight_N)
        below_G, upto_G = np.cumsum(positive_G), np.cumsum(size_G)
        positives, negatives = below_G[-1], upto_G[-1] - below_G[-1]
        if not positives:
            return np.nan, np.nan
        negative_G = size_G - positive_G
        ordered = positive_G @ (upto_G - below_G - 0.5 * negative_G)
        at_least_G = upto_G[-1] - upto_G + size_G
        # where no window has weight there is nothing to gain, and the precision is 0 / 0
        precision_G = (positives - below_G + positive_G) / np.where(at_least_G, at_least_G, 1.0)
        auc = ordered / (positives * negatives) if negatives else np.nan
        return float(auc), float((positive_G * precision_G)[::-1].sum() / positives)

    def _grouped(self, values_N: Floats) -> Floats:
        if len(self._group_starts_G) == len(values_N):  # all outputs differ
            return values_N
        grouped_G: Floats = np.add.reduceat(values_N, self._group_starts_G)
        return grouped_G
