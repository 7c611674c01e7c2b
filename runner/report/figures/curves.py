"""Learning curves: validation loss by optimizer step."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from runner.report.analysis.trials import Group, Trial
from runner.report.figures import drawing
from runner.report.figures.drawing import MAX_PANELS, Plot
from runner.report.wording import plural, size

TITLE = "Learning curves"
_Panel = tuple[int | None, Group]


def curve_figures(trials: tuple[Trial, ...]) -> Iterator[Plot]:
    """Learning curves of all trials that were evaluated at least once, one panel a horizon and group."""
    shown = [trial for trial in trials if trial.curve]
    places = sorted(dict.fromkeys((trial.horizon, trial.group) for trial in shown), key=lambda place: place[0] or 0)
    for part, start in enumerate(range(0, len(places), MAX_PANELS), 1):
        chosen = places[start : start + MAX_PANELS]
        yield _figure(part, [trial for trial in shown if (trial.horizon, trial.group) in chosen], chosen, places)


def _figure(part: int, trials: list[Trial], chosen: list[_Panel], places: list[_Panel]) -> Plot:
    groups = tuple({group for _, group in places})
    colours = _size_colours(trials)
    with drawing.styled():
        figure, axes = drawing.panels(len(chosen), one_loss_axis=False)
        for axis, (horizon, group) in zip(axes, chosen, strict=True):
            limits = _limits([trial for trial in trials if trial.horizon == horizon])
            _panel(axis, [t for t in trials if (t.horizon, t.group) == (horizon, group)], colours, limits)
            words = f"horizon {plural(horizon or 0, 'bar')}"
            differing = group.differing(groups)
            axis.set_title(drawing.plain(f"{words}, {differing}" if differing else words))
        png = drawing.finish(figure, TITLE, _legend(trials, colours), "parameters")
    return Plot(
        name="learning_curves" + (f"_{part}" if part > 1 else ""),
        title=TITLE + (f" ({part})" if part > 1 else ""),
        alt=f"Validation loss by optimizer step of {plural(len(trials), 'trial')}, coloured by size.",
        caption=(
            "Validation loss at each evaluation, one line per trial, darker for fewer parameters; "
            "a cross marks where a trial diverged. Panels of one horizon share one loss axis.",
            "A trial's reported loss is that of its last evaluation, or of its best with training.judged_epoch: best.",
        ),
        png=png,
        wide=len(chosen) > 1,
    )


def _limits(trials: list[Trial]) -> tuple[float, float]:
    priors = [trial.prior_loss for trial in trials if trial.prior_loss is not None]
    return drawing.loss_range((loss for trial in trials for _, loss in trial.curve), priors)


def _size_colours(trials: list[Trial]) -> dict[int | None, str]:
    """Colours by the rank of the size, from a map made for every colour vision (Nunez et al. 2018)."""
    sizes = sorted({trial.n_params for trial in trials}, key=lambda n: n or 0)
    shades = mpl.colormaps["cividis"](np.linspace(0.0, 0.85, len(sizes)))  # its upper end is too pale on white
    return {n: to_hex(shade) for n, shade in zip(sizes, shades, strict=True)}


def _panel(axis: Axes, trials: list[Trial], colours: dict[int | None, str], limits: tuple[float, float]) -> None:
    drawing.prior_line(axis, (trial.prior_loss for trial in trials if trial.prior_loss is not None))
    for trial in trials:
        steps, losses = zip(*trial.curve, strict=True)
        colour = colours[trial.n_params]
        axis.plot(steps, losses, color=colour, lw=1.3, marker=".", ms=5, alpha=0.85, zorder=3)
        if trial.status == "diverged":
            axis.plot(steps[-1], min(losses[-1], limits[1]), "X", color=colour, ms=9, clip_on=False, zorder=5)
    axis.set_ylim(*limits)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_xlabel("optimizer step")


def _legend(trials: list[Trial], colours: dict[int | None, str]) -> list[Line2D]:
    shown = list(colours.items())
    if len(shown) > 8:  # the ends and the middle are enough to read the order
        shown = [shown[0], shown[len(shown) // 2], shown[-1]]
    handles = [Line2D([], [], color=c, lw=2, label="size unknown" if n is None else size(n)) for n, c in shown]
    if any(trial.prior_loss is not None for trial in trials):
        handles.append(drawing.prior_handle())
    return handles
