"""The studies of a search as the ledger has them: what was tried, what came of it, which trial is best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.rundir.ledger import CellState, LedgerView, Status, StudyPredicted, TrialSuggested

# A trial that ended so is as bad as one can be: values near its own are to be avoided.
WORST: frozenset[Status] = frozenset({"diverged", "out_of_memory", "infeasible"})


@dataclass(frozen=True)
class Objective:
    """What the trials of a study are ranked by: a metric, as a loss."""

    metric: str
    higher_is_better: bool

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "Objective":
        """That of a study; ledgers of before do not say which way it goes."""
        return cls(asked["metric"], bool(asked.get("higher_is_better", asked["metric"] == "val_auc")))

    def as_loss(self, value: float) -> float:
        """A value of the metric, to be minimised; also the inverse."""
        return -value if self.higher_is_better else value


@dataclass(frozen=True)
class StudyTrial:
    """One trial of a study.

    Attributes:
        number: place in the study, from 0.
        values: by dotted key.
        status: see `CellState.status`.
        loss: the study's metric, negated where higher is better; None without one, such as of a trial that runs.
        curve: the same by epochs done, as far as it is recorded by epoch.
    """

    number: int
    key: str
    values: dict[str, Any]
    status: str
    loss: float | None
    curve: dict[int, float]

    @property
    def finished(self) -> bool:
        """Whether it can be the winner."""
        return self.status == "finished" and self.loss is not None


@dataclass(frozen=True)
class StudyState:
    """One study: what it asks (`StudyRecord` of the ledger), its trials by number, and its winner's confirmation.

    Attributes:
        confirmed: keys of the trials that confirm the winner; empty before there is one.
        predicted: what smaller sizes say of it, where that was asked for and is known.
    """

    asked: Mapping[str, Any]
    trials: tuple[StudyTrial, ...]
    confirmed: tuple[str, ...] = ()
    predicted: StudyPredicted | None = None

    @property
    def objective(self) -> Objective:
        """What its trials are ranked by."""
        return Objective.of(self.asked)

    @property
    def series(self) -> str:
        """Its axes but the budget, in words: studies of a series differ in size alone."""
        axes = {axis: value for axis, value in self.asked["axes"].items() if axis != "budget"}
        return ", ".join(f"{axis} {value}" for axis, value in axes.items())

    @property
    def space(self) -> Mapping[str, Mapping[str, Any]]:
        """The ranges that it searches: those of the sweep file, as far as a prediction has not narrowed them."""
        return {**self.asked["space"], **(self.predicted.space if self.predicted else {})}

    @property
    def best(self) -> StudyTrial | None:
        """The finished trial with the lowest loss, the earliest of equals; None without one."""
        finished = [trial for trial in self.trials if trial.finished]
        return min(finished, key=lambda trial: (trial.loss, trial.number), default=None)

    @property
    def chosen(self) -> tuple[int | None, Mapping[str, Any]] | None:
        """Number and values of what is confirmed: the best trial, or without one what was predicted; None: neither.

        After a ladder it is always what was predicted.
        """
        if (best := self.best) is not None and not self.asked.get("ladder"):
            return best.number, best.values
        return (None, self.predicted.values) if self.predicted and self.predicted.values else None

    def varies(self, trial: StudyTrial, dotted: str) -> bool:
        """Whether a trial tries a value of a key; those of a ladder have earlier keys at their rule."""
        ladder = self.asked.get("ladder")
        return dotted in trial.values and (not ladder or ladder[len(trial.values) - 1] == dotted)

    def tried(self, dotted: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Values of a number that finished trials had, and their losses."""
        pairs = [
            (float(trial.values[dotted]), trial.loss)
            for trial in self.trials
            if trial.finished and trial.loss is not None and math.isfinite(trial.loss) and self.varies(trial, dotted)
        ]
        return tuple(value for value, _ in pairs), tuple(loss for _, loss in pairs)


def states(view: LedgerView) -> tuple[StudyState, ...]:
    """The studies of the latest start, in the grid's order."""
    return tuple(state(view, asked) for asked in view.studies.values())


def state(view: LedgerView, asked: Mapping[str, Any]) -> StudyState:
    """One study as far as it has come."""
    identity, metric = asked["study"], Objective.of(asked)
    numbered = view.suggested.get(identity, {})
    trials = [_trial(view, metric, numbered[number]) for number in sorted(numbered)]
    found = StudyState(asked, tuple(trials), predicted=view.predicted.get(identity))
    winner, chosen = view.winners.get(identity), found.chosen
    return replace(found, confirmed=winner.keys) if winner and chosen and winner.number == chosen[0] else found


def _trial(view: LedgerView, metric: Objective, asked: TrialSuggested) -> StudyTrial:
    known = view.cells.get(asked.key)
    if known is None:  # only in a ledger that was cut
        return StudyTrial(asked.number, asked.key, asked.values, "waiting", None, {})
    return StudyTrial(asked.number, asked.key, asked.values, known.status, loss(known, metric), curve(known, metric))


def loss(known: CellState, objective: Objective) -> float | None:
    """A trial's value of a study's metric, to be minimised; infinite where it ended without any use."""
    if known.ended is None:
        return None
    if known.ended.status in WORST:
        return math.inf
    by_epoch, metric = curve(known, objective), objective.metric
    if known.ended.status == "pruned":
        return by_epoch[max(by_epoch)] if by_epoch else math.inf
    if known.ended.status != "finished":
        return None
    if metric == "selection_loss":  # by epoch only; that of the epoch that is judged
        return by_epoch.get(int(known.ended.result.get("judged_epoch") or 0))
    value = known.ended.result.get(metric, known.ended.result.get(f"metric:{metric}"))
    return None if value is None else objective.as_loss(float(value))


def curve(known: CellState, objective: Objective) -> dict[int, float]:
    """A study's metric by epochs done, to be minimised."""
    return {
        known.epochs[step]: objective.as_loss(value)
        for step, values in sorted(known.metrics.items())
        if (value := values.get(objective.metric)) is not None
    }
