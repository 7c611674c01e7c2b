"""Figures of a search, from studies with planted losses."""

import math
from typing import Any

import numpy as np
import pytest

from runner.report.analysis.importance import importances
from runner.report.analysis.tuning import KeyRule
from runner.report.figures.drawing import Plot
from runner.report.figures.tuning import tuning_figures
from runner.rundir.studies import StudyState, StudyTrial
from runner.scaling.rule import Tried, fit

SPACE: dict[str, dict[str, Any]] = {
    "training.lr": {"low": 1e-5, "high": 1e-1, "log": True, "integer": False},
    "training.weight_decay": {"low": 1e-3, "high": 10.0, "log": True, "integer": False},
    "model.dropout": {"low": 0.0, "high": 0.4, "log": False, "integer": False},
    "model.heads": {"choices": [1, 2, 4]},
}
SIZES = (50_000, 200_000, 1_000_000, 5_000_000)


def study(budget: int, horizon: int, trials: int = 24) -> StudyState:
    rng = np.random.default_rng(budget + horizon)
    found = []
    for number in range(trials):
        lr, decay = 10 ** rng.uniform(-5, -1), 10 ** rng.uniform(-3, 1)
        values = {"training.lr": lr, "training.weight_decay": decay, "model.dropout": rng.uniform(0, 0.4)}
        values["model.heads"] = int(rng.choice([1, 2, 4]))
        loss = 0.52 - 0.01 * math.log10(budget / 5e4) + 0.03 * math.log10(lr / (3e-3 * (budget / 1e6) ** -0.4)) ** 2
        loss += 0.002 * math.log10(decay) ** 2 + 0.001 * rng.normal()
        status = ("finished", "pruned", "diverged")[0 if number % 6 else 1 + number % 2]
        found.append(StudyTrial(number, f"{number:012x}", values, status, loss if number % 6 else math.inf, {}))
    axes = {"budget": f"{budget // 1000}k", "horizon": horizon}
    asked = {"name": f"{budget // 1000}k-h{horizon}", "budget": budget, "axes": axes, "space": SPACE}
    return StudyState({"study": "ab", "metric": "val_loss", **asked}, tuple(found))


@pytest.fixture(scope="module")
def plots() -> dict[str, Plot]:
    found = [study(budget, horizon) for horizon in (1, 5) for budget in SIZES]
    rules = []
    for dotted in ("training.lr", "training.weight_decay"):
        for horizon in (1, 5):
            members = [state for state in found if state.series == f"horizon {horizon}"]
            rule = fit([Tried(float(state.asked["budget"]), *state.tried(dotted)) for state in members])
            assert rule is not None
            rules.append(KeyRule(dotted, f"horizon {horizon}", rule))
    return {plot.name: plot for plot in tuning_figures(found, rules)}


def test_each_series_has_its_losses_and_parallel_coordinates(plots: dict[str, Plot]) -> None:
    assert list(plots) == [
        *("search_losses_1", "search_losses_2", "search_rules"),
        *("search_parallel_1", "search_parallel_2", "search_importance"),
    ]
    assert all(plot.png.startswith(b"\x89PNG") for plot in plots.values())
    assert "80 trials at 4 sizes" in plots["search_losses_1"].alt
    assert "training.lr: horizon 1 as N^-0.4" in plots["search_rules"].alt
    assert "1000k-h5: training.lr" in plots["search_importance"].alt


def test_the_key_that_decides_is_the_most_important() -> None:
    found = importances(study(200_000, 1))
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda key: found[key]) == "training.lr"
    assert importances(study(200_000, 1, trials=6)) == {}


def test_without_studies_there_are_no_figures() -> None:
    assert list(tuning_figures([], [])) == []
