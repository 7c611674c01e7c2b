"""The tables of a search: winners with their confirmation, and the rules of the size that the optima follow."""

import pandas as pd

from runner.report.analysis.deflation import Deflated
from runner.report.analysis.tuning import KeyRule, Tuning, Winner
from runner.report.tables import Column, ReportTable
from runner.report.wording import NONE, number


def sentences(tuning: Tuning) -> tuple[str, ...]:
    """What is to know before a verdict is believed."""
    found = []
    if tuning.winners:
        many = "1 study" if len(tuning.winners) == 1 else f"{len(tuning.winners)} studies"
        gaps = [winner.optimism for winner in tuning.winners if winner.optimism is not None]
        gap = number(sum(gaps) / len(gaps), 4, signed=True) if gaps else ""
        confirmed = f" The search's optimism (searched loss minus confirmed mean) is {gap} on average." if gaps else ""
        by_rule = all(winner.number is None for winner in tuning.winners)
        values = "of the ladder's rule" if by_rule else "the winners"
        found.append(
            f"{tuning.comparisons} searched trials in {many}; trials in verdicts and fits are {values}, trained again "
            f"with seeds that the search did not use.{confirmed}"
        )
    if tuning.transferred:
        found.append(f"Follows what other sizes predict: {'; '.join(tuning.transferred)}.")
    if any(one.deflated for one in tuning.winners):
        found.append(
            "Deflated is the winner's loss in the search with the bootstrap's estimate of what the choice among the "
            "study's trials makes it look better (Efron 1983; blocks of validation dates are resampled)."
        )
    if tuning.untuned:
        found.append(f"Untuned: {tuning.untuned}.")
    found += [f"Recipe, not size: {words}." for words in tuning.recipe]
    return tuple(found)


def winners_table(tuning: Tuning) -> ReportTable:
    """One row per study."""
    columns = (
        Column("study"), Column("trials"), Column("winner", "number"), Column("values", "code"),
        Column("metric", "code"), Column("searched", "number"),
        Column("deflated [95 %]", "number"), Column("confirmed", "number"),
        Column("seeds", "number"), Column("optimism", "number"), Column("test loss", "number"),
        Column("at the edge", "code"),
    )  # fmt: skip
    return ReportTable("Winners of the search", columns, tuple(_winner(one) for one in tuning.winners))


def _winner(one: Winner) -> tuple[str, ...]:
    return (
        one.study,
        ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in one.counts.items()),
        "by rule" if one.number is None else str(one.number),
        ", ".join(f"{key}={_value(value)}" for key, value in one.values.items()),
        one.objective.metric,
        NONE if one.searched is None else number(one.objective.as_loss(one.searched), 4),
        NONE if one.deflated is None else _interval(one.deflated),
        NONE if one.confirmed is None else number(one.objective.as_loss(one.confirmed), 4),
        str(one.n_confirmed),
        NONE if one.optimism is None else number(one.optimism, 4, signed=True),
        NONE if one.test is None else number(one.test, 4),
        ", ".join(f"{key}={_value(edge)}" for key, edge in one.edges) or NONE,
    )


def _interval(one: Deflated) -> str:
    return f"{number(one.value, 4)} [{number(one.low, 4)}, {number(one.high, 4)}]"


def frame(tuning: Tuning) -> pd.DataFrame:
    """The winners as numbers, one row per study; losses are of the study's metric, as losses."""
    rows = [
        {
            "study": one.study,
            "budget": one.budget,
            "metric": one.objective.metric,
            "number": one.number,
            "comparisons": sum(one.counts.values()),
            "searched": one.searched,
            **{f"deflated{end}": value for end, value in _deflated(one.deflated)},
            "confirmed": one.confirmed,
            "n_confirmed": one.n_confirmed,
            "optimism": one.optimism,
            "test_loss": one.test,
            **one.values,
        }
        for one in tuning.winners
    ]
    return pd.DataFrame(rows)


def _deflated(one: Deflated | None) -> tuple[tuple[str, float | None], ...]:
    names = ("", "_low", "_high", "_optimism")
    known = (one.value, one.low, one.high, one.optimism) if one else (None,) * len(names)
    return tuple(zip(names, known, strict=True))


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def rules_table(tuning: Tuning) -> ReportTable:
    """One row a key and series, then its optimum at each size."""
    columns = (
        Column("key", "code"), Column("series"), Column("rule", "code"), Column("exponent [95 %]", "number"),
        Column("optimum by size [95 %]"),
    )  # fmt: skip
    return ReportTable("Rules of the size", columns, tuple(_rule(one) for one in tuning.rules))


def _rule(one: KeyRule) -> tuple[str, ...]:
    rule = one.rule
    return (
        one.key,
        one.series,
        f"{rule.base:.3g} * (N / {rule.at:.3g})^{rule.exponent:.3g}",
        f"{rule.exponent:.3f} [{rule.exponent_low:.3f}, {rule.exponent_high:.3f}]",
        "; ".join(f"{best.size:.3g}: {best.value:.2e} [{best.low:.1e}, {best.high:.1e}]" for best in rule.optima),
    )
