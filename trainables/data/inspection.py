"""What is understood of a file of bars, what is doubtful, and what to write in the sweep file."""

from dataclasses import dataclass

import pandas as pd

from trainables.data import jumps, ohlcv, sources
from trainables.data.columns import NUMBERS, to_ours, unused
from trainables.data.validation import find_problems, repaired
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec


@dataclass(frozen=True, eq=False)
class Inspection:
    """One source.

    Attributes:
        found: what was found out about its form: separator, header, dates, decimal sign and the like.
        unused: columns that nothing is read from.
        bars: as they would be used, indexed by date; with problems, as far as they were understood.
        problems: why it would be refused.
        doubts: what to look at.
    """

    found: dict[str, str]
    unused: tuple[str, ...]
    bars: pd.DataFrame
    problems: tuple[Problem, ...]
    doubts: tuple[str, ...]


def inspect(source: str, spec: DataSpec) -> Inspection:
    """Read one source as a sweep would.

    Args:
        source: as in `DataSpec.source`.
        spec: its columns, format, repair and sort are used.
    """
    try:
        raw = sources.read(source, spec)
    except DataError as error:
        return Inspection({}, (), pd.DataFrame(), tuple(error.problems), ())
    bars, problems, found = to_ours(raw.frame, spec.columns, source, spec.format, spec.session)
    bars, more, adjusted_by = ohlcv.adjusted(bars, raw.frame, spec, source)
    bars, without = ohlcv.volume_or_none(bars)
    problems, found = problems + more, found | without
    bars = repaired(ohlcv.in_order(bars, source, sort=spec.sort), spec.repair, source)
    problems += find_problems(bars, raw.frame, spec.columns, source)
    if "date" in bars.columns:
        bars = bars.set_index("date")
    doubts = []
    if not problems and (steps := jumps.jumps(bars, sources.asset_name(source))):
        doubts.append(f"the price level steps: {jumps.words(steps)}; splits that were not adjusted, or another unit")
    bars = bars[[name for name in NUMBERS if name in bars]]
    others = unused(raw.frame, spec.columns, adjusted_by)
    return Inspection(raw.found | found, others, bars, tuple(problems), tuple(doubts))
