"""The block `search` of a sweep file: what it takes, and what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.search_space import higher_is_better
from runner.config.sweep_file import load
from runner.rundir import studies
from runner.rundir.ledger import CellEnded, CellRecorded, CellState
from runner.search.space import axes_of
from trainables.errors import ConfigError

RULE = ("lr: 1.0e-3", "lr: {base: 1.0e-3, at: 20k, exponent: -0.5}")


def problems(sweep_file: Callable[..., Path], block: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(sweep_file(append=f"search: {block}\n"), overrides, tracking=False)
    return "\n".join(f"{one.place}: {one.message}. {one.fix}" for one in caught.value.problems)


def test_a_space_is_worked_out_at_each_budget(sweep_file) -> None:
    block = "{space: {training.lr: {around: rule, factor: 10}, training.global_batch: {low: 32, high: 256, log: true}}}"
    path = sweep_file(RULE, ("budget: [20k]", "budget: [20k, 80k]"), append=f"search: {block}\n")
    loaded = load(path, tracking=False)
    spaces = [axes_of(loaded.settings.search.space, variant) for variant in loaded.variants]  # type: ignore[union-attr]
    assert [(space["training.lr"].low, space["training.lr"].high) for space in spaces] == [(1e-4, 1e-2), (5e-5, 5e-3)]
    assert not spaces[0]["training.lr"].integer
    assert spaces[0]["training.global_batch"].integer


def test_a_condition_on_what_the_sweep_file_fixes_leaves_a_key_out_or_in(sweep_file) -> None:
    block = (
        "{space: {training.lr: {low: 1.0e-4, high: 1.0e-2}, "
        "model.dropout: {low: 0, high: 0.4, when: {model.name: patchtst}}, "
        "training.clip: {low: 1, high: 2, when: {model.name: mlp}}}}"
    )
    loaded = load(sweep_file(append=f"search: {block}\n"), ["model.name=patchtst"], tracking=False)
    found = axes_of(loaded.settings.search.space, loaded.variants[0])  # type: ignore[union-attr]
    assert set(found) == {"training.lr", "model.dropout"}


def test_whole_bounds_of_a_number_with_fractions_do_not_make_it_whole(sweep_file) -> None:
    loaded = load(sweep_file(append="search: {space: {training.weight_decay: {low: 0, high: 1}}}\n"), tracking=False)
    axis = axes_of(loaded.settings.search.space, loaded.variants[0])["training.weight_decay"]  # type: ignore[union-attr]
    assert not axis.integer


def test_a_factor_that_leaves_one_whole_number_is_refused(sweep_file) -> None:
    block = "{space: {model.depth: {around: rule, factor: 1.4}}}"
    loaded = load(sweep_file(append=f"search: {block}\n"), ["model.depth=1"], tracking=False)
    with pytest.raises(ConfigError, match="leaves one whole number, 1") as caught:
        axes_of(loaded.settings.search.space, loaded.variants[0])  # type: ignore[union-attr]
    assert caught.value.problems[0].place == "search.space.model.depth"


def test_a_key_of_the_space_can_be_overridden(sweep_file) -> None:
    path = sweep_file(append="search: {space: {training.lr: {low: 1.0e-4, high: 1.0e-2}}}\n")
    loaded = load(path, ["search.space.model.dropout={choices: [0.0, 0.5]}"], tracking=False)
    assert set(loaded.settings.search.space) == {"training.lr", "model.dropout"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{space: {training.lrr: {low: 1, high: 2}}}", "no key 'training.lrr'. did you mean 'training.lr'"),
        ("{space: {training.lr: {low: 2, high: 1}}}", "low 2 is not below high 1"),
        ("{space: {training.lr: {low: 0, high: 1, log: true}}}", "no logarithm"),
        ("{space: {training.lr: {low: -1, high: 1}}}", "must be above 0 (got -1.0)"),
        ("{space: {model.dropout: {choices: [0.1, lots]}}}", "(got 'lots')"),
        ("{space: {model.dropout: {choices: [0.1]}}}", "at least 2 entries"),
        ("{space: {task.horizon: {choices: [1, 5]}}}", "changes what is judged"),
        ("{space: {training.seed: {choices: [1, 5]}}}", "changes what is judged"),
        ("{space: {model.name: {around: rule}}}", "no value above 0 to search around"),
        ("{space: {training.lr: {low: 1, high: 2}}, seed: 0}", "is a seed that confirms"),
        ("{space: {training.lr: {low: 1, high: 2}}, metric: selection_loss}", "needs a part of validation"),
        ("{space: {training.lr: {low: 1, high: 2}}, sampler: best}", "'tpe', 'random', 'qmc', 'grid' or 'gp'"),
        ("{space: {training.lr: {low: 1, high: 2}}, transfer: true}", "give grid.budget 3 or more"),
        ("{space: {training.lr: {low: 1, high: 2}}, transfer: true}", "give a range of search.space log: true"),
        ("{space: {training.lr: {low: 1, high: 2}}, transfer: true, sampler: grid}", "no place to start at"),
        ("ladder", "a ladder takes 3 sizes; there are 1"),
        ("{ladder: [training.lrr]}", "no key 'training.lrr'. did you mean 'training.lr'"),
        ("{ladder: [training.lr], sampler: gp, trials: 5}", "a ladder has no trials, sampler"),
        ("{ladder: [training.lr], space: {training.lr: {low: 1, high: 2}}}", "give one of space and ladder"),
        (
            "{space: {training.lr: {low: 1, high: 2, when: {model.drop: 0.1}}}}",
            "when names no key 'model.drop'. did you mean 'model.dropout'",
        ),
        (
            "{space: {training.lr: {low: 1, high: 2, when: {model.dropout: 3}}, model.dropout: {choices: [0.1, 0.2]}}}",
            "which it never is. name one of 0.1, 0.2",
        ),
        (
            "{space: {training.lr: {low: 1, high: 2, when: {model.dropout: 3}}, model.dropout: {low: 0, high: 1}}}",
            "not one of several choices",
        ),
        ("{space: {}}", "give one of space and ladder"),
        ("{space: {training.lr: {low: 1, high: 2}}, metric: val_lift}", "'val_lift' is a number of no trial"),
        ("{space: {training.lr: {low: 1, high: 2}}, metric: loss}", "search.metric"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(sweep_file, block: str, message: str) -> None:
    found = problems(sweep_file, block)
    assert message in found
    assert "sweep.yaml:" in found


def test_a_searched_key_cannot_be_an_axis(sweep_file) -> None:
    block = "{space: {training.lr: {low: 1.0e-4, high: 1.0e-2}}}"
    assert "is an axis of grid, too" in problems(sweep_file, block, "grid.training.lr=[0.1, 0.2]")


def test_any_metric_of_the_sweep_can_be_searched_for_and_knows_its_way(sweep_file) -> None:
    def loaded(metric: str, *more: str):
        overrides = [f"search={{space: {{model.dropout: {{choices: [0.1, 0.2]}}}}, metric: {metric}}}", *more]
        return load(sweep_file(), overrides, tracking=False).settings

    top = "metrics=[{name: lift, top: 0.1, label: lift10}, ece]"
    assert higher_is_better(loaded("val_lift10", top))
    assert not higher_is_better(loaded("val_ece", top))
    assert not higher_is_better(loaded("val_loss_platt", "task.calibrate=platt"))
    ways = {"val_loss": False, "val_auc": True, "val_ap": True, "val_brier": False, "skill": True}
    assert {name: higher_is_better(loaded(name)) for name in ways} == ways
    with pytest.raises(ConfigError, match="known at the end of a trial alone"):
        loaded("val_ece", top, "search.pruner=median")


def test_a_metric_of_the_sweep_ranks_trials_as_its_study_says() -> None:
    recorded = CellRecorded(key="0" * 12, name="x", labels={}, sizes={}, spec={})
    ended = CellEnded(key="0" * 12, attempt=1, status="finished", result={"metric:val_lift10": 1.5, "val_loss": 0.6})
    known = CellState(recorded, ended=ended)
    asked = {"metric": "val_lift10", "higher_is_better": True}
    assert studies.loss(known, studies.Objective.of(asked)) == -1.5
    assert studies.loss(known, studies.Objective.of({"metric": "val_loss"})) == 0.6
    assert studies.Objective.of({"metric": "val_auc"}).higher_is_better, "a ledger of before"
