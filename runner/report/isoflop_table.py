"""The best size by compute budget in words: sentences and a table."""

from collections.abc import Iterator

from runner.report.analysis.isoflop import IsoFlopSeries
from runner.report.analysis.trials import Group
from runner.report.tables import Column, ReportTable
from runner.report.wording import NONE, number, plural, size
from runner.scaling.isoflop import Valley
from runner.scaling.trend import Trend

FIXED = (
    "Trials of one compute budget train the shorter the larger they are, so that their loss has a lowest point in "
    "size: verdicts over their sizes are no scaling law."
)


def sentences(series: tuple[IsoFlopSeries, ...]) -> tuple[str, ...]:
    """What the compute budgets say, one sentence a series."""
    groups = tuple(one.group for one in series)
    return (FIXED, *(f"{_name(one, groups)}: {_law(one)}." for one in series)) if series else ()


def _law(one: IsoFlopSeries) -> str:
    frontier, valleys = one.fit.frontier, one.fit.valleys
    if frontier is not None:
        return f"the best size grows with compute as {formula(frontier)}"
    bounded = sum(valley.low is not None for valley in valleys)
    known = f"a best size with an interval at {bounded} of {plural(len(valleys), 'compute budget')}"
    return f"{known}; 3 are needed to say how it grows"


def formula(frontier: Trend) -> str:
    """The law with the interval of its exponent."""
    ends = f"[{frontier.exponent_low:.2f}, {frontier.exponent_high:.2f}]"
    return f"{size(frontier.base)} (C / {frontier.at:.2g})^{frontier.exponent:.2f} {ends}"


def table(series: tuple[IsoFlopSeries, ...]) -> ReportTable:
    """One row a compute budget."""
    columns = (
        Column("series"), Column("compute (FLOP)", "number"), Column("trials", "number"), Column("sizes", "number"),
        Column("best size [95 %]", "number"), Column("loss there", "number"), Column("note"),
    )  # fmt: skip
    groups = tuple(one.group for one in series)
    rows = (_row(_name(one, groups), valley) for one in series for valley in one.fit.valleys)
    return ReportTable("Best size by compute", columns, tuple(rows))


def _row(name: str, valley: Valley) -> tuple[str, ...]:
    best = NONE if valley.optimum is None else size(valley.optimum)
    if valley.low is not None and valley.high is not None:
        best += f" [{size(valley.low)}, {size(valley.high)}]"
    return (
        name,
        f"{valley.compute:.3g}",
        str(len(valley.points)),
        str(len({point.size for point in valley.points})),
        best,
        NONE if valley.loss is None else number(valley.loss, 4),
        valley.why,
    )


def _name(one: IsoFlopSeries, groups: tuple[Group, ...]) -> str:
    return ", ".join(_parts(one, groups))


def _parts(one: IsoFlopSeries, groups: tuple[Group, ...]) -> Iterator[str]:
    yield f"Horizon {one.horizon}"
    if words := one.group.differing(groups):
        yield words
