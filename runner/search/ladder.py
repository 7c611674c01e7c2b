"""A ladder: a few values of one key after another, in steps of `STEP`, at three sizes; the rule goes for all sizes.

At each size the value of the sweep file and its two neighbours are tried; the ladder is extended towards its better
end until the best rung has a worse one on both sides. An optimum that stays at the end is refused. The optimum is the
vertex of the parabola through the best rung and its neighbours; the rule of the size is a line through the optima.
Keys follow one another: the second is tried with the first at its rule.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runner.rundir.ledger import StudyPredicted
from runner.rundir.studies import StudyState, StudyTrial
from runner.scaling.rule import STEP, Rule, Tried, fit_ladder
from runner.search.sampling import Values
from runner.search.space import Axis, rounded

SIZES = 3
RUNGS = 4  # of a key at one size, as a plan expects it
MOST_RUNGS = 6
FIRST = (0, -1, 1)


@dataclass(frozen=True)
class Rungs:
    """One study of a ladder: its state, the values that its sweep file has for the keys, and their ranges."""

    state: StudyState
    centers: Mapping[str, float]
    space: Mapping[str, Axis]

    @property
    def size(self) -> float:
        """Its budget in parameters."""
        return float(self.state.asked["budget"])

    def tried(self, dotted: str) -> dict[int, StudyTrial]:
        """Trials of a key by rung; 0 is the sweep file's value."""
        trials = (trial for trial in self.state.trials if self.state.varies(trial, dotted))
        return {round(math.log(trial.values[dotted] / self.centers[dotted], STEP)): trial for trial in trials}

    def value(self, dotted: str, rung: int) -> float:
        """The value of a rung."""
        return self.space[dotted].at_value(self.centers[dotted] * STEP**rung)


@dataclass(frozen=True)
class Next:
    """What a ladder does next: try values in a study, or wait for trials (`study` is None).

    Attributes:
        rules: of all keys, once the ladder is complete.
        refused: why it has no rule, in words.
    """

    study: str | None = None
    values: Values | None = None
    rules: Mapping[str, Rule] | None = None
    refused: str = ""


def chosen_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """The smallest, the middle one in the logarithm, and the largest."""
    ordered = sorted(set(sizes))
    middle = math.sqrt(ordered[0] * ordered[-1])
    between = sorted(ordered[1:-1], key=lambda size: abs(math.log(size / middle)))
    return tuple(sorted({ordered[0], *between[:1], ordered[-1]}))


def follow(
    keys: Sequence[str],
    studies: Sequence[Rungs],
    *,
    may_run: Callable[[str], bool],
    takes: Callable[[str, Values], bool],
) -> Next:
    """The next step of a series' ladder, a pure function of its trials.

    Args:
        keys: in the order in which they are tried.
        studies: at the ladder's sizes, from small to large.
        may_run: whether a trial that has not ended for good will be run.
        takes: whether a study takes values.
    """
    rules: dict[str, Rule] = {}
    for dotted in keys:
        waiting = False
        for one in studies:
            before = {key: rounded(at(rule, one.size)) for key, rule in rules.items()}
            tried = one.tried(dotted)
            open_ = any(trial.loss is None and may_run(trial.key) for trial in tried.values())
            waiting |= open_
            losses = {rung: _loss(trial) for rung, trial in tried.items()}
            while (rung := _next_rung(losses, open_)) is not None:
                values = {**before, dotted: one.value(dotted, rung)}
                if takes(one.state.asked["study"], values):
                    break
                losses[rung] = math.inf
            if rung is None:
                continue
            if len(tried) >= MOST_RUNGS:
                return Next(refused=_at_the_end(dotted, one, tried))
            return Next(one.state.asked["study"], values)
        if waiting:
            return Next()
        rule = fit_ladder([_as_tried(one, dotted) for one in studies])
        if rule is None:
            return Next(refused=f"{dotted}: fewer than 2 sizes have trials that finished")
        rules[dotted] = rule
    return Next(rules=rules)


def at(rule: Rule, size: float) -> float:
    """A rule's value."""
    return float(rule.base * (size / rule.at) ** rule.exponent)


def predicted(study: str, space: Mapping[str, Axis], size: float, rules: Mapping[str, Rule]) -> StudyPredicted:
    """What a complete ladder says of a study."""
    values = {dotted: space[dotted].at_value(at(rule, size)) for dotted, rule in rules.items()}
    words = (f"{key} {rule.base:.3g} * (N / {rule.at:.3g})^{rule.exponent:.3g}" for key, rule in rules.items())
    return StudyPredicted(study=study, values=values, source=f"ladder: {'; '.join(words)}")


def _loss(trial: StudyTrial) -> float:
    return trial.loss if trial.loss is not None and trial.status != "pruned" else math.inf


def _next_rung(losses: Mapping[int, float], running: bool) -> int | None:
    """The rung to try; None where the best one lies between others, or is not known yet."""
    for rung in FIRST:
        if rung not in losses:
            return rung
    best = min(losses, key=lambda rung: (losses[rung], rung))
    beyond = next((rung for rung in (best - 1, best + 1) if rung not in losses), None)
    return None if running else beyond


def _at_the_end(dotted: str, one: Rungs, tried: Mapping[int, StudyTrial]) -> str:
    best = min(tried.values(), key=_loss)
    return (
        f"{dotted} at {one.state.asked['budget']:,} parameters: the best value {best.values[dotted]:.3g} is at the end "
        f"of what was tried ({len(tried)} values in steps of {STEP:g})"
    )


def _as_tried(one: Rungs, dotted: str) -> Tried:
    trials = sorted(one.tried(dotted).values(), key=lambda trial: float(trial.values[dotted]))
    return Tried(one.size, tuple(float(trial.values[dotted]) for trial in trials), tuple(map(_loss, trials)))
