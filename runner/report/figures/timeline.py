"""Temperature over time: readings, limits, levels, and the trials that ran."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from runner.report.analysis.trials import clean
from runner.report.figures import drawing
from runner.report.figures.drawing import COLOURS, GREY, INK, MAX_PANELS, Plot
from runner.report.wording import plural
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.thermal import telemetry
from trainables.errors import DataError

TITLE = "Temperature"
LEVELS = {"throttle": "#F6E7B4", "hold": "#F2B48C", "release": "#D98CB3", "stop": "#C0504D"}
LIMITS = {"target": (0, (2, 2)), "hold": (0, (5, 3)), "stop": "-"}
GAP_S = 60.0  # a longer silence is shown as one
MAX_BARS = 24  # trials named along the bottom; more could not be read
_Span = tuple[str, datetime, datetime]


def timeline_figures(paths: RunPaths, view: LedgerView) -> Iterator[Plot]:
    """One figure of all devices (split where there are more than six), if temperatures were recorded.

    A file that cannot be read has no figure; `runner.thermal.telemetry.lost` names it.
    """
    try:
        table = telemetry.read(paths.thermal_parquet)
    except (DataError, OSError):
        return
    if table is None or table.empty:
        return
    start = table["time"].min()
    spans = list(_spans(view))
    places = list(table.groupby(["node", "device", "part"], sort=True))
    for part, first in enumerate(range(0, len(places), MAX_PANELS), 1):
        yield _figure(part, places[first : first + MAX_PANELS], spans, start)


def _spans(view: LedgerView) -> Iterator[_Span]:
    """When each trial ran; an attempt without an end lasted until the next one, or the last record."""
    for state in view.current.values():
        starts = [attempt.time for attempt in state.attempts]
        last = state.ended.time if state.ended else state.last_time
        for begin, end in zip(starts, [*starts[1:], last], strict=True) if starts else ():
            if end is not None:
                yield clean(state.cell.name), begin, end


def _figure(part: int, places: Sequence[tuple[object, pd.DataFrame]], spans: list[_Span], start: pd.Timestamp) -> Plot:
    with drawing.styled():
        figure, axes = drawing.panels(len(places), one_loss_axis=False)
        for axis, (_, rows) in zip(axes, places, strict=True):
            _panel(axis, rows.sort_values("time"), spans, start)
        seen = [name for name in LEVELS if any((rows["state"] == name).any() for _, rows in places)]
        png = drawing.finish(figure, TITLE, _legend(seen, bool(spans)))
    highest = pd.concat([rows["celsius"] for _, rows in places]).max()
    known = "no reading" if pd.isna(highest) else f"at most {highest:.0f} Celsius"
    return Plot(
        name="temperature" + (f"_{part}" if part > 1 else ""),
        title=TITLE + (f" ({part})" if part > 1 else ""),
        alt=f"Temperature of {plural(len(places), 'sensor')} over time, {known}.",
        caption=(
            "Readings with their limits; coloured bands show when trials were throttled, held, released or stopped. "
            "Bars along the bottom are trials, from their start to their end.",
            "Held and throttled time is not in any throughput.",
        ),
        png=png,
        wide=len(places) > 1,
    )


def _panel(axis: Axes, rows: pd.DataFrame, spans: list[_Span], start: pd.Timestamp) -> None:
    minutes = ((rows["time"] - start).dt.total_seconds() / 60).to_numpy()
    celsius = rows["celsius"].to_numpy(dtype=float, copy=True)
    celsius[1:][np.diff(minutes) * 60 > GAP_S] = np.nan
    _bands(axis, minutes, rows["state"].tolist())
    axis.plot(minutes, celsius, color=COLOURS[0], lw=1.4, zorder=4)
    latest = rows.iloc[-1]
    for name, style in LIMITS.items():
        axis.axhline(float(latest[name]), color=INK, ls=style, lw=1.0, zorder=3)
        axis.annotate(name, (1.0, float(latest[name])), xycoords=("axes fraction", "data"), fontsize=8, color=GREY)
    low = min(np.nanmin(celsius, initial=float(latest["resume"])), float(latest["resume"]))
    high = max(np.nanmax(celsius, initial=float(latest["stop"])), float(latest["stop"]))
    _trials(axis, spans, start, (low, high))
    axis.set_xlim(0, max(float(minutes[-1]), 0.1))
    axis.set_xlabel("minutes since the first reading")
    axis.set_ylabel("temperature (Celsius)")
    axis.set_title(
        drawing.plain(f"{latest['device']}, {latest['part']} ({latest['sensor']}), node {latest['node'][:8]}")
    )


def _bands(axis: Axes, minutes: np.ndarray, states: list[str]) -> None:
    """Runs of one level, each as a band up to the next row."""
    begin = 0
    for index in range(1, len(states) + 1):
        if index == len(states) or states[index] != states[begin]:
            if states[begin] in LEVELS:
                end = minutes[min(index, len(states) - 1)]
                axis.axvspan(minutes[begin], end, color=LEVELS[states[begin]], lw=0, alpha=0.7, zorder=1)
            begin = index


def _trials(axis: Axes, spans: list[_Span], start: pd.Timestamp, limits: tuple[float, float]) -> None:
    low, high = limits
    margin = 0.06 * (high - low)
    names = list(dict.fromkeys(name for name, _, _ in spans))[:MAX_BARS]
    step = 0.045 * (high - low)
    for name, begin, end in spans:
        if name in names:
            height = low - margin - step * (1 + names.index(name))
            ends = [(pd.Timestamp(moment) - start).total_seconds() / 60 for moment in (begin, end)]
            axis.plot(ends, [height, height], color=COLOURS[2], lw=2.5, solid_capstyle="butt", zorder=3)
    axis.set_ylim(low - margin - step * (len(names) + 1), high + margin)


def _legend(levels: list[str], trials: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [Line2D([], [], color=COLOURS[0], lw=1.4, label="reading")]
    handles += [Patch(color=LEVELS[name], alpha=0.7, label=name) for name in levels]
    if trials:
        handles.append(Line2D([], [], color=COLOURS[2], lw=2.5, label="a trial"))
    return handles
