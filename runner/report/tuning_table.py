"""The tables of a search: winners with their confirmation, and the rules of the size that the optima follow."""

from runner.report.analysis.tuning import KeyRule, Tuning, Winner
from runner.report.tables import Column, ReportTable
from runner.report.wording import NONE, number
from runner.rundir import studies


def sentences(tuning: Tuning) -> tuple[str, ...]:
    """What is to know before a verdict is believed."""
    found = []
    if tuning.winners:
        many = "1 study" if len(tuning.winners) == 1 else f"{len(tuning.winners)} studies"
        gaps = [winner.optimism for winner in tuning.winners if winner.optimism is not None]
        gap = number(sum(gaps) / len(gaps), 4, signed=True) if gaps else ""
        confirmed = f" The search's optimism (searched loss minus confirmed mean) is {gap} on average." if gaps else ""
        found.append(
            f"The best of {tuning.comparisons} searched trials in {many}; trials in verdicts and fits are the winners, "
            f"trained again with seeds that the search did not use.{confirmed}"
        )
    if tuning.transferred:
        found.append(f"Follows what other sizes predict: {'; '.join(tuning.transferred)}.")
    if tuning.untuned:
        found.append(f"Untuned: {tuning.untuned}.")
    found += [f"Recipe, not size: {words}." for words in tuning.recipe]
    return tuple(found)


def winners_table(tuning: Tuning) -> ReportTable:
    """One row a study."""
    columns = (
        Column("study"), Column("trials"), Column("winner", "number"), Column("values", "code"),
        Column("metric", "code"), Column("searched", "number"), Column("confirmed", "number"),
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
        one.metric,
        NONE if one.searched is None else number(studies.shown(one.searched, one.metric), 4),
        NONE if one.confirmed is None else number(studies.shown(one.confirmed, one.metric), 4),
        str(one.n_confirmed),
        NONE if one.optimism is None else number(one.optimism, 4, signed=True),
        NONE if one.test is None else number(one.test, 4),
        ", ".join(f"{key}={_value(edge)}" for key, edge in one.edges) or NONE,
    )


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
