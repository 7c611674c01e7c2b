"""Calibration: how often what was predicted came true, by quantile bins of the predicted probability.

Array names: N windows of a split (of all seeds of one size), T dates, B bins, R resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.special import expit, softmax

from runner.report.analysis.trials import Group, Trial
from runner.report.figures import drawing
from runner.report.figures.drawing import COLOURS, INK, MAX_PANELS, Plot
from runner.report.wording import plural
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.predictions import predictions
from trainables.schema import ResolvedTask, parse_budget
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import PERCENT, Floats, block_length, label_span

TITLE = "Calibration"
MAX_BINS, MIN_BINS = 8, 3
MIN_EFFECTIVE = 20  # effective samples a bin, below which a rate says next to nothing
RESAMPLES = 200
_SHIFT = 0.012  # of the axis: sizes side by side, so that their bars can be distinguished


@dataclass(frozen=True)
class Reliability:
    """One size at one horizon: mean prediction and observed rate of each bin, with the rate's 95 % interval [B]."""

    budget: str
    predicted_B: Floats
    observed_B: Floats
    low_B: Floats
    high_B: Floats

    @property
    def error(self) -> float:
        """Mean distance of the observed rate from the prediction, in which each bin counts the same."""
        return float(np.abs(self.predicted_B - self.observed_B).mean())


_Panel = tuple[int | None, Group, list[Reliability]]


def calibration_figures(paths: RunPaths, view: LedgerView, trials: Sequence[Trial]) -> Iterator[Plot]:
    """Reliability on validation, one panel a horizon and group; none for values or without predictions."""
    members: dict[tuple[int | None, Group], list[Trial]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.budget:
            members.setdefault((trial.horizon, trial.group), []).append(trial)
    panels: list[_Panel] = []
    for (horizon, group), found in sorted(members.items(), key=lambda item: item[0][0] or 0):
        curves = [one for budget in _shown(found) if (one := _of_size(paths, view, budget, found)) is not None]
        if curves:
            panels.append((horizon, group, curves))
    groups = tuple({group for _, group, _ in panels})
    for part, start in enumerate(range(0, len(panels), MAX_PANELS), 1):
        yield _figure(part, panels[start : start + MAX_PANELS], groups)


def _shown(trials: Sequence[Trial]) -> list[str]:
    """Budgets of the smallest, the middle and the largest size: more could not be distinguished."""
    by_size = sorted(trials, key=lambda trial: trial.n_params or 0)
    budgets = list(dict.fromkeys(trial.budget for trial in by_size))
    return budgets if len(budgets) <= 3 else [budgets[0], budgets[len(budgets) // 2], budgets[-1]]


def _of_size(paths: RunPaths, view: LedgerView, budget: str, trials: Sequence[Trial]) -> Reliability | None:
    chosen = [trial for trial in trials if trial.budget == budget]
    task = ResolvedTask.model_validate(view.cells[chosen[0].key].cell.spec["task"])
    if task.outcome == "value":
        return None
    frames = [frame for trial in chosen if (frame := predictions(paths, trial.key, "validation")) is not None]
    if not frames or not len(frames[0]):
        return None
    effective = chosen[0].n_val_effective or len(frames[0])
    bins = int(np.clip(effective // MIN_EFFECTIVE, MIN_BINS, MAX_BINS))
    return reliability(pd.concat(frames), budget=budget, horizon=task.lookahead, bins=bins)


def _answers(frame: pd.DataFrame) -> pd.DataFrame:
    """Date, probability and whether it came true: a row per window, of three classes or more one per class."""
    outputs, label_N = prediction_tables.outputs(frame), frame["label"].to_numpy(dtype=np.float64)
    if outputs.ndim == 1:
        return pd.DataFrame({"date": frame["date"], "probability": expit(outputs), "label": label_N})
    rows = [
        pd.DataFrame({"date": frame["date"], "probability": probability_N, "label": label_N == number})
        for number, probability_N in enumerate(softmax(outputs, axis=1).T)
    ]
    return pd.concat(rows, ignore_index=True)


def reliability(frame: pd.DataFrame, *, budget: str, horizon: int, bins: int) -> Reliability:
    """Reliability of predictions by quantile bins.

    The interval resamples circular blocks of dates (`trainables.training.bootstrap`).

    Args:
        frame: predictions of one or more seeds, with date, label and logit, or a logit for each class.
        budget: names the size that predicted.
        horizon: bars ahead, the least length of a block.
        bins: how many; fewer come out where predictions are equal.
    """
    frame = _answers(frame)
    probability_N = frame["probability"].to_numpy(dtype=np.float64)
    label_N = frame["label"].to_numpy(dtype=np.float64)
    edges = np.unique(np.quantile(probability_N, np.linspace(0, 1, bins + 1)))
    bin_N = np.clip(np.searchsorted(edges, probability_N, side="right") - 1, 0, max(len(edges) - 2, 0))
    _, bin_N = np.unique(bin_N, return_inverse=True)  # interpolated quantiles of few values may enclose none
    dates, date_N = np.unique(frame["date"].to_numpy(), return_inverse=True)
    n_bins, n_dates = int(bin_N.max()) + 1, len(dates)
    place_N = date_N * n_bins + bin_N
    count_TB = np.bincount(place_N, minlength=n_dates * n_bins).reshape(n_dates, n_bins).astype(np.float64)
    hits_TB = np.bincount(place_N, weights=label_N, minlength=n_dates * n_bins).reshape(n_dates, n_bins)
    mean_T = np.bincount(date_N, weights=label_N) / np.bincount(date_N)
    weight_RT = _weights(n_dates, block_length(mean_T, label_span(frame["date"].to_numpy(), horizon)))
    with np.errstate(invalid="ignore"):  # a resample may hold none of a bin
        rate_RB = (weight_RT @ hits_TB) / (weight_RT @ count_TB)
    low_B, high_B = np.nanpercentile(rate_RB, PERCENT, axis=0)
    in_bin_B = count_TB.sum(axis=0)
    predicted_B = np.bincount(bin_N, weights=probability_N) / in_bin_B
    return Reliability(budget, predicted_B, hits_TB.sum(axis=0) / in_bin_B, low_B, high_B)


def _weights(n_dates: int, block: int) -> Floats:
    """How often each date occurs in each resample [R, T]; the same for all trials of one horizon."""
    random = np.random.default_rng(n_dates)
    starts_RK = random.integers(n_dates, size=(RESAMPLES, -(-n_dates // block)))
    taken_RT = ((starts_RK[:, :, None] + np.arange(block)) % n_dates).reshape(RESAMPLES, -1)[:, :n_dates]
    weight_RT = np.zeros((RESAMPLES, n_dates))
    np.add.at(weight_RT, (np.arange(RESAMPLES)[:, None], taken_RT), 1.0)
    return weight_RT


def _figure(part: int, panels: Sequence[_Panel], groups: tuple[Group, ...]) -> Plot:
    budgets = sorted({one.budget for _, _, curves in panels for one in curves}, key=parse_budget)
    looks = {budget: (COLOURS[index % len(COLOURS)], "osD^vP"[index % 6]) for index, budget in enumerate(budgets)}
    with drawing.styled():
        figure, axes = drawing.panels(len(panels), one_loss_axis=False, y_label="observed rate")
        for axis, (horizon, group, curves) in zip(axes, panels, strict=True):
            _panel(axis, curves, looks)
            words = f"horizon {plural(horizon or 0, 'bar')}"
            differing = group.differing(groups)
            axis.set_title(drawing.plain(f"{words}, {differing}" if differing else words))
        png = drawing.finish(figure, TITLE, _legend(looks), "budget")
    errors = [one.error for _, _, curves in panels for one in curves]
    return Plot(
        name="calibration" + (f"_{part}" if part > 1 else ""),
        title=TITLE + (f" ({part})" if part > 1 else ""),
        alt=f"Observed rate by predicted probability in {plural(len(panels), 'panel')}; mean distance from the "
        f"diagonal {min(errors):.3f} to {max(errors):.3f}.",
        caption=(
            "Validation windows in bins of equal count by predicted probability, all seeds of a size together; on the "
            "dashed diagonal what was predicted came true as often as it was said. Of more than three sizes the "
            "smallest, the middle and the largest are shown. Of three classes or more the probability of each counts.",
            "Bars are 95 % intervals by block bootstrap over time. Points are set a little apart so that bars can be "
            "distinguished. A curve flatter than the diagonal is over-confident; a short one hardly separates days.",
        ),
        png=png,
        wide=len(panels) > 1,
    )


def _panel(axis: Axes, curves: Sequence[Reliability], looks: dict[str, tuple[str, str]]) -> None:
    seen = np.concatenate([np.concatenate([c.predicted_B, c.observed_B, c.low_B, c.high_B]) for c in curves])
    low, high = max(float(seen.min()) - 0.03, 0.0), min(float(seen.max()) + 0.03, 1.0)
    axis.plot([low, high], [low, high], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=2)
    middle = (len(curves) - 1) / 2
    for index, one in enumerate(curves):
        colour, marker = looks[one.budget]
        x_B = one.predicted_B + (index - middle) * _SHIFT * (high - low)
        axis.vlines(x_B, one.low_B, one.high_B, color=colour, lw=1.3, alpha=0.7, zorder=3)
        axis.plot(x_B, one.observed_B, color=colour, marker=marker, ms=5, lw=1.2, zorder=4)
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_xlabel("predicted probability")


def _legend(looks: dict[str, tuple[str, str]]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=5, label=name) for name, (colour, marker) in looks.items()
    ]
    return [*handles, Line2D([], [], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label="as predicted")]
