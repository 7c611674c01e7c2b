"""Validation loss against parameters at equal compute, with each budget's parabola and its lowest point."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from runner.report.analysis.isoflop import IsoFlopSeries
from runner.report.figures import drawing
from runner.report.figures.drawing import MAX_PANELS, Plot
from runner.report.figures.plots import size_axis
from runner.report.isoflop_table import formula
from runner.report.wording import plural
from runner.scaling.isoflop import Valley

CAPTION = (
    "Each curve is a parabola in the logarithm of the size, fitted to the trials of one compute budget (Hoffmann et "
    "al. 2022, approach 2). A diamond is its lowest point where that is among the sizes, its bar the 95 % interval.",
    "Intervals cover the scatter of trials about the parabola, seeds included; not the sampling of the validation "
    "period, nor a form other than a parabola.",
)


def isoflop_figures(series: tuple[IsoFlopSeries, ...]) -> Iterator[Plot]:
    """One figure for each horizon with several compute budgets, split where it has more than six groups."""
    for horizon, members in groupby(series, key=lambda one: one.horizon):
        shown = tuple(members)
        for part, start in enumerate(range(0, len(shown), MAX_PANELS), 1):
            name = f"isoflop_h{horizon}" + (f"_{part}" if part > 1 else "")
            yield _figure(name, f"Loss at equal compute, horizon {horizon}", shown[start : start + MAX_PANELS], shown)


def _figure(name: str, title: str, chosen: tuple[IsoFlopSeries, ...], shown: tuple[IsoFlopSeries, ...]) -> Plot:
    budgets = sorted({valley.compute for one in chosen for valley in one.fit.valleys})
    map_ = colormaps["viridis"]
    shades = {one: map_(0.85 * index / max(1, len(budgets) - 1)) for index, one in enumerate(budgets)}
    with drawing.styled():
        figure, axes = drawing.panels(len(chosen), one_loss_axis=True)
        for axis, one in zip(axes, chosen, strict=True):
            for valley in one.fit.valleys:
                _valley(axis, valley, shades[valley.compute])
            size_axis(axis, sorted({round(point.size) for valley in one.fit.valleys for point in valley.points}))
            axis.set_title(drawing.plain(one.group.differing(tuple(other.group for other in shown))))
        handles = [Line2D([], [], color=shades[one], marker="o", label=f"{one:.2g} FLOP") for one in budgets]
        png = drawing.finish(figure, title, handles)
    laws = [formula(one.fit.frontier) for one in chosen if one.fit.frontier is not None]
    alt = f"{title}: {plural(len(budgets), 'compute budget')}" + (f"; best size {'; '.join(laws)}" if laws else "")
    return Plot(name, title, f"{alt}.", CAPTION, png, len(chosen) > 1)


def _valley(axis: Axes, valley: Valley, colour: tuple[float, float, float, float]) -> None:
    sizes = [point.size for point in valley.points]
    axis.plot(sizes, [point.loss for point in valley.points], "o", color=colour, ms=5, zorder=3)
    if valley.parabola is not None:
        along = np.geomspace(min(sizes), max(sizes), 100)
        axis.plot(along, valley.at(along), "-", color=colour, lw=1.4, zorder=2)
    if valley.optimum is not None and valley.loss is not None:
        axis.plot(valley.optimum, valley.loss, "D", mec="white", mfc=colour, ms=9, zorder=5)
        if valley.low is not None and valley.high is not None:
            ends = (max(valley.low, min(sizes) / 2), min(valley.high, max(sizes) * 2))
            axis.hlines(valley.loss, *ends, color=colour, lw=2, zorder=4)
