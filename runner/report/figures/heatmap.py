"""Heat maps of budget by horizon: AUC and skill, with the numbers in the cells, and the baselines below the budgets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.patches import Rectangle

from runner.report.analysis.trials import Estimate, Group, Trial
from runner.report.analysis.verdict import beside
from runner.report.figures import drawing
from runner.report.figures.drawing import GREY, INK, NARROW_INCH, WIDE_INCH, Plot
from runner.report.figures.theme import INK_ON_COLOUR, WHITE_ON_COLOUR
from runner.report.wording import NONE, joined, number, panels_note, plural

TITLE = "AUC and skill on validation, by budget and horizon"
_GROUPS = 3  # in one figure
_BESIDE = 4  # horizons up to which both measures are side by side
_NAMES = ("volatility", "linear", "boosted_trees")
_MIN_SKILL_SPAN = 0.02  # a colour scale never makes less than 2 % of skill look like a mountain
_EMPTY = np.array([0.96, 0.96, 0.96, 1.0])
_DARK = 0.2  # relative luminance (WCAG 2) below which white is easier to read than ink


@dataclass(frozen=True)
class _Measure:
    """What one kind of panel shows."""

    title: str
    of: Callable[[Trial], Estimate]
    decimals: int
    scale: float
    signed: bool


_AUC = _Measure("AUC", lambda trial: trial.auc, 3, 1.0, False)
_SKILL = _Measure("skill (%)", lambda trial: trial.skill, 1, 100.0, True)


def heat_figures(trials: Sequence[Trial], baselines: Sequence[Trial]) -> Iterator[Plot]:
    """A row a group, at most three a figure, with a panel of AUC (none in regression) and one of skill."""
    groups = tuple(dict.fromkeys(trial.group for trial in trials))
    finished = [trial for trial in trials if trial.status == "finished"]
    known = [group for group in groups if any(t.group == group and t.skill.value is not None for t in finished)]
    measures = [m for m in (_AUC, _SKILL) if any(m.of(trial).value is not None for trial in finished)]
    for part, start in enumerate(range(0, len(known), _GROUPS), 1):
        chosen = known[start : start + _GROUPS]
        maps = [[_Map.of(measure, group, trials, baselines) for measure in measures] for group in chosen]
        yield _figure(part, maps, groups, panels_note(trial for trial in trials if trial.group in chosen))


def _figure(part: int, maps: list[list["_Map"]], groups: tuple[Group, ...], note: tuple[str, ...]) -> Plot:
    shown = [one for row in maps for one in row]
    columns = len(maps[0]) if max(len(one.horizons) for one in shown) <= _BESIDE else 1
    rows = -(-len(shown) // columns)
    narrow = columns * (1.4 + 1.3 * max(len(one.horizons) for one in shown)) <= NARROW_INCH
    width = NARROW_INCH if narrow else WIDE_INCH
    with drawing.styled():
        figure = drawing.canvas(width, 0.5 + rows * (0.42 * max(len(one.rows) for one in shown) + 0.85))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, one in zip(axes, shown, strict=True):
            values = [v for other in shown if other.measure is one.measure for v in other.values]
            _panel(axis, one, _colours(one.measure, values))
            different = one.group.differing(groups)
            axis.set_title(drawing.plain(one.measure.title + (f": {different}" if different else "")))
        png = drawing.finish(figure, TITLE, [])
    return Plot(
        name="heat_map" + (f"_{part}" if part > 1 else ""),
        title=TITLE + (f" ({part})" if part > 1 else ""),
        alt=_alt(shown),
        caption=(*_CAPTION, *note),
        png=png,
        wide=not narrow,
    )


def _alt(maps: Sequence["_Map"]) -> str:
    ranges = []
    for measure in (_AUC, _SKILL):
        if values := [value for one in maps if one.measure is measure for value in one.values]:
            ends = [number(end, measure.decimals, signed=measure.signed) for end in (min(values), max(values))]
            ranges.append(f"{measure.title} {ends[0]} to {ends[1]}")
    return f"{TITLE}, in {plural(len(maps), 'panel')}: {joined(ranges)}."


_CAPTION = (
    "Means over the seeds of finished trials; in brackets the means of the ends of their 95 % intervals. Below the "
    "line are the baselines, on the same windows. A star marks a cell of which a trial collapsed; a word stands "
    "where no trial has a result.",
    "Columns are different questions, with different shares of the classes: compare within a column.",
)


@dataclass(frozen=True)
class _Cell:
    value: float | None
    text: str


@dataclass(frozen=True)
class _Map:
    """One panel: rows from the bottom up, baselines first; cells by (row, horizon)."""

    measure: _Measure
    group: Group
    rows: tuple[str, ...]
    n_baselines: int
    horizons: tuple[int, ...]
    cells: dict[tuple[str, int], _Cell]

    @property
    def values(self) -> list[float]:
        """What is known."""
        return [cell.value for cell in self.cells.values() if cell.value is not None]

    @classmethod
    def of(cls, measure: _Measure, group: Group, trials: Sequence[Trial], baselines: Sequence[Trial]) -> "_Map":
        members = [trial for trial in trials if trial.group == group and trial.horizon is not None]
        near = {other.key: other for trial in members for other in beside(trial, baselines)}
        names = [name for name in _NAMES if any(other.group.model == name for other in near.values())]
        by_size = sorted(members, key=lambda trial: trial.n_params or 0)
        budgets = list(dict.fromkeys(trial.budget for trial in by_size))
        sources = {
            **{name.replace("_", " "): [o for o in near.values() if o.group.model == name] for name in names[::-1]},
            **{budget: [trial for trial in members if trial.budget == budget] for budget in budgets},
        }
        horizons = tuple(sorted({trial.horizon for trial in members if trial.horizon is not None}))
        cells = {
            (row, horizon): _cell(measure, [one for one in source if one.horizon == horizon])
            for row, source in sources.items()
            for horizon in horizons
        }
        return cls(measure, group, tuple(sources), len(names), horizons, cells)


def _cell(measure: _Measure, trials: Sequence[Trial]) -> _Cell:
    finished = [measure.of(trial) for trial in trials if trial.status == "finished"]
    known = [one for one in finished if one.value is not None]
    if not known:
        return _Cell(None, trials[0].status.replace("_", " ") if trials else NONE)
    mean = fmean(one.value for one in known if one.value is not None) * measure.scale
    star = " *" if any(trial.collapsed for trial in trials) else ""
    text = number(mean, measure.decimals, signed=measure.signed) + star
    lows, highs = [one.low for one in known], [one.high for one in known]
    if None not in lows and None not in highs:
        ends = (fmean(end for end in side if end is not None) * measure.scale for side in (lows, highs))
        text += "\n[" + ", ".join(number(end, measure.decimals, signed=measure.signed) for end in ends) + "]"
    return _Cell(mean, text)


def _colours(measure: _Measure, values: Sequence[float]) -> mpl.cm.ScalarMappable:
    """Both maps are distinguished with every common colour vision; skill has its neutral middle at 0."""
    if measure is _AUC:
        return mpl.cm.ScalarMappable(Normalize(min(0.5, *values), max(0.6, *values)), "Blues")
    reach = max(100 * _MIN_SKILL_SPAN, *(abs(value) for value in values))
    return mpl.cm.ScalarMappable(TwoSlopeNorm(0.0, -reach, reach), "PuOr")


def _ink(face: npt.NDArray[np.float64]) -> str:
    channels = face[:3]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return WHITE_ON_COLOUR if np.dot(linear, (0.2126, 0.7152, 0.0722)) < _DARK else INK_ON_COLOUR


def _panel(axis: Axes, one: _Map, colours: mpl.cm.ScalarMappable) -> None:
    for row, name in enumerate(one.rows):
        for column, horizon in enumerate(one.horizons):
            cell = one.cells[name, horizon]
            face = _EMPTY if cell.value is None else colours.to_rgba(np.array([cell.value]))[0]
            field = None if cell.value is None else f"field-{row}-{column}"
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=face, ec="white", lw=1.5, gid=field))
            ink = GREY if cell.value is None else _ink(face)
            axis.text(column, row, cell.text, ha="center", va="center", fontsize=8, color=ink, linespacing=1.15)
    if one.n_baselines:
        axis.axhline(one.n_baselines - 0.5, color=INK, linewidth=2.0)
    axis.set_xlim(-0.5, len(one.horizons) - 0.5)
    axis.set_ylim(-0.5, len(one.rows) - 0.5)
    axis.set_xticks(range(len(one.horizons)), [str(horizon) for horizon in one.horizons])
    axis.set_yticks(range(len(one.rows)), list(one.rows))
    axis.set_xlabel("horizon (bars)")
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
