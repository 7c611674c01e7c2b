"""Figures: which are drawn, what their axes hold, what their captions admit."""

import dataclasses
import io

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.report.analysis.collect import collect
from runner.report.figures import drawing
from runner.report.figures.curves import curve_figures
from runner.report.figures.plots import loss_figures

LOSSES = st.lists(st.floats(-5, 5), max_size=20)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@settings(deadline=None)
@given(LOSSES, st.floats(-5, 5))
def test_a_loss_axis_holds_the_prior_and_every_loss_that_is_not_far_above_it(losses: list[float], prior: float) -> None:
    low, high = drawing.loss_range(losses, [prior])
    assert low < prior < high
    assert all(low < loss for loss in losses)
    assert all(loss < high for loss in losses if loss <= prior + drawing.EDGE_FLOOR_NATS)
    assert high - low >= drawing.MIN_SPAN_NATS


def test_a_loss_axis_does_not_exaggerate_small_differences() -> None:
    low, high = drawing.loss_range([0.5601, 0.5603], [0.5602])
    assert high - low > 100 * 0.0002


def test_a_loss_axis_is_not_stretched_by_an_outlier() -> None:
    assert drawing.loss_range([0.50, 0.55, 40.0], [0.56]) == drawing.loss_range([0.50, 0.55], [0.56])


def test_the_law_and_the_mean_over_seeds_are_told_apart_without_colour() -> None:
    assert drawing.LAW_LINE["linestyle"] != drawing.MEAN_LINE["linestyle"]
    assert drawing.LAW_LINE["linewidth"] > 1.5 * drawing.MEAN_LINE["linewidth"]
    assert "marker" not in drawing.LAW_LINE


def test_one_figure_a_horizon_in_ascending_order(run) -> None:
    cells = [*run.grid(["50k", "1m"], [5, 1, 10]), *run.grid(["50k"], [30], fate="infeasible")]
    plots = list(loss_figures(collect(run(cells)).trials))
    assert [plot.name for plot in plots] == ["loss_h1", "loss_h5", "loss_h10"]
    assert plots[1].title == "Validation loss against parameters, horizon 5 bars (daily)"
    assert not any(plot.wide for plot in plots)


def test_groups_have_panels_of_their_own_and_too_many_go_on_in_another_figure(run) -> None:
    cells = [cell for i in range(7) for cell in run.grid(["50k", "1m"], axes={"training.lr": i})]
    plots = list(loss_figures(collect(run(cells)).trials))
    assert [plot.name for plot in plots] == ["loss_h1", "loss_h1_2"]
    assert "6 panels" in plots[0].alt
    assert "1 panel," in plots[1].alt


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        (["50k", "1m", "2m"], "3 distinct sizes cannot identify a scaling law (at least 5 are needed)"),
        (["50k", "100k", "200k", "1m", "2m"], "No curve is drawn through the 5 sizes"),
    ],
)
def test_captions_say_what_intervals_cover_and_that_nothing_is_fitted(run, budgets: list[str], said: str) -> None:
    (plot,) = loss_figures(collect(run(run.grid(budgets, [5]))).trials)
    caption = " ".join(plot.caption)
    assert said in caption
    assert "95 % intervals by block bootstrap over time" in caption
    assert "neither seeds nor other market regimes" in caption
    assert "Effective validation samples: 137." in caption


def test_a_loss_above_the_axis_is_said(run) -> None:
    cells = [*run.grid(["50k", "1m"]), run.cell("2m", loss=3.0)]
    (plot,) = loss_figures(collect(run(cells)).trials)
    assert any("above the axis" in sentence for sentence in plot.caption)


@pytest.mark.parametrize("change", [{"collapsed": True}, {"status": "diverged"}])
def test_collapsed_and_diverged_trials_look_different(run, change: dict) -> None:
    trials = collect(run(run.grid(["50k", "200k", "1m"], loss=0.55))).trials
    changed = (*trials[:-1], dataclasses.replace(trials[-1], **change))
    (plain,), (marked,) = loss_figures(trials), loss_figures(changed)
    assert not np.array_equal(pixels(plain.png), pixels(marked.png))


def test_a_figure_shows_every_seed_in_its_colour(run) -> None:
    (plot,) = loss_figures(collect(run(run.grid(["50k", "1m"], seeds=[0, 1, 2]))).trials)
    picture = pixels(plot.png)
    for colour in drawing.COLOURS[:3]:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (picture == wanted).all(axis=2).sum() > 100
    others = np.array([int(drawing.COLOURS[3][i : i + 2], 16) for i in (1, 3, 5)])
    assert not (picture == others).all(axis=2).any()


def test_horizons_without_a_loss_have_no_figure(run) -> None:
    cells = [run.cell("50k", 1, fate="diverged"), run.cell("50k", 2, fate="running"), run.cell("1m", 3, fate="waiting")]
    trials = collect(run(cells)).trials
    assert list(loss_figures(trials)) == []
    (curves,) = curve_figures(trials)
    assert "2 trials" in curves.alt


def test_odd_names_are_drawn_as_they_are(run) -> None:
    """Half a formula, a glyph that the font lacks, a line break: none may warn or fail."""
    cells = [cell for odd in (run.evil, r"$\frac{", "x" * 300) for cell in run.grid(["50k"], axes={"a.b": odd})]
    trials = collect(run(cells)).trials
    assert len([*loss_figures(trials), *curve_figures(trials)]) == 2
    assert drawing.plain("a $x$ 漢") == r"a \$x\$ ?"
    assert len(drawing.plain("x" * 300)) == 70


def test_figures_are_repeatable_and_ignore_and_keep_the_users_style(run) -> None:
    trials = collect(run(run.grid(["50k", "1m"]))).trials
    (before,) = loss_figures(trials)
    with mpl.rc_context({"font.size": 30, "savefig.bbox": "tight", "axes.facecolor": "red", "text.usetex": True}):
        (after,) = loss_figures(trials)
        assert mpl.rcParams["font.size"] == 30
    assert before.png == after.png
