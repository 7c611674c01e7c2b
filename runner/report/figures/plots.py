"""Validation loss against parameters, one figure per horizon."""

from collections.abc import Iterator
from itertools import groupby
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

from runner.report.analysis.trials import Group, Trial
from runner.report.figures import drawing
from runner.report.figures.drawing import COLOURS, MAX_PANELS, MEAN_LINE, Plot
from runner.report.figures.fitted_curves import Overlay
from runner.report.wording import panels_note, plural, size, sizes_note

FITTED = "The solid curve is the fitted power law, the shaded band its 95 % interval; beyond the sizes it says nothing."
OVERVIEW_INCH = 5.4  # fits a phone at a size that can be read
COVERAGE = (
    "Bars are 95 % intervals by block bootstrap over time: they cover the sampling of the validation period. "
    "They cover neither seeds nor other market regimes."
)


def loss_figures(trials: tuple[Trial, ...], overlay: Overlay | None = None) -> Iterator[Plot]:
    """One figure for each horizon with a loss (split where it has more than six groups), by ascending horizon."""
    overlay = overlay or Overlay()
    shown = sorted((trial for trial in trials if _has_place(trial)), key=lambda trial: trial.horizon or 0)
    for horizon, members in groupby(shown, key=lambda trial: trial.horizon):
        at_horizon = tuple(members)
        if not any(trial.status == "finished" for trial in at_horizon):
            continue
        groups = tuple(dict.fromkeys(trial.group for trial in at_horizon))
        for part, start in enumerate(range(0, len(groups), MAX_PANELS), 1):
            name = f"loss_h{horizon}" + (f"_{part}" if part > 1 else "")
            chosen = groups[start : start + MAX_PANELS]
            yield _figure(name, horizon, tuple(t for t in at_horizon if t.group in chosen), chosen, groups, overlay)


def overview_figures(trials: tuple[Trial, ...]) -> Iterator[Plot]:
    """Mean loss against parameters on logarithmic axes, a line for each series; none for a single size."""
    series: dict[tuple[int | None, Group], dict[int, list[float]]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.n_params and (trial.val_loss.value or 0) > 0:
            sizes = series.setdefault((trial.horizon, trial.group), {})
            sizes.setdefault(trial.n_params, []).append(trial.val_loss.value or 0.0)
    shown = sorted(((at, sizes) for at, sizes in series.items() if len(sizes) > 1), key=lambda one: one[0][0] or 0)
    if not shown:
        return
    groups = tuple(dict.fromkeys(group for (_, group), _ in shown))
    drawn, title = shown[: len(COLOURS)], "Validation loss against parameters, both on logarithmic scales"
    with drawing.styled():
        figure = drawing.canvas(OVERVIEW_INCH, 3.6)
        axis = figure.subplots()
        losses = [mean for _, sizes in drawn for mean in map(fmean, sizes.values())]
        for colour, ((horizon, group), sizes) in zip(COLOURS, drawn, strict=False):
            ordered = sorted(sizes)
            means = [fmean(sizes[n]) for n in ordered]
            named = ", ".join(part for part in (f"horizon {horizon}", group.differing(groups)) if part)
            axis.plot(ordered, means, "o-", color=colour, lw=1.8, ms=5, label=drawing.plain(named, 44))
        size_axis(axis, sorted({n for _, sizes in drawn for n in sizes}))
        _loss_axis(axis, losses)
        png = drawing.finish(figure, "", axis.get_legend_handles_labels()[0])
    more = f" {plural(len(shown) - len(drawn), 'further series')} not drawn." if len(shown) > len(drawn) else ""
    caption = (
        "Means over seeds. A power law that goes to 0 is a straight line here; one with an irreducible loss bends "
        f"towards it. The figures below have the single trials and their intervals.{more}",
    )
    yield Plot("overview", title, f"{title}, {plural(len(drawn), 'line')}.", caption, png, wide=False)


def _loss_axis(axis: Axes, losses: list[float]) -> None:
    """A log axis, which is never so short that a few thousandths of a nat look like mountains."""
    axis.set_yscale("log")
    axis.set_ylim(*drawing.loss_range(losses, ()))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))  # as many digits at each tick
    axis.set_ylabel("validation loss (nats, log scale)")


def _has_place(trial: Trial) -> bool:
    """Whether a trial can be marked in a figure: a diverged one has no usable loss, yet must be seen."""
    loss_known = trial.status == "finished" and trial.val_loss.value is not None
    return trial.n_params is not None and (loss_known or trial.status == "diverged")


def _figure(
    name: str,
    horizon: int | None,
    trials: tuple[Trial, ...],
    chosen: tuple[Group, ...],
    groups: tuple[Group, ...],
    overlay: Overlay,
) -> Plot:
    colours = _seed_colours(trials)
    losses = [end for t in trials if t.status == "finished" for end in _ends(t)] + overlay.losses(trials)
    priors = [trial.prior_loss for trial in trials if trial.prior_loss is not None]
    title = f"Validation loss against parameters, horizon {_horizon(horizon, groups)}"
    with drawing.styled():
        figure, axes = drawing.panels(len(chosen), one_loss_axis=True)
        limits = drawing.loss_range(losses, priors)
        for axis, group in zip(axes, chosen, strict=True):
            members = tuple(trial for trial in trials if trial.group == group)
            overlay.draw(axis, members)
            _panel(axis, members, colours, limits)
            axis.set_title(drawing.plain(group.differing(groups)))
        png = drawing.finish(figure, title, [*_legend(trials, colours), *overlay.legend(trials)])
    beyond = any(t.status == "finished" and (t.val_loss.value or limits[0]) > limits[1] for t in trials)
    return Plot(name, title, _alt(title, trials, chosen), _caption(trials, beyond, overlay), png, len(chosen) > 1)


def _horizon(horizon: int | None, groups: tuple[Group, ...]) -> str:
    """``5 bars (daily)``; where timescales differ, the panels name them."""
    timescales = {group.timescale for group in groups}
    return plural(horizon or 0, "bar") + (f" ({timescales.pop()})" if len(timescales) == 1 else "")


def _ends(trial: Trial) -> list[float]:
    return [end for end in (trial.val_loss.value, trial.val_loss.low, trial.val_loss.high) if end is not None]


def _seed_colours(trials: tuple[Trial, ...]) -> dict[int | None, str]:
    """A colour a seed, or one for all where there are more seeds than colours to tell apart."""
    seeds = sorted({trial.seed for trial in trials}, key=lambda seed: -1 if seed is None else seed)
    if len(seeds) > len(COLOURS):
        return dict.fromkeys(seeds, COLOURS[0])
    return dict(zip(seeds, COLOURS, strict=False))


def _panel(axis: Axes, trials: tuple[Trial, ...], colours: dict[int | None, str], limits: tuple[float, float]) -> None:
    finished = [trial for trial in trials if trial.status == "finished"]
    drawing.prior_line(axis, (trial.prior_loss for trial in trials if trial.prior_loss is not None))
    _means(axis, finished)
    order = list(colours)
    for trial in finished:
        _point(axis, trial, colours[trial.seed], order.index(trial.seed), limits)
    for trial in trials:
        if trial.status == "diverged" and trial.n_params is not None:
            axis.plot(trial.n_params, limits[1], "X", color=colours[trial.seed], ms=9, clip_on=False, zorder=6)
    axis.set_ylim(*limits)
    size_axis(axis, sorted({trial.n_params for trial in trials if trial.n_params}))


def _point(axis: Axes, trial: Trial, colour: str, rank: int, limits: tuple[float, float]) -> None:
    """One trial. Several seeds share one place: the later seed's marks are smaller and lie on top."""
    n, loss = trial.n_params, trial.val_loss
    if n is None or loss.value is None:
        return
    if loss.value > limits[1]:
        axis.plot(n, limits[1], "^", color=colour, ms=8, clip_on=False, zorder=6)
        place = (7, 2 - 11 * rank)
        text = f"{loss.value:.2f}"
        axis.annotate(text, (n, limits[1]), place, textcoords="offset points", va="top", color=colour, fontsize=9)
        return
    if loss.low is not None and loss.high is not None:
        end_pt = max(15.0 - 3.0 * rank, 4.0)
        axis.vlines(n, loss.low, loss.high, color=colour, lw=1.3, zorder=3 + 0.1 * rank)
        axis.plot([n, n], [loss.low, loss.high], "_", color=colour, ms=end_pt, mew=1.5, zorder=3 + 0.1 * rank)
    zorder = 5 + 0.1 * rank
    if trial.collapsed:
        axis.plot(n, loss.value, "v", mec=colour, mfc="white", ms=9, mew=1.8, zorder=zorder)
    else:
        axis.plot(n, loss.value, "o", mec="white", mfc=colour, ms=max(9.5 - 1.5 * rank, 4.0), mew=0.7, zorder=zorder)


def _means(axis: Axes, finished: list[Trial]) -> None:
    by_size: dict[int, list[float]] = {}
    for trial in finished:
        if trial.n_params is not None and trial.val_loss.value is not None:
            by_size.setdefault(trial.n_params, []).append(trial.val_loss.value)
    sizes = sorted(by_size)
    means = [sum(by_size[n]) / len(by_size[n]) for n in sizes]
    axis.plot(sizes, means, **MEAN_LINE, zorder=4)


def size_axis(axis: Axes, sizes: list[int]) -> None:
    """Make x a log axis labelled at the sizes themselves, leaving out labels that would touch."""
    axis.set_xscale("log")
    low, high = sizes[0] / 2, sizes[-1] * 2
    axis.set_xlim(low, high)
    ticks = [sizes[0]]
    for n in sizes[1:]:
        if n / ticks[-1] > (high / low) ** 0.09:
            ticks.append(n)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: size(n)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("parameters (total, log scale)")


def _legend(trials: tuple[Trial, ...], colours: dict[int | None, str]) -> list[Line2D]:
    def mark(colour: str, marker: str, label: str, face: str | None = None, size_pt: float = 6.5) -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=colour, mfc=face or colour, mew=1.6, ms=size_pt, label=label)

    if len(set(colours.values())) == len(colours):
        handles = [mark(colour, "o", f"seed {seed}") for seed, colour in colours.items()]
    else:
        handles = [mark(COLOURS[0], "o", "one trial")]
    handles.append(Line2D([], [], **{**MEAN_LINE, "ms": 7}, label="mean over seeds"))
    if any(trial.prior_loss is not None for trial in trials):
        handles.append(drawing.prior_handle())
    if any(trial.status == "finished" and trial.collapsed for trial in trials):
        handles.append(mark("#444444", "v", "collapsed", face="white", size_pt=9))
    if any(trial.status == "diverged" for trial in trials):
        handles.append(mark("#444444", "X", "diverged (no loss)", size_pt=9))
    return handles


def _caption(trials: tuple[Trial, ...], beyond: bool, overlay: Overlay) -> tuple[str, ...]:
    effective = sorted({trial.n_val_effective for trial in trials if trial.n_val_effective is not None})
    lines = [
        "One point per trial; seeds share one place, so later ones are drawn smaller, for no other reason. "
        "The dotted line joins means over the seeds of finished trials, collapsed ones included.",
        COVERAGE,
        FITTED if overlay.fitted(trials) else sizes_note(trials),
        *panels_note(trials),
    ]
    if beyond:
        lines.append("An upright triangle with a number marks a loss above the axis.")
    if effective:
        samples = f"{effective[0]:,}" if len(effective) == 1 else f"{effective[0]:,} to {effective[-1]:,}"
        lines.append(f"Effective validation samples: {samples}.")
    return tuple(lines)


def _alt(title: str, trials: tuple[Trial, ...], chosen: tuple[Group, ...]) -> str:
    sizes = sorted({trial.n_params for trial in trials if trial.n_params})
    losses = [trial.val_loss.value for trial in trials if trial.status == "finished" and trial.val_loss.value]
    text = f"{title}: {plural(len(trials), 'trial')} in {plural(len(chosen), 'panel')}, {size(sizes[0])} to "
    text += f"{size(sizes[-1])} parameters"
    return text + (f", losses {min(losses):.4f} to {max(losses):.4f} nats." if losses else ", no finished trial.")
