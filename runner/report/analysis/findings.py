"""What is worth knowing about single trials before their losses are compared."""

from collections.abc import Callable
from dataclasses import dataclass

from runner.report.analysis.trials import UNFINISHED, WAITING, Trial
from runner.rundir.marks import MarkName


@dataclass(frozen=True)
class TrialFinding:
    """Trials that share one remarkable outcome for one reason.

    Attributes:
        kind: the outcome's name, as in the ledger's statuses where it is one.
        meaning: one sentence on what it means for reading the results.
        reason: what the trials themselves recorded; empty where the kind says it all.
        trials: in the grid's order.
    """

    kind: str
    meaning: str
    reason: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class _Rule:
    kind: str
    meaning: str
    applies: Callable[[Trial], bool]
    reason: Callable[[Trial], str]


def _status(status: str, meaning: str, kind: str = "") -> _Rule:
    return _Rule(kind or status.replace("_", " "), meaning, lambda trial: trial.status == status, lambda t: t.reason)


def _marked(name: MarkName, meaning: str) -> _Rule:
    def reason(trial: Trial) -> str:
        return next(mark.reason for mark in trial.marks if mark.name == name)

    return _Rule(name, meaning, lambda trial: trial.marked(name), reason)


_RULES = (
    _status("failed", "An error ended these trials; they have no result and are started again by the next sweep."),
    _status("out_of_memory", "These trials did not fit into memory; they have no result."),
    _status("thermal_stop", "Stopped to protect the hardware; the next sweep resumes them."),
    _status("interrupted", "Stopped before their end; the next sweep resumes them."),
    _status(UNFINISHED, "Started, and the ledger holds no end yet: they run, or their driver ended before them."),
    _status(WAITING, "Not started yet."),
    _status("infeasible", "Cannot be run honestly as asked, so they were not started."),
    _marked("diverged", "A loss or gradient stopped being finite and the step was refused: a finding, not a failure."),
    _marked(
        "collapsed",
        "The predictions hardly vary, or are surely worse than the prior: such a loss says nothing about size.",
    ),
    _marked(
        "squashed outputs",
        "They look like probabilities where logits are due: a sigmoid too many, or weights of another model.",
    ),
    _marked("off budget", "Such a size is not what its budget says; fits use the actual number of parameters."),
    _marked("under-trained", "The loss still fell before the learning rate did: a longer run would lower it further."),
    _marked("over-fitted", "The models know their training windows better than they know the market."),
    _marked(
        "throughput distorted",
        "Temperature protection let the device rest: losses are as they would be, rates of samples are not comparable.",
    ),
)


def find(trials: tuple[Trial, ...]) -> tuple[TrialFinding, ...]:
    """All findings, the ones that lost results first; trials with equal reasons are gathered."""
    findings = []
    for rule in _RULES:
        by_reason: dict[str, list[Trial]] = {}
        for trial in filter(rule.applies, trials):
            by_reason.setdefault(rule.reason(trial), []).append(trial)
        findings += [TrialFinding(rule.kind, rule.meaning, reason, tuple(group)) for reason, group in by_reason.items()]
    return tuple(findings)
