"""What a study's winner loses when the choice among its trials is allowed for.

The best of many trials is partly the one that suits the validation period best. How much, is seen by choosing again on
resamples of that period: the loss of what a resample would choose, on the whole period, less its loss on that resample,
is on average what the search makes its winner look better than it is (the bootstrap's estimate of optimism; Efron 1983,
JASA 78, 316-331). It is added to the winner's loss and to the ends of its interval. It covers the choice among the
trials of one study on one validation period, and nothing of seeds, which the confirmed trials cover.
"""

from dataclasses import dataclass

import numpy as np

from runner.report.analysis.resamples import loss_resamples
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.studies import StudyState
from trainables.training.bootstrap import PERCENT, Floats

METRIC = "val_loss"  # of a part of validation that judges nothing, no choice has to be allowed for


@dataclass(frozen=True)
class Deflated:
    """A winner's loss in the search with its optimism added, and a 95 % interval of it, in nats."""

    value: float
    low: float
    high: float
    optimism: float
    n_trials: int


def deflated(paths: RunPaths, view: LedgerView, state: StudyState) -> Deflated | None:
    """The winner of a study; None where it has no winner of its own, or its trials' predictions are not on disk."""
    tried = [trial for trial in state.trials if trial.finished and trial.loss is not None]
    if state.asked["metric"] != METRIC or state.asked.get("ladder") or len(tried) < 2:
        return None
    resampled_RK = loss_resamples(paths, view, [trial.key for trial in tried], "validation")
    if resampled_RK is None:
        return None
    return of_resamples(np.array([trial.loss for trial in tried]), resampled_RK)


def of_resamples(losses_K: Floats, resampled_RK: Floats) -> Deflated:
    """The lowest of K losses, from the losses of the same trials under R resamples of the period."""
    chosen_R = resampled_RK.argmin(axis=1)
    optimism = float(np.mean(losses_K[chosen_R] - resampled_RK.min(axis=1)))
    winner = int(losses_K.argmin())
    low, high = np.percentile(resampled_RK[:, winner], PERCENT) + optimism
    return Deflated(float(losses_K[winner]) + optimism, float(low), float(high), optimism, len(losses_K))
