"""What a search tried: loss against each key, optimum against size, parallel coordinates, importance of the keys."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from runner.report.analysis.importance import MIN_TRIALS, importances
from runner.report.analysis.tuning import KeyRule
from runner.report.figures import drawing
from runner.report.figures.drawing import GREY, INK, MAX_PANELS, NARROW_INCH, WIDE_INCH, Plot
from runner.report.figures.plots import size_axis
from runner.report.wording import plural, size
from runner.rundir.studies import StudyState, StudyTrial

_MAP = "viridis"  # its darkness rises evenly, so that sizes keep their order with every colour vision and in print
_MOST_SERIES = 6
_FAR = 3.0  # losses further above the best than this many times the middle one are drawn at the edge


def tuning_figures(found: Sequence[StudyState], rules: Sequence[KeyRule]) -> Iterator[Plot]:
    """Figures by series of studies that differ in size alone; at most `_MOST_SERIES` series are drawn."""
    series: dict[str, list[StudyState]] = {}
    for state in found:
        if any(map(_usable, state.trials)):
            series.setdefault(state.series, []).append(state)
    shown = list(series.items())[:_MOST_SERIES]
    left_out = f"{len(series) - len(shown)} further series are not drawn." if len(series) > len(shown) else ""
    for part, (name, members) in enumerate(shown, 1):
        yield _losses(part, name, members, left_out)
    if rules:
        yield _rules(rules)
    for part, (name, members) in enumerate(shown, 1):
        if not members[0].asked.get("ladder") and len(_keys(members)) > 1:
            yield _parallel(part, name, members)
    if weights := {state.asked["name"]: share for state in found if (share := importances(state))}:
        yield _importance(weights)


def _usable(trial: StudyTrial) -> bool:
    return trial.finished and trial.loss is not None and math.isfinite(trial.loss)


def _keys(members: Sequence[StudyState]) -> list[str]:
    return list(dict.fromkeys(dotted for state in members for dotted in state.asked["space"]))


def _colours(members: Sequence[StudyState]) -> dict[int, Any]:
    """A colour a size, from dark to light; the palest end is left out."""
    sizes = sorted({state.asked["budget"] for state in members})
    places = np.linspace(0.0, 0.85, len(sizes)) if len(sizes) > 1 else [0.3]
    return dict(zip(sizes, mpl.colormaps[_MAP](places), strict=True))


def _titled(title: str, series: str) -> str:
    return f"{title}: {series}" if series else title


# ---- loss against each key ------------------------------------------------------------------------------------------


def _losses(part: int, name: str, members: Sequence[StudyState], left_out: str) -> Plot:
    keys, colours, objective = _keys(members)[:MAX_PANELS], _colours(members), members[0].objective
    title = _titled("Loss of searched trials against each key", name)
    tried = [trial.loss for state in members for trial in state.trials if _usable(trial) and trial.loss is not None]
    low, middle = min(tried), float(np.median(tried))
    top = max(loss for loss in tried if loss <= low + _FAR * max(middle - low, 1e-12))
    with drawing.styled():
        label = f"minus {objective.metric}" if objective.higher_is_better else f"{objective.metric}, lower is better"
        figure, axes = drawing.panels(len(keys), one_loss_axis=True, y_label=label)
        for axis, dotted in zip(axes, keys, strict=True):
            for state in members:
                _points(axis, state, dotted, colours[state.asked["budget"]], top)
            _scale(axis, dotted, members)
        margin = 0.06 * max(top - low, 1e-6)
        axes[0].set_ylim(low - margin, top + margin)
        handles = [_handle("o", colour, size(budget)) for budget, colour in colours.items()]
        png = drawing.finish(figure, title, [*handles, _handle("*", INK, "best of its size", 13)])
    caption = (
        "One point a finished trial of the search, coloured by size; a star is the best of its size. All keys vary "
        "together, so that a panel also shows what the other keys did. Open points lie above the axis; pruned and "
        "diverged trials are not drawn.",
        *((left_out,) if left_out else ()),
    )
    alt = f"{title}: {plural(len(tried), 'trial')} at {plural(len(colours), 'size')}, losses from {low:.4f}."
    return Plot(f"search_losses_{part}", title, alt, caption, png, len(keys) > 1)


def _points(axis: Axes, state: StudyState, dotted: str, colour: Any, top: float) -> None:
    best = state.best
    for trial in state.trials:
        if not _usable(trial) or trial.loss is None or not state.varies(trial, dotted):
            continue
        above = trial.loss > top
        place = _place(trial.values[dotted], state.asked["space"][dotted])
        face = "white" if above else colour
        axis.plot(place, min(trial.loss, top), "o", mec=colour, mfc=face, ms=5.5, mew=1.0, alpha=0.9, clip_on=False)
        if best is not None and trial.number == best.number:
            axis.plot(place, trial.loss, "*", mec="white", mfc=colour, ms=15, mew=0.8, zorder=5, clip_on=False)


def _place(value: Any, axis: Mapping[str, Any]) -> float:
    """Where a value is drawn; NaN, which is not drawn, for none of the choices."""
    if "choices" in axis:
        return float(axis["choices"].index(value)) if value in axis["choices"] else math.nan
    return float(value)


def _scale(axis: Axes, dotted: str, members: Sequence[StudyState]) -> None:
    asked = next(state.asked["space"][dotted] for state in members if dotted in state.asked["space"])
    axis.set_xlabel(drawing.plain(dotted))
    if "choices" in asked:
        axis.set_xticks(range(len(asked["choices"])), [drawing.plain(str(one), 16) for one in asked["choices"]])
        axis.set_xlim(-0.5, len(asked["choices"]) - 0.5)
    elif asked["log"]:
        axis.set_xscale("log")
        low, high = axis.dataLim.intervalx
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high < 300 * low else (1.0,)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())


def _handle(marker: str, colour: Any, label: str, ms: float = 7) -> Line2D:
    return Line2D([], [], ls="", marker=marker, mec=colour, mfc=colour, ms=ms, label=label)


# ---- optimum against size -------------------------------------------------------------------------------------------


def _rules(rules: Sequence[KeyRule]) -> Plot:
    shown = rules[:MAX_PANELS]
    title = "Optimum against size"
    with drawing.styled():
        figure, axes = drawing.panels(len(shown), one_loss_axis=False, y_label="best value")
        for axis, one in zip(axes, shown, strict=True):
            _rule(axis, one)
            axis.set_title(drawing.plain(_titled(one.key, one.series), 48))
        point = Line2D([], [], ls="", marker="o", color=INK, ms=6, label="optimum with its 95 % interval")
        png = drawing.finish(figure, title, [point, Line2D([], [], color=INK, lw=1.8, label="rule of the size")])
    words = "; ".join(
        f"{_titled(one.key, one.series)} as N^{one.rule.exponent:.2f} "
        f"[{one.rule.exponent_low:.2f}, {one.rule.exponent_high:.2f}]"
        for one in shown
    )
    caption = (
        f"A point is the optimum at one size. The line is the rule {words}; the band is its 95 % interval, of base and "
        "exponent together. `isotherm rule` prints it.",
        *((f"{len(rules) - len(shown)} further rules are in the table.",) if len(rules) > len(shown) else ()),
    )
    return Plot("search_rules", title, f"{title}: {words}.", caption, png, len(shown) > 1)


def _rule(axis: Axes, one: KeyRule) -> None:
    rule = one.rule
    sizes = [best.size for best in rule.optima]
    for best in rule.optima:
        axis.vlines(best.size, best.low, best.high, color=INK, lw=1.3)
        axis.plot(best.size, best.value, "o", color=INK, ms=6)
    x = np.geomspace(min(sizes), max(sizes), 60)
    away = np.log(x / rule.at)
    middle = np.log(rule.base) + rule.exponent * away
    # The sizes' middle is where base and exponent are uncorrelated, so that their uncertainties add in squares.
    up = np.hypot(
        np.log(rule.base_high / rule.base),
        away * np.where(away > 0, rule.exponent_high - rule.exponent, rule.exponent_low - rule.exponent),
    )
    down = np.hypot(
        np.log(rule.base / rule.base_low),
        away * np.where(away > 0, rule.exponent - rule.exponent_low, rule.exponent_high - rule.exponent),
    )
    axis.fill_between(x, np.exp(middle - down), np.exp(middle + up), color=GREY, alpha=0.2, lw=0)
    axis.plot(x, np.exp(middle), color=INK, lw=1.8)
    axis.set_yscale("log")
    size_axis(axis, [round(n) for n in sorted(sizes)])


# ---- parallel coordinates -------------------------------------------------------------------------------------------


def _parallel(part: int, name: str, members: Sequence[StudyState]) -> Plot:
    """A line per trial through its values; colours are ranks within the study, so that sizes can share a panel."""
    keys = _keys(members)
    title = _titled("Searched trials in parallel coordinates", name)
    ordered = [(rank, state, trial) for state in members for rank, trial in _ranked(state)]
    with drawing.styled():
        figure = drawing.canvas(WIDE_INCH if len(keys) > 3 else NARROW_INCH, 4.2)
        axis = figure.subplots()
        for rank, state, trial in sorted(ordered, key=lambda one: -one[0]):
            heights = [_height(trial.values.get(dotted), state.asked["space"][dotted]) for dotted in keys]
            colour = mpl.colormaps[_MAP](0.9 * rank)
            width = 2.6 if rank == 0 else 1.0
            axis.plot(range(len(keys)), heights, color=colour, lw=width, alpha=0.9, marker="o", ms=3)
        axis.set_xticks(range(len(keys)), [_axis_label(dotted, members) for dotted in keys])
        axis.set_yticks([])
        axis.set_xlim(-0.15, len(keys) - 0.85)
        axis.grid(visible=True, axis="x", color=GREY, lw=1.0)
        axis.spines["left"].set_visible(False)
        png = drawing.finish(figure, title, [])
    caption = (
        "One line a finished trial, from its value of one key to that of the next; each axis runs from the smallest to "
        "the largest value of its range at the trial's size. Dark is good: colours are the rank within a study, and "
        "the best of each study is a thick line. Where thick lines pass through one place, sizes agree.",
    )
    return Plot(
        f"search_parallel_{part}", title, f"{title}: {plural(len(ordered), 'line')}.", caption, png, len(keys) > 3
    )


def _ranked(state: StudyState) -> list[tuple[float, StudyTrial]]:
    """Finished trials with their rank from 0, the best, to 1."""
    known = sorted((trial for trial in state.trials if _usable(trial)), key=lambda trial: (trial.loss, trial.number))
    return [(place / max(1, len(known) - 1), trial) for place, trial in enumerate(known)]


def _height(value: Any, axis: Mapping[str, Any]) -> float:
    """Where a value lies in its range, from 0 to 1; NaN where it was not searched."""
    if value is None:
        return math.nan
    if "choices" in axis:
        return _place(value, axis) / max(1, len(axis["choices"]) - 1)
    scale = math.log if axis["log"] else float
    return (scale(value) - scale(axis["low"])) / (scale(axis["high"]) - scale(axis["low"]))


def _axis_label(dotted: str, members: Sequence[StudyState]) -> str:
    axes = [state.asked["space"][dotted] for state in members]
    if "choices" in axes[0]:
        ends = f"{axes[0]['choices'][0]} to {axes[0]['choices'][-1]}"
    elif all(axis == axes[0] for axis in axes):
        ends = f"{axes[0]['low']:g} to {axes[0]['high']:g}{' (log)' if axes[0]['log'] else ''}"
    else:
        ends = "around the rule (log)"
    return drawing.plain(dotted, 30) + "\n" + drawing.plain(ends, 30)


# ---- importance -----------------------------------------------------------------------------------------------------


def _importance(weights: dict[str, dict[str, float]]) -> Plot:
    title = "Importance of the searched keys"
    keys = list(dict.fromkeys(dotted for share in weights.values() for dotted in share))
    with drawing.styled():
        figure = drawing.canvas(NARROW_INCH, 1.1 + 0.34 * len(weights))
        axis = figure.subplots()
        for row, share in enumerate(reversed(weights.values())):
            for column, dotted in enumerate(keys):
                value = share.get(dotted)
                axis.text(column, row, "-" if value is None else f"{100 * value:.0f} %", ha="center", va="center",
                          color="white" if (value or 0) > 0.55 else INK, fontsize=9)  # fmt: skip
        table = np.array([[share.get(dotted, math.nan) for dotted in keys] for share in reversed(weights.values())])
        axis.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
        axis.set_xticks(range(len(keys)), [drawing.plain(dotted, 26) for dotted in keys])
        axis.set_yticks(range(len(weights)), [drawing.plain(name, 40) for name in reversed(list(weights))])
        axis.grid(visible=False)
        axis.tick_params(length=0)
        png = drawing.finish(figure, title, [])
    caption = (
        f"The share of each key in how the loss varies over its range, by Optuna's fANOVA (Hutter et al. 2014), for "
        f"studies with {MIN_TRIALS} finished trials or more. With few trials it is a rough guide.",
    )
    most = ", ".join(f"{name}: {max(share, key=lambda key: share[key])}" for name, share in weights.items())
    return Plot("search_importance", title, f"{title}. The most important of each study: {most}.", caption, png, False)
