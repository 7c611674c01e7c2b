"""Where the time went: a bar an attempt, split into its parts, above the number of trials at work."""

from collections.abc import Iterator
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from runner.report.analysis.attempts import (
    EVALUATION,
    HELD,
    OTHER,
    PARTS,
    START_UP,
    THROTTLED,
    TRAINING,
    Attempt,
    History,
    Session,
)
from runner.report.figures import drawing
from runner.report.figures.drawing import COLOURS, GREY, Plot
from runner.report.tables import Column, ReportTable
from runner.report.wording import duration, number, plural

TITLE = "Where the time went"
_COLOURS = {
    START_UP: COLOURS[5],
    TRAINING: COLOURS[0],
    EVALUATION: COLOURS[4],
    HELD: COLOURS[1],
    THROTTLED: COLOURS[3],
    OTHER: "#BDBDBD",
}
_ROW_INCH = 0.19
_MAX_ROWS_INCH = 11.0  # beyond it rows get thinner, and only some are named
_STRIP_INCH = 1.1
_FRAME_INCH = 1.7  # title, axis labels, legend
_NAMES_AN_INCH = 6.0


def gantt_figures(history: History) -> Iterator[Plot]:
    """One figure, if anything ran."""
    if not history.attempts:
        return
    keys = list(dict.fromkeys(one.key for one in history.attempts))
    yield Plot(
        name="time",
        title=TITLE,
        alt=f"Bars over time for {plural(len(keys), 'trial')}, at most {history.slots} at once: {_words(history)}.",
        caption=(
            "One row per trial or baseline, one bar an attempt, the first start on top. Within a bar the parts are put "
            "one behind the other: their lengths are as recorded, their order beyond the start-up is not known.",
            f"The strip below counts what ran at once, {history.slots} at the most: where it is less, a slot was idle, "
            "for the probe, for want of work, or because some trials need more room. Time in which no driver ran is "
            "cut out, and a dotted line marks the cut.",
        ),
        png=_draw(history, keys),
        wide=True,
    )


def time_table(history: History) -> ReportTable:
    """Seconds of each part and their share of the time of all slots."""
    columns = (Column("part"), Column("time", "number"), Column("share of the slots' time (%)", "number"))
    parts = {**history.totals, "idle": history.idle_seconds}
    total = sum(parts.values())
    rows = ((part, duration(value), number(100 * value / total, 1)) for part, value in parts.items() if value > 0)
    return ReportTable(TITLE, columns, tuple(rows) if total else ())


def _words(history: History) -> str:
    totals = {**history.totals, "idle": history.idle_seconds}
    return ", ".join(f"{part} {duration(value)}" for part, value in totals.items() if value > 0)


def _draw(history: History, keys: list[str]) -> drawing.Picture:
    rows_inch = min(_ROW_INCH * len(keys) + 0.2, _MAX_ROWS_INCH)
    clock = _Clock(history.sessions)
    with drawing.styled():
        figure = drawing.canvas(drawing.WIDE_INCH, rows_inch + _STRIP_INCH + _FRAME_INCH)
        rows, strip = figure.subplots(2, 1, sharex=True, height_ratios=[rows_inch, _STRIP_INCH])
        _rows(rows, history, keys, clock, 72 * 0.72 * rows_inch / max(len(keys), 1))
        _strip(strip, history, clock)
        for axis in (rows, strip):
            for cut in clock.cuts:
                axis.axvline(cut, color=GREY, linestyle=":", linewidth=1.2, zorder=4)
        strip.set_xlim(0, max(clock.length, 1e-9))
        strip.set_xlabel(f"{clock.unit} since the first start")
        seen = [part for part in PARTS if history.totals[part] > 0]
        return drawing.finish(figure, TITLE, [Patch(color=_COLOURS[part], label=part) for part in seen])


class _Clock:
    """Time since the first start, without the time in which no driver ran, in a unit that suits the whole."""

    def __init__(self, sessions: tuple[Session, ...]) -> None:
        self._sessions = sessions
        seconds = sum(one.seconds for one in sessions)
        scales = ((172_800, 86_400, "days"), (7_200, 3600, "hours"), (300, 60, "minutes"), (0, 1, "seconds"))
        _, self._scale, self.unit = next(scale for scale in scales if seconds >= scale[0])
        self.length = seconds / self._scale
        self._offsets = [sum(one.seconds for one in sessions[:index]) for index in range(len(sessions))]
        self.cuts = [offset / self._scale for offset in self._offsets[1:]]

    def __call__(self, moment: datetime) -> float:
        for session, offset in zip(reversed(self._sessions), reversed(self._offsets), strict=True):
            if moment >= session.start:
                inside = min((moment - session.start).total_seconds(), session.seconds)
                return (offset + inside) / self._scale
        return 0.0

    def width(self, seconds: float) -> float:
        """A length on the axis."""
        return seconds / self._scale


def _rows(axis: Axes, history: History, keys: list[str], clock: _Clock, width_pt: float) -> None:
    places = {key: row for row, key in enumerate(keys)}
    for part in PARTS:
        bars = [_bar(one, part, clock) for one in history.attempts if one.seconds[part] > 0]
        heights = [places[one.key] for one in history.attempts if one.seconds[part] > 0]
        if bars:
            lefts, rights = zip(*bars, strict=True)
            axis.hlines(heights, lefts, rights, color=_COLOURS[part], lw=width_pt, zorder=3)
    names = {one.key: one.name for one in history.attempts}
    every = max(1, -(-len(keys) // int(_MAX_ROWS_INCH * _NAMES_AN_INCH)))
    axis.set_yticks(range(0, len(keys), every), [drawing.plain(names[key], 24) for key in keys[::every]], fontsize=8)
    axis.set_ylim(len(keys) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="x", labelbottom=False)


def _bar(one: Attempt, part: str, clock: _Clock) -> tuple[float, float]:
    before = sum(one.seconds[earlier] for earlier in PARTS[: PARTS.index(part)])
    left = clock(one.start) + clock.width(before)
    return left, left + clock.width(one.seconds[part])


def _strip(axis: Axes, history: History, clock: _Clock) -> None:
    moments = [clock.width(0.0)]
    counts = [0]
    for moment, running in history.running():
        moments.append(clock(moment))
        counts.append(running)
    axis.fill_between([*moments, clock.length], [*counts, 0], step="post", color=GREY, alpha=0.55, lw=0, zorder=3)
    axis.axhline(history.slots, color=GREY, linestyle=(0, (5, 3)), linewidth=1.0)
    axis.set_ylim(0, history.slots * 1.15)
    axis.set_yticks([0, history.slots])
    axis.set_ylabel("at work")
