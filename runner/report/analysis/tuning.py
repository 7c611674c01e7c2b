"""What a search has found: winners with their confirmation, values at the edge of their range, rules of the size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from runner.report.analysis.deflation import Deflated, deflated
from runner.rundir import comparable, studies
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.studies import StudyState, StudyTrial
from runner.scaling.rule import MIN_SIZES, MIN_TRIALS, STEP, Rule, Tried, fit, fit_ladder
from trainables.errors import ConfigError, Problem, nearest

COUNTS = ("model.depth", "model.heads")  # there is nothing below 1
EDGE = 0.05  # share of a range, in its own scale, within which a winner is at its edge
RATE = "training.lr"


@dataclass(frozen=True)
class Winner:
    """The best trial of one study, and what came of it with other seeds. Losses of the study's metric, as losses.

    Attributes:
        counts: trials by status.
        number: of the best trial; None where the values were predicted and not tried.
        searched: its loss in the search, likewise.
        confirmed: mean of the trials that confirm it, as many as `n_confirmed`; None without one.
        test: their mean test loss, likewise.
        edges: keys that are at the edge of their range, with the edge.
        deflated: `searched` with the choice among the study's trials allowed for.
    """

    study: str
    budget: int
    series: str
    counts: Mapping[str, int]
    number: int | None
    values: Mapping[str, Any]
    objective: studies.Objective
    searched: float | None
    confirmed: float | None
    n_confirmed: int
    test: float | None
    edges: tuple[tuple[str, float], ...]
    deflated: Deflated | None = None

    @property
    def optimism(self) -> float | None:
        """Searched loss minus confirmed mean; below 0 where the search made the winner look better than it is."""
        return None if self.confirmed is None or self.searched is None else self.searched - self.confirmed


@dataclass(frozen=True)
class KeyRule:
    """The rule of the size that the optima of one key follow, in one series of studies."""

    key: str
    series: str
    rule: Rule


@dataclass(frozen=True)
class Tuning:
    """What is known of the tuning of a run.

    Attributes:
        untuned: why sizes are compared untuned, in words; empty where they are not.
        recipe: where a neighbouring learning rate moves the loss more than the sizes differ, in words.
        comparisons: trials that winners were chosen among, in all studies.
        transferred: studies that searched less, where smaller sizes predict, in words.
    """

    winners: tuple[Winner, ...] = ()
    rules: tuple[KeyRule, ...] = ()
    comparisons: int = 0
    untuned: str = ""
    transferred: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()


def tuning(view: LedgerView, paths: RunPaths | None = None) -> Tuning:
    """The tuning of the current grid; `paths` is where the predictions are that deflated intervals are made of."""
    found = studies.states(view)
    winners = tuple(winner for state in found if (winner := _winner(view, state, paths)) is not None)
    fitted = tuple(rules(view))
    predicted: dict[str, list[str]] = {}
    for state in found:
        if state.predicted is not None:
            predicted.setdefault(state.predicted.source, []).append(state.asked["name"])
    return Tuning(
        winners=winners,
        rules=fitted,
        recipe=tuple(_recipes(fitted, winners)),
        comparisons=sum(len(state.trials) for state in found),
        untuned=_untuned(view, winners),
        transferred=tuple(f"{', '.join(names)}: {source}" for source, names in predicted.items()),
    )


def _recipes(fitted: tuple[KeyRule, ...], winners: tuple[Winner, ...]) -> Iterator[str]:
    """Series whose losses differ less between sizes than between neighbouring rates of one size."""
    for one in fitted:
        losses = [won.confirmed for won in winners if won.series == one.series and won.confirmed is not None]
        rises = [(best.rise, best.size) for best in one.rule.optima if best.rise is not None]
        if one.key != RATE or len(losses) < 2 or not rises:
            continue
        rise, size = max(rises)
        effect = max(losses) - min(losses)
        if rise > effect:
            place = f"{one.series}: " if one.series else ""
            yield (
                f"{place}a learning rate {STEP:g} times off moves the loss of {size:,.0f} parameters by {rise:.4f}, "
                f"all sizes lie within {effect:.4f}"
            )


def rules(view: LedgerView, key: str | None = None) -> list[KeyRule]:
    """Rules of every searched number with a logarithm (or of one key), by series of studies that differ in budget."""
    series: dict[tuple[str, str], list[Tried]] = {}
    ladders: set[str] = set()
    for state in studies.states(view):
        for dotted, axis in state.asked["space"].items():
            if axis.get("log") and key in (None, dotted):
                tried = Tried(float(state.asked["budget"]), *state.tried(dotted))
                series.setdefault((dotted, state.series), []).append(tried)
                ladders |= {state.series} if state.asked.get("ladder") else set()
    fitted = (
        (dotted, name, fit_ladder([one for one in tried if one.values]) if name in ladders else fit(tried))
        for (dotted, name), tried in series.items()
    )
    return [KeyRule(dotted, name, rule) for dotted, name, rule in fitted if rule is not None]


def measured(view: LedgerView, key: str) -> list[KeyRule]:
    """Rules of one key.

    Raises:
        ConfigError: the run has not searched it, or at too few sizes.
    """
    searched = sorted({dotted for study in view.studies.values() for dotted in study["space"]})
    if key not in searched:
        message = f"this run has not searched {key!r}"
        raise ConfigError(
            [Problem(place="KEY", message=message, fix=nearest(key, searched) or "give it a block search")]
        )
    if not (found := rules(view, key)):
        message = f"{key} has no rule: it takes {MIN_SIZES} sizes with {MIN_TRIALS} finished trials, and a log range"
        raise ConfigError([Problem(place="KEY", message=message, fix="search at more sizes, or raise search.trials")])
    return found


def _winner(view: LedgerView, state: StudyState, paths: RunPaths | None) -> Winner | None:
    if state.chosen is None:
        return None
    number, values = state.chosen
    best = state.best if number is not None else None
    ended = [view.cells[key] for key in state.confirmed if key in view.cells and view.cells[key].status == "finished"]
    losses = [loss for one in ended if (loss := studies.loss(one, state.objective)) is not None]
    tests = [one.ended.result.get("test_loss") for one in ended if one.ended is not None]
    tested = [float(loss) for loss in tests if loss is not None]
    counts: dict[str, int] = {}
    for trial in state.trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    return Winner(
        study=state.asked["name"],
        budget=state.asked["budget"],
        series=state.series,
        counts=counts,
        number=number,
        values=values,
        objective=state.objective,
        searched=best.loss if best else None,
        confirmed=fmean(losses) if losses else None,
        n_confirmed=len(losses),
        test=fmean(tested) if tested else None,
        edges=tuple(edges(state.space, best)) if best else (),
        deflated=deflated(paths, view, state) if paths else None,
    )


def edges(space: Mapping[str, Mapping[str, Any]], best: StudyTrial) -> list[tuple[str, float]]:
    """Numbers of a trial that are at the edge of what was tried, with the edge. 0 and a depth of 1 are the least."""
    found = []
    for dotted, axis in space.items():
        if dotted not in best.values:  # its condition does not hold
            continue
        edge = (
            _edge_of_choices(axis["choices"], best.values[dotted]) if "choices" in axis else _edge(axis, best, dotted)
        )
        if edge and (edge != 1 or dotted not in COUNTS):
            found.append((dotted, edge))
    return found


def _edge(axis: Mapping[str, Any], best: StudyTrial, dotted: str) -> float | None:
    scale = math.log if axis["log"] else float
    low, high, value = scale(axis["low"]), scale(axis["high"]), scale(best.values[dotted])
    share = (value - low) / (high - low)
    return axis["low"] if share <= EDGE else axis["high"] if share >= 1 - EDGE else None


def _edge_of_choices(choices: Sequence[Any], value: Any) -> float | None:
    """The smallest or largest of three numbers or more; other choices have no order, and two have no middle."""
    ordered = all(isinstance(one, int | float) and not isinstance(one, bool) for one in choices) and len(choices) > 2
    return value if ordered and value in (min(choices), max(choices)) else None


def _untuned(view: LedgerView, winners: tuple[Winner, ...]) -> str:
    """Why sizes were compared without tuned learning rates; empty where they were not, or there is one size."""
    cells = view.compared.values()
    if len({state.cell.n_params for state in cells}) < 2:
        return ""
    if not view.studies:
        rates: dict[Any, set[Any]] = {}
        for state in cells:
            place = (state.cell.n_params, comparable.identity(state.cell.spec))
            rates.setdefault(place, set()).add(comparable.setting(state.cell.spec, RATE))
        if any(len(tried) > 1 for tried in rates.values()):
            return ""
        return "each size has one learning rate, so that the change with size holds the change of the rule's fit"
    if any(RATE not in study["space"] and RATE not in study["axes"] for study in view.studies.values()):
        return f"the search leaves {RATE} out, so that each size has one learning rate"
    at_edge = [f"{won.study} ({key}={edge:g})" for won in winners for key, edge in won.edges]
    if at_edge:
        return f"the best trial of {', '.join(at_edge)} is at the edge of what was tried; widen search.space there"
    return ""
