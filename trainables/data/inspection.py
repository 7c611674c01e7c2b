"""What is understood of a file of bars, what is doubtful, and what to write in the sweep file."""

from dataclasses import dataclass

import pandas as pd

from trainables.data import calendars, doubts, sources, understanding, validation
from trainables.data.barfile import names
from trainables.data.columns import NUMBERS, unused
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec, RepairSpec


@dataclass(frozen=True, eq=False)
class Inspection:
    """One source.

    Attributes:
        found: what was found out about its form: separator, header, dates, decimal sign and the like.
        unused: columns that nothing is read from.
        bars: as they would be used, indexed by date; with problems, as far as they were understood.
        problems: why it would be refused.
        doubts: what to look at.
        repair: one after which it would not be refused, where that is all that is wrong; None where it is not.
    """

    found: dict[str, str]
    unused: tuple[str, ...]
    bars: pd.DataFrame
    problems: tuple[Problem, ...]
    doubts: tuple[str, ...]
    repair: RepairSpec | None = None


def inspect(source: str, spec: DataSpec) -> Inspection:
    """Read one source as a sweep would.

    Args:
        source: as in `DataSpec.source`.
        spec: its columns, format, repair and sort are used.
    """
    try:
        raw = sources.read(source, spec)
        one = understanding.understood(raw, sources.asset_name(source), source, spec)
    except DataError as error:
        return Inspection({}, (), pd.DataFrame(), tuple(error.problems), ())
    bars, problems = one.bars, one.problems
    if "date" in bars.columns:
        bars = bars.set_index("date")
    found = []
    if not problems:
        asset = sources.asset_name(source)
        by_kind: dict[str, list[doubts.Doubt]] = {}
        for one_doubt in doubts.doubts(bars, asset, calendars.of(asset, spec)):
            by_kind.setdefault(one_doubt.kind, []).append(one_doubt)
        found = [f"{doubts.KINDS[kind]}: {doubts.words(listed)}" for kind, listed in by_kind.items()]
    bars = bars[[name for name in NUMBERS if name in bars]]
    others = unused(raw.frame, spec.columns, one.adjusted_by)
    vendor = names.vendor_of(raw.frame.columns)
    understood = ({"looks like": vendor} if vendor else {}) | one.found
    repair = validation.repair_of(one.as_read, spec.repair) if problems and set(NUMBERS) <= set(bars) else None
    return Inspection(understood, others, bars, tuple(problems), (*one.done, *found), repair)
