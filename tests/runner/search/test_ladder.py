"""The steps of a ladder, with trials played by a planted loss."""

import math

import pytest

from runner.rundir.studies import StudyState, StudyTrial
from runner.scaling.rule import STEP
from runner.search import ladder
from runner.search.ladder import Rungs
from runner.search.space import Axis

LR, DECAY = "training.lr", "training.weight_decay"
CENTERS = {LR: 1e-3, DECAY: 0.1}
SPACE = {key: Axis(value / STEP**6, value * STEP**6, log=True) for key, value in CENTERS.items()}


def planted(size: float, values: dict[str, float]) -> float:
    """Optima at 3e-3 * (N / 1e5)^-0.5 and, given that rate, a decay of 0.3 at all sizes."""
    lr = math.log10(values[LR] / (3e-3 * (size / 1e5) ** -0.5))
    return 0.5 + 0.03 * lr**2 + 0.01 * math.log10(values.get(DECAY, 0.1) / 0.3) ** 2


def climb(keys: tuple[str, ...], loss=planted, sizes=(10_000, 100_000, 1_000_000), takes=lambda study, values: True):
    """Follow a ladder to its end; returns it with the trials by study."""
    trials: dict[str, list[StudyTrial]] = {str(size): [] for size in sizes}
    while True:
        states = [
            StudyState({"study": str(size), "budget": size, "ladder": list(keys)}, tuple(trials[str(size)]))
            for size in sizes
        ]
        rungs = [Rungs(state, CENTERS, SPACE) for state in states]
        found = ladder.follow(keys, rungs, may_run=lambda key: True, takes=takes)
        if found.study is None or found.values is None:
            return found, trials
        number, value = len(trials[found.study]), loss(float(found.study), found.values)
        status = "finished" if math.isfinite(value) else "diverged"
        trials[found.study].append(StudyTrial(number, f"{number}", found.values, status, value, {}))


def test_a_planted_rule_is_found_with_about_12_trials() -> None:
    found, trials = climb((LR,))
    rule = found.rules[LR]
    assert rule.exponent == pytest.approx(-0.5, abs=0.01)
    assert ladder.at(rule, 1e5) == pytest.approx(3e-3, rel=0.02)
    assert rule.exponent_low < -0.5 < rule.exponent_high
    assert 9 <= sum(map(len, trials.values())) <= 13


def test_a_second_key_is_tried_at_the_rule_of_the_first() -> None:
    found, trials = climb((LR, DECAY))
    assert found.rules[DECAY].exponent == pytest.approx(0, abs=0.02)
    assert ladder.at(found.rules[DECAY], 1e5) == pytest.approx(0.3, rel=0.05)
    for size, tried in trials.items():
        (lr,) = {trial.values[LR] for trial in tried if DECAY in trial.values}
        assert lr == pytest.approx(3e-3 * (float(size) / 1e5) ** -0.5, rel=0.05)


def test_an_optimum_at_the_end_is_refused() -> None:
    found, trials = climb((LR,), lambda size, values: -values[LR])
    assert found.rules is None
    assert "at the end of what was tried (6 values in steps of 3)" in found.refused
    assert sum(map(len, trials.values())) <= 3 * ladder.MOST_RUNGS


def test_values_that_diverge_or_cannot_be_taken_end_a_ladder_there() -> None:
    def loss(size: float, values: dict[str, float]) -> float:
        return math.inf if values[LR] > 2e-3 else -values[LR]

    found, trials = climb((LR,), loss)
    assert ladder.at(found.rules[LR], 1e5) == pytest.approx(1e-3)
    assert all(len(tried) == 3 for tried in trials.values())
    found, trials = climb((LR,), loss, takes=lambda study, values: values[LR] < 2e-3)
    assert ladder.at(found.rules[LR], 1e5) == pytest.approx(1e-3)
    assert all(len(tried) == 2 for tried in trials.values())


def test_the_sizes_of_a_ladder() -> None:
    assert ladder.chosen_sizes([50, 100, 200, 500, 1000, 100]) == (50, 200, 1000)
    assert ladder.chosen_sizes([50, 100]) == (50, 100)
