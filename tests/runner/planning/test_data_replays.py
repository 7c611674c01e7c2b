"""What went wrong for others, on generated bars with known faults, through `plan` and `sweep` as a user meets them."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from runner.config import sweep_file
from runner.planning import grid
from runner.planning import plan as planning
from runner.planning.checks import CheckFinding
from runner.terminal import plan as terminal
from runner.terminal.console import Console
from trainables.data import catalog, windows
from trainables.tasks import registry as task_registry

SweepOf = Callable[..., Path]


@pytest.fixture
def isotherm(isotherm: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, str]]:
    """The command; exit code and all that it printed, as one line."""

    def run(*arguments: str) -> tuple[int, str]:
        code, printed = isotherm(*arguments)
        return code, " ".join(printed.split())

    return run


def findings(path: Path, *overrides: str) -> dict[str, CheckFinding]:
    return {found.gate: found for found in planning.build(sweep_file.load(path, overrides)).findings}


def honest(found: dict[str, CheckFinding]) -> set[str]:
    return set(found) - {"distinct sizes", "seeds", "tuning", "temperature sensors"}


def tomorrow_in_the_volume(frame: pd.DataFrame) -> None:
    """The volume of a bar knows how high the next bar goes."""
    ahead = np.append(frame["high"].to_numpy()[1:] / frame["close"].to_numpy()[:-1] - 1, 0.0)
    frame["volume"] = 1e6 * np.exp(60 * ahead)


def rising(frame: pd.DataFrame) -> None:
    """Prices that end six times higher than they began."""
    growth = np.exp(np.linspace(0, np.log(6), len(frame)))
    for name in ("open", "high", "low", "close"):
        frame[name] *= growth


def still_in_validation(frame: pd.DataFrame) -> None:
    """A quiet market after training: hardly any rise of 1 %."""
    frame.loc[1150:, ["open", "high", "low", "close"]] = 100 + 0.002 * (
        frame.loc[1150:, ["open", "high", "low", "close"]] - 100
    )


def test_an_honest_walk_passes(sweep_of: SweepOf) -> None:
    assert honest(findings(sweep_of())) == {"split dates"}  # 240 bars of validation are less than a year


def test_19_validation_samples_are_refused_with_the_number(sweep_of: SweepOf, isotherm) -> None:
    path = sweep_of(lambda frame: None, ("horizon: [1]", "horizon: [11]"), n=1650)
    for command in ("plan", "sweep"):
        code, text = isotherm(command, str(path))
        assert code == 2
        assert "validation has 19 effective samples (" in text
    assert not Path("runs").exists()
    found = findings(path)["effective samples"]
    assert (found.level, found.number, found.limit) == ("error", 19, 100)


def test_too_few_samples_at_one_horizon_cost_that_horizon_alone(sweep_of: SweepOf) -> None:
    path = sweep_of(lambda frame: None, ("horizon: [1]", "horizon: [1, 11]"))
    assert findings(path)["effective samples"].level == "warn"
    assert findings(path, "gates.effective_samples=error")["effective samples"].level == "error"
    assert "effective samples" not in findings(path, "gates.effective_samples=off")
    states = planning.build(sweep_file.load(path, ("gates.effective_samples=off",))).states
    assert sorted(states.values()) == ["infeasible", "new"]


def test_unnormalised_price_levels_stop_the_sweep(sweep_of: SweepOf, isotherm) -> None:
    raw = sweep_of(rising, ("tier: ohlcv", "tier: ohlcv, representation: raw"))
    code, text = isotherm("sweep", str(raw))
    assert code == 2
    assert "check: mean drift: the mean of 4 of 5 inputs moves by more than 3 training standard deviations" in text
    assert "data.representation: relative" in text
    assert not Path("runs").exists()
    code, text = isotherm("plan", str(raw), "--json")
    assert code == 2
    gates = json.loads(text)["gates"]
    (drift,) = [gate for gate in gates if gate["gate"] == "mean drift"]
    assert drift["level"] == "error"
    assert drift["number"] > drift["limit"] == 3


def test_what_the_model_is_shown_counts_and_not_the_prices(sweep_of: SweepOf) -> None:
    assert "mean drift" not in findings(sweep_of(rising))
    by_window = sweep_of(rising, ("tier: ohlcv", "tier: ohlcv, representation: raw, scaling: revin"))
    assert "mean drift" not in findings(by_window)


def test_a_feature_that_knows_tomorrow_stops_the_sweep(sweep_of: SweepOf, isotherm) -> None:
    path = sweep_of(tomorrow_in_the_volume)
    code, text = isotherm("sweep", str(path))
    assert code == 2
    assert "check: leak: one input alone predicts the label with an AUC above 0.95: volume" in text
    assert not Path("runs").exists()
    assert findings(path)["leak"].number > 0.95
    assert findings(path, "gates.leak=warn")["leak"].level == "warn"
    assert "leak" not in findings(path, "gates.leak=off")


def test_limits_are_set_in_the_sweep_file_and_plan_says_so_without_another_key(sweep_of: SweepOf, isotherm) -> None:
    path = sweep_of(append="gates: {limits: {split_dates: 200, mean_drift: 0.01}}\n")
    found = {one.gate: one for one in planning.build(sweep_file.load(path, ("gates.mean_drift=warn",))).findings}
    assert honest(found) == {"limits", "mean drift"}  # 240 bars are more than 200 days
    assert (found["mean drift"].limit, found["limits"].number, found["limits"].limit) == (0.01, 0.01, 3)
    code, text = isotherm("plan", str(path), "--set", "gates.mean_drift=off")
    assert code == 0
    assert "limits: the limit of split dates is 200, by default it is 365" in text
    assert [one.key for one in grid.expand(sweep_file.load(path)).cells] == [
        one.key for one in grid.expand(sweep_file.load(sweep_of())).cells
    ]


def test_fewer_effective_samples_are_run_where_the_sweep_asks_for_it_down_to_a_floor(sweep_of, isotherm) -> None:
    path = sweep_of(
        lambda frame: None,
        ("horizon: [1]", "horizon: [8]"),
        append="gates: {limits: {effective_samples: 25, rarest_class: 5}}\n",
    )
    (cell,) = grid.expand(sweep_file.load(path)).cells
    assert 25 <= cell.facts.splits["validation"].effective < 100
    assert not cell.infeasible
    task = task_registry.resolved(sweep_file.load(path).variants[0].task)
    built = windows.build(catalog.load(cell.entry, Path("data")), cell.spec.data, task, torch.device("cpu"))
    assert len(built.validation)
    code, text = isotherm("plan", str(path), "--set", "gates.limits.effective_samples=19")
    assert code == 2
    assert "must be at least 20" in text


def test_a_weaker_leak_warns(sweep_of: SweepOf) -> None:
    def noisy(frame: pd.DataFrame) -> None:
        tomorrow_in_the_volume(frame)
        frame["volume"] *= np.exp(np.random.default_rng(1).normal(0, 0.35, len(frame)))

    found = findings(sweep_of(noisy))
    assert "leak" not in found
    assert found["strong input"].level == "warn"
    assert 0.85 < found["strong input"].number <= 0.95


def test_a_leak_into_a_regression_is_found(sweep_of: SweepOf) -> None:
    def next_return(frame: pd.DataFrame) -> None:
        close = frame["close"].to_numpy()
        frame["volume"] = 1e6 * np.exp(60 * np.append(np.log(close[1:] / close[:-1]), 0.0))

    path = sweep_of(next_return, ("kind: threshold, threshold: 0.01", "kind: regression"))
    assert findings(path)["leak"].level == "error"


def test_too_few_of_the_rarer_class_are_refused(sweep_of: SweepOf) -> None:
    found = findings(sweep_of(still_in_validation))
    assert "rarest class" in found["effective samples"].message


def test_a_rare_class_of_a_long_series_warns(sweep_of: SweepOf) -> None:
    found = findings(sweep_of(lambda frame: None, ("threshold: 0.01", "threshold: 0.024"), n=9000))["class balance"]
    assert found.level == "warn"
    assert found.number < found.limit == 0.05


def test_a_base_rate_that_moves_warns(sweep_of: SweepOf) -> None:
    def calmer(frame: pd.DataFrame) -> None:
        prices = ["open", "high", "low", "close"]
        middle = float(frame.loc[2100, "close"])
        frame.loc[2100:, prices] = middle * (frame.loc[2100:, prices] / middle) ** 0.6

    found = findings(sweep_of(calmer, n=3000), "gates.mean_drift=warn")["base rate"]
    assert "(train) to" in found.message
    assert found.number > 0.1


def test_equal_inputs_are_named(sweep_of: SweepOf) -> None:
    def opened_as_closed_before(frame: pd.DataFrame) -> None:
        frame["high"] = frame[["open", "close"]].max(axis=1)
        frame["low"] = frame[["open", "close"]].min(axis=1)
        frame["open"] = frame["high"]

    found = findings(sweep_of(opened_as_closed_before))["duplicate inputs"]
    assert "open and high" in found.message
    assert found.level == "warn"


def test_an_input_that_never_changes_stops_the_sweep(sweep_of: SweepOf, isotherm) -> None:
    def closed_at_the_high(frame: pd.DataFrame) -> None:
        frame["high"] = frame["close"] = frame[["open", "high", "low", "close"]].max(axis=1)

    code, text = isotherm("plan", str(sweep_of(closed_at_the_high)))
    assert code == 2
    assert "1 of 5 inputs never change over the training windows: high" in text


def test_the_word_off_in_yaml_is_no_truth_value(sweep_of: SweepOf) -> None:
    path = sweep_of(tomorrow_in_the_volume, append="gates: {leak: off, strong_input: off}\n")
    assert {"leak", "strong input"}.isdisjoint(findings(path))


def test_the_worst_place_is_named_beside_the_others(sweep_of: SweepOf) -> None:
    raw = ("tier: ohlcv", "tier: ohlcv, representation: raw")
    found = findings(sweep_of(rising, raw, ("horizon: [1]", "horizon: [1, 2]")))["mean drift"]
    assert "where it is worst; likewise at horizon" in found.message


def test_the_plan_shows_from_when_to_when_each_split_is(sweep_of: SweepOf) -> None:
    plan = planning.build(sweep_file.load(sweep_of()))
    console = Console(file=io.StringIO(), width=200)
    terminal.show(plan, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"horizon 1: train 2001-02-\d\d to .*, validation 2005-.* to .*, test 2006-.* to ", text)
    (cell,) = plan.as_dict()["cells"]
    assert [str(day)[:4] for day in cell["periods"]["train"]] == ["2001", "2005"]
