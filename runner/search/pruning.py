"""Whether a trial is so far behind the others of its study that it ends early: rules by epoch, without a state.

A rung is a number of epochs at which trials are compared: 1, 3, 9, ... below the number of epochs. Of what reaches a
rung the best third goes on (successive halving in its asynchronous form, ASHA: Li et al. 2020, arXiv 1810.05934).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from runner.config.search import PrunerName

ETA = 3  # of what reaches a rung, one in so many goes on; 3 or 4 in Li et al. 2018 and 2020
MEDIAN_TRIALS = 5  # others that a median is taken of, at least; as in Optuna's MedianPruner

Curve = Mapping[int, float]  # loss by epochs done


def rungs(epochs: int) -> list[int]:
    """Epochs at which trials of so many epochs are compared, the last one left out."""
    found = []
    rung = 1
    while rung < epochs:
        found.append(rung)
        rung *= ETA
    return found


def decided_at(pruner: PrunerName, epochs: int) -> Sequence[int]:
    """Epochs after which a trial of so many epochs may end."""
    if pruner == "median":
        return range(1, epochs)
    return rungs(epochs) if pruner != "none" else []


def expected_share(pruner: PrunerName, epochs: int) -> float | None:
    """Share of its epochs that a trial trains on average where a third goes on at each rung; None if not known."""
    if pruner == "median":
        return None
    places = decided_at(pruner, epochs)
    brackets = [places[first:] for first in range(len(places) + 1)] if pruner == "hyperband" else [places]
    shares = [_epochs_trained(bracket, epochs) / epochs for bracket in brackets]
    return sum(shares) / len(shares)


def _epochs_trained(places: Sequence[int], epochs: int) -> float:
    ends = [*places, epochs]
    return math.fsum((end - begin) / ETA**stage for stage, (begin, end) in enumerate(pairwise([0, *ends])))


def reason(pruner: PrunerName, number: int, curve: Curve, others: Mapping[int, Curve], epochs: int) -> str:
    """Why a trial ends now, in words; empty where it goes on.

    Args:
        pruner: the rule.
        number: of the trial in its study.
        curve: its losses so far.
        others: those of the study's other trials, by number.
        epochs: that it would train in all.
    """
    if pruner == "none" or not curve:
        return ""
    if pruner == "median":
        return _behind_median(curve, list(others.values()), epochs)
    places = rungs(epochs)
    if pruner == "hyperband":  # a bracket begins at each rung, and one compares nothing
        bracket = number % (len(places) + 1)
        places = places[bracket:]
        others = {other: curve for other, curve in others.items() if other % (len(rungs(epochs)) + 1) == bracket}
    return _behind_at_a_rung(curve, list(others.values()), places)


def _behind_at_a_rung(curve: Curve, others: Sequence[Curve], places: Sequence[int]) -> str:
    for rung in places:
        if rung not in curve:
            break
        own, known = _ordered(curve[rung]), sorted(_ordered(other[rung]) for other in others if rung in other)
        goes_on = max(1, (len(known) + 1) // ETA)
        better = sum(loss < own for loss in known)
        if better >= goes_on:
            return f"after {rung} epochs {better} of {len(known)} others were better, and {goes_on} may go on"
    return ""


def _behind_median(curve: Curve, others: Sequence[Curve], epochs: int) -> str:
    for epoch in sorted(curve):
        known = [_ordered(other[epoch]) for other in others if epoch in other]
        best = min(_ordered(loss) for done, loss in curve.items() if done <= epoch)
        if epoch < epochs and len(known) >= MEDIAN_TRIALS and best > (middle := median(known)):
            return f"after {epoch} epochs its best {best:.5g} is behind the median {middle:.5g} of {len(known)} others"
    return ""


def _ordered(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
