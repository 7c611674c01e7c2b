"""Suggestions: pure functions of seed, study, number and history, by real Optuna."""

import math

import pytest

from runner.rundir.studies import StudyTrial
from runner.search import sampling
from runner.search.space import Axis

SPACE = {
    "training.lr": Axis(1e-4, 1e-1, log=True),
    "model.dropout": Axis(choices=(0.0, 0.1, 0.2)),
    "training.global_batch": Axis(32, 512, log=True, integer=True),
}


def lost(number: int, values: dict[str, object], **changes: object) -> StudyTrial:
    """A trial with a planted optimum at lr 1e-2."""
    loss = abs(math.log10(float(values["training.lr"]) / 1e-2))  # type: ignore[arg-type]
    known = {"status": "finished", "loss": loss, "curve": {1: loss}, **changes}
    return StudyTrial(number, f"{number:012x}", values, **known)  # type: ignore[arg-type]


def searched(sampler: str, trials: int, seed: int = 7, known: int = 0, space=SPACE) -> list[StudyTrial]:
    """A whole study with one worker; a driver that knows `known` trials goes on from them."""
    history: list[StudyTrial] = []
    for number in range(trials):
        values = sampling.suggest(space, history, number=number, sampler=sampler, seed=seed, study="ab")  # type: ignore[arg-type]
        history.append(lost(number, values))
    return history


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid", "gp"])
def test_values_lie_in_the_space_and_follow_from_the_history_alone(sampler: str) -> None:
    trials = searched(sampler, 6 if sampler == "gp" else 14)
    for number in (3, len(trials) - 1):  # as after a kill: nothing is left but the trials before
        again = sampling.suggest(SPACE, trials[:number], number=number, sampler=sampler, seed=7, study="ab")  # type: ignore[arg-type]
        assert again == trials[number].values
    for trial in trials:
        assert 1e-4 <= trial.values["training.lr"] <= 1e-1
        assert trial.values["model.dropout"] in (0.0, 0.1, 0.2)
        assert isinstance(trial.values["training.global_batch"], int)
        assert 32 <= trial.values["training.global_batch"] <= 512
    assert len({repr(trial.values) for trial in trials}) == len(trials)


def test_another_seed_and_another_study_give_other_values() -> None:
    one = sampling.suggest(SPACE, [], number=0, sampler="random", seed=1, study="ab")
    assert sampling.suggest(SPACE, [], number=0, sampler="random", seed=2, study="ab") != one
    assert sampling.suggest(SPACE, [], number=0, sampler="random", seed=1, study="cd") != one
    assert sampling.suggest(SPACE, [], number=0, sampler="random", seed=1, study="ab", again=1) != one


def test_tpe_beats_random_in_the_median_over_20_seeds() -> None:
    space = {"training.lr": Axis(1e-6, 1.0, log=True)}
    tpe, random = (
        sorted(min(trial.loss for trial in searched(name, 25, seed, space=space)) for seed in range(20))  # type: ignore[type-var]
        for name in ("tpe", "random")
    )
    assert (tpe[9] + tpe[10]) < (random[9] + random[10])


def test_a_grid_takes_every_point_once() -> None:
    space = {"training.lr": Axis(1e-3, 1e-1, log=True, points=3), "model.dropout": Axis(choices=(0.0, 0.1))}
    found = [trial.values for trial in searched("grid", sampling.grid_size(space), space=space)]
    assert [value["training.lr"] for value in found] == pytest.approx([1e-3, 1e-3, 1e-2, 1e-2, 1e-1, 1e-1])
    assert len({repr(value) for value in found}) == 6


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_pruned_diverged_and_running_trials_are_part_of_the_history(sampler: str) -> None:
    trials = searched("random", 6)
    trials[1] = lost(1, trials[1].values, status="pruned", curve={1: 0.9, 2: 0.8})
    trials[2] = lost(2, trials[2].values, status="diverged", loss=math.inf, curve={})
    trials[3] = lost(3, trials[3].values, status="running", loss=None, curve={})
    values = sampling.suggest(SPACE, trials, number=6, sampler=sampler, seed=7, study="ab")  # type: ignore[arg-type]
    assert set(values) == set(SPACE)
    alone = [lost(0, trials[0].values, status="running", loss=None, curve={})]
    assert sampling.suggest(SPACE, alone, number=1, sampler=sampler, seed=7, study="ab")  # type: ignore[arg-type]
