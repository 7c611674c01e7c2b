"""Throughput and memory by size: what a trial reached, and what the probe had predicted."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from runner.report.analysis.trials import Trial
from runner.report.figures import drawing
from runner.report.figures.drawing import COLOURS, Plot
from runner.report.figures.plots import size_axis
from runner.report.wording import plural, rate

TITLE = "Throughput and memory"
_MIB = 2**20
_LOG_FROM = 10  # largest over smallest value
_DISTORTED, _PREDICTED = "distorted by rests", "predicted by the probe"


def speed_figures(trials: Sequence[Trial]) -> Iterator[Plot]:
    """One figure, if any trial has a rate; colours are devices."""
    known = [trial for trial in trials if trial.samples_per_second and trial.n_params]
    if not known:
        return
    devices = sorted({trial.device or "not recorded" for trial in known})
    colours = {device: COLOURS[index % len(COLOURS)] for index, device in enumerate(devices)}
    measured = [trial for trial in known if trial.peak_bytes]
    with drawing.styled():
        figure, axes = drawing.panels(2 if measured else 1, one_loss_axis=False, y_label="training samples per second")
        _rates(axes[0], known, colours)
        if measured:
            _memory(axes[1], measured, colours)
        png = drawing.finish(figure, TITLE, _legend(known, colours))
    fastest = max(trial.samples_per_second or 0.0 for trial in known)
    highest = f", at most {max(t.peak_bytes or 0 for t in measured) / _MIB:,.0f} MiB" if measured else ""
    yield Plot(
        name="throughput",
        title=TITLE,
        alt=f"Samples per second and peak memory of {plural(len(known), 'trial')} by size: "
        f"at most {rate(fastest)} samples per second{highest}.",
        caption=(
            "Samples per second are over the time in optimizer steps alone: no start-up, evaluation, holding or "
            "throttling. Trials that ran side by side share the machine.",
            "Peak memory is the device's on a GPU and the worker's own on a CPU; an open square is what the probe "
            "predicted for the same micro-batch.",
        ),
        png=png,
        wide=bool(measured),
    )


def _rates(axis: Axes, trials: Sequence[Trial], colours: dict[str, str]) -> None:
    for trial in trials:
        colour = colours[trial.device or "not recorded"]
        face = "white" if trial.marked("throughput distorted") else colour
        axis.plot([trial.n_params or 1], [trial.samples_per_second or 1], "o", mec=colour, mfc=face, ms=6, mew=1.4)
    _axes(axis, trials)


def _memory(axis: Axes, trials: Sequence[Trial], colours: dict[str, str]) -> None:
    for trial in trials:
        colour = colours[trial.device or "not recorded"]
        n = trial.n_params or 1
        axis.plot([n], [(trial.peak_bytes or 0) / _MIB], "o", color=colour, ms=6)
        if trial.predicted_peak_bytes:
            axis.plot([n], [trial.predicted_peak_bytes / _MIB], "s", mec=colour, mfc="none", ms=10, mew=1.4)
    axis.set_ylabel("peak memory (MiB)")
    _axes(axis, trials)


def _axes(axis: Axes, trials: Sequence[Trial]) -> None:
    """Linear from 0, so that lengths can be compared; logarithmic where the range is too long for that."""
    low, high = axis.dataLim.intervaly
    if high > _LOG_FROM * low:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_ylim(0, 1.15 * high)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    size_axis(axis, sorted({trial.n_params for trial in trials if trial.n_params}))


def _legend(trials: Sequence[Trial], colours: dict[str, str]) -> list[Line2D]:
    def mark(marker: str, label: str, colour: str, face: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, mec=colour, mfc=face, ms=7, mew=1.4, label=label)

    handles = [mark("o", drawing.plain(device, 40), colour, colour) for device, colour in colours.items()]
    if any(trial.marked("throughput distorted") for trial in trials):
        handles.append(mark("o", _DISTORTED, "#444444", "white"))
    if any(trial.predicted_peak_bytes for trial in trials):
        handles.append(mark("s", _PREDICTED, "#444444", "none"))
    return handles
