"""The proof that a tier's features look back only: later bars are cut off and changed, and nothing before may move.

The cost is stated: at most `ASSETS` assets, `CUTS` dates each, and two computations a date.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from trainables.data.tier_registry import AssetBars, Tier
from trainables.data.tiers import columns
from trainables.errors import DataError, Problem
from trainables.parts import Part, PartConfig

ASSETS = 3
CUTS = 5  # on five successive places of a week: a value of the week's end is looked for from every one of its days
_FIRST, _LAST = 0.5, 0.95  # of the series: before, much is still warming up
# Sums that are taken in another order differ in their last digits; what a changed future does is a million times more.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9
_OTHER = (3.0, 3.0, 3.0, 3.0, 7.0)  # factors of the bars after a cut, which are also put in reverse order


def prove(part: Part[Tier], config: PartConfig, bars: Mapping[str, AssetBars]) -> None:
    """Return if no feature uses a later bar, as far as some dates of some assets show it.

    Args:
        part: the tier.
        config: its config.
        bars: by asset.

    Raises:
        DataError: a feature does, with column and date.
    """
    problems = [problem for name in sample(bars) for problem in _problems(part, config, bars[name], name)]
    if problems:
        raise DataError(problems)


def sample(assets: Iterable[str]) -> list[str]:
    """The assets that a proof looks at, evenly spread over their sorted names."""
    names = sorted(assets)
    return [names[place] for place in np.unique(np.linspace(0, len(names) - 1, ASSETS).astype(int))]


def _problems(part: Part[Tier], config: PartConfig, bars: AssetBars, asset: str) -> Iterator[Problem]:
    whole = columns(part, config, bars, asset).values
    found: set[str] = set()
    for row in _cuts(len(bars.frame)):
        for how, other in (("cut off", _cut(bars, row)), ("changed", _changed(bars, row))):
            past = columns(part, config, other, asset).values.iloc[: row + 1]
            for name in whole.columns:
                if name not in found and (problem := _moved(part, whole[name], past.get(name), how, asset)):
                    found.add(name)
                    yield problem


def _cuts(rows: int) -> list[int]:
    places = np.linspace(_FIRST, _LAST, CUTS) * (rows - 1)
    return sorted({min(int(place) // CUTS * CUTS + number, rows - 1) for number, place in enumerate(places)})


def _cut(bars: AssetBars, row: int) -> AssetBars:
    days = None if bars.days is None else bars.days[: row + 1]
    return AssetBars(bars.frame.iloc[: row + 1], bars.daily.iloc[: _known_days(bars, row)], days)


def _known_days(bars: AssetBars, row: int) -> int:
    """How many daily bars are known with a bar: its own one, or those before its trading day, which goes on."""
    if bars.days is not None:
        return int(bars.daily.index.searchsorted(bars.days[row], side="left"))
    return int(bars.daily.index.searchsorted(bars.frame.index[row], side="right"))


def _changed(bars: AssetBars, row: int) -> AssetBars:
    frame, daily = bars.frame.copy(), bars.daily.copy()
    for table, first in ((frame, row + 1), (daily, _known_days(bars, row))):
        table.iloc[first:] = table.iloc[first:].to_numpy()[::-1] * _OTHER
    return AssetBars(frame, daily, bars.days)


def _moved(
    part: Part[Tier], whole: "pd.Series[float]", past: "pd.Series[float] | None", how: str, asset: str
) -> Problem | None:
    """What is wrong where a column is not the same without the bars after the last one of `past`."""
    fix = f"compute the column of earlier bars only; the tier is in {part.source.place}"
    if past is None:
        message = f"{part.kind} {part.name!r}: the column {whole.name!r} is missing where later bars are {how}"
        return Problem(place=asset, message=message, fix=fix)
    before_T, after_T = whole.to_numpy()[: len(past)], past.to_numpy()
    finite_T = np.abs(before_T[np.isfinite(before_T)])
    scale = float(finite_T.max()) if len(finite_T) else 0.0
    same_T = np.isclose(before_T, after_T, rtol=_RELATIVE, atol=_ABSOLUTE * scale, equal_nan=True)
    if same_T.all():
        return None
    row = int(np.flatnonzero(~same_T)[-1])
    message = (
        f"{part.kind} {part.name!r}: the column {whole.name!r} looks ahead: its value changes from {before_T[row]:g} "
        f"to {after_T[row]:g} when the bars after {past.index[-1]:%Y-%m-%d} are {how}"
    )
    return Problem(place=f"{asset}, bar {row + 1} ({past.index[row]:%Y-%m-%d})", message=message, fix=fix)
