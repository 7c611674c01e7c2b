"""The heat map: which cells it has, and what stands in them."""

import dataclasses

from runner.report.analysis.collect import collect
from runner.report.analysis.trials import Estimate, Trial
from runner.report.figures.heatmap import _AUC, _SKILL, _Map, heat_figures


def baseline(near: Trial, model: str, auc: float) -> Trial:
    group = dataclasses.replace(near.group, model=model)
    return dataclasses.replace(near, key=model, kind="baseline", budget="", group=group, auc=Estimate(auc))


def test_cells_are_means_over_seeds_and_words_where_there_is_no_result(run) -> None:
    cells = [
        *run.grid(["50k", "1m"], [1], [0, 1]),
        *run.grid(["50k"], [30], fate="infeasible"),
        run.cell("1m", 30, fate="out_of_memory"),
        run.cell("2m", 1, fate="collapsed"),
    ]
    trials = collect(run(cells)).trials
    one = _Map.of(_SKILL, trials[0].group, trials, [baseline(trials[0], "linear", 0.7)])
    assert one.rows == ("linear", "50k", "1m", "2m")
    assert one.horizons == (1, 30)
    skills = [trial.skill.value for trial in trials if (trial.budget, trial.horizon) == ("50k", 1)]
    assert one.cells["50k", 1].value == 100 * sum(skills) / 2
    assert one.cells["50k", 1].text.startswith("+")
    assert "\n[" in one.cells["50k", 1].text
    assert one.cells["50k", 30].text == "infeasible"
    assert one.cells["1m", 30].text == "out of memory"
    assert one.cells["2m", 30].text == "\N{EN DASH}"
    assert "*" in one.cells["2m", 1].text
    assert "*" not in one.cells["1m", 1].text
    assert (
        _Map.of(_AUC, trials[0].group, trials, [baseline(trials[0], "linear", 0.7)]).cells["linear", 1].text == "0.700"
    )


def test_groups_are_rows_of_panels_and_many_go_on_in_another_figure(run) -> None:
    cells = [cell for rate in range(4) for cell in run.grid(["50k", "1m"], [1, 5], axes={"training.lr": rate})]
    plots = list(heat_figures(collect(run(cells)).trials, ()))
    assert [plot.name for plot in plots] == ["heat_map", "heat_map_2"]
    assert "6 panels" in plots[0].alt
    assert "skill (%)" in plots[1].alt


def test_regression_has_skill_alone_and_a_run_without_results_nothing(run) -> None:
    trials = collect(run(run.grid(["50k", "1m"], range(1, 8)))).trials
    (plot,) = heat_figures([dataclasses.replace(trial, auc=Estimate()) for trial in trials], ())
    assert "7 panels" not in plot.alt
    assert "AUC 0" not in plot.alt
    waiting = collect(run.at("waiting", [run.cell("50k", fate="waiting")])).trials
    assert list(heat_figures(waiting, ())) == []
