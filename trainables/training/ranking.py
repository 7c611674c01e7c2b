"""Areas under the ROC curve and average precision.

Array names: N windows, G groups of windows with equal outputs.
"""

import numpy as np

from trainables.training.bootstrap import Floats


def auc(outputs_N: Floats, labels_N: Floats) -> float:
    """Share of (positive, negative) pairs in the right order, ties counting half (Mann and Whitney 1947).

    NaN where one of the two classes is absent.
    """
    positive_G, negative_G = _groups(outputs_N, labels_N)
    pairs = positive_G.sum() * negative_G.sum()
    ordered = positive_G @ (np.cumsum(negative_G) - 0.5 * negative_G)
    return float(ordered / pairs) if pairs else np.nan


def average_precision(outputs_N: Floats, labels_N: Floats) -> float:
    """Sum over thresholds of the gain in recall times the precision, as scikit-learn defines it.

    NaN where one of the two classes is absent: there is nothing to rank.
    """
    positive_G, negative_G = _groups(outputs_N, labels_N)
    positives = positive_G.sum()
    if not positives or not negative_G.sum():
        return np.nan
    hits_G, signals_G = np.cumsum(positive_G[::-1]), np.cumsum((positive_G + negative_G)[::-1])
    return float((positive_G[::-1] * hits_G / signals_G).sum() / positives)


def _groups(outputs_N: Floats, labels_N: Floats) -> tuple[Floats, Floats]:
    """Positive and negative labels [G] of each value of the output, by ascending output."""
    order = np.argsort(outputs_N, kind="stable")
    sorted_N = outputs_N[order]
    starts_G = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])
    positive_G = np.add.reduceat(labels_N[order], starts_G)
    return positive_G, np.diff(np.r_[starts_G, len(order)]) - positive_G
