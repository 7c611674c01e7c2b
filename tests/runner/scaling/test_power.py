"""What a grid can detect before it has run, against the textbook and against the rule itself."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.scaling.direction import FALLS, FLAT, UNKNOWN
from runner.scaling.power import Grid

ROOT = Path(__file__).resolve().parents[3]
GRID = Grid(sizes=5, seeds=3, blocks=0.01, spread=0.005)


def test_known_noise_on_one_split_gives_the_textbook_value() -> None:
    alone = replace(GRID, blocks=0.01, spread=1e-5, test_windows=1e8)
    assert alone.detectable() == pytest.approx(2.8 * 0.01, rel=0.03)


def test_the_power_at_the_detectable_change_is_that_which_was_asked_for() -> None:
    found = GRID.detectable(0.8)
    assert found is not None
    assert GRID.power(found) == pytest.approx(0.8, abs=0.01)
    assert GRID.power(0.0) < 0.05


def test_more_of_anything_detects_less() -> None:
    better = [replace(GRID, seeds=9), replace(GRID, folds=4), replace(GRID, blocks=0.004), replace(GRID, spread=0.001)]
    assert all((one.detectable() or 1) < (GRID.detectable() or 0) for one in better)


def test_one_seed_or_one_size_decides_nothing() -> None:
    for one in (replace(GRID, seeds=1), replace(GRID, sizes=1)):
        assert one.detectable() is None
        assert one.power(0.5) == 0
        assert one.possible() == (UNKNOWN,)


def test_flat_is_possible_only_where_intervals_fit_into_its_margin() -> None:
    assert FLAT not in GRID.possible()
    precise = replace(GRID, blocks=0.001, spread=0.001)
    assert {FALLS, FLAT, "power law"} <= set(precise.possible())
    assert "power law" not in replace(precise, sizes=4).possible()


def test_what_one_percent_would_take() -> None:
    assert GRID.seeds_for() is None, "no number of seeds mends the sampling of the period"
    noisy_seeds = replace(GRID, blocks=0.002, spread=0.01)
    for name, found in (("seeds", noisy_seeds.seeds_for()), ("folds", GRID.folds_for())):
        start = noisy_seeds if name == "seeds" else GRID
        assert found is not None
        assert (replace(start, **{name: found}).detectable() or 1) <= 0.01
    times = GRID.windows_for()
    assert times is None or (replace(GRID, blocks=GRID.blocks / times**0.5).detectable() or 1) <= 0.01


def test_power_as_predicted_is_power_as_simulated() -> None:
    settings = json.loads((ROOT / "benchmarks/results/power.json").read_text())["settings"]
    assert len(settings) >= 5
    assert all(one["sweeps"] >= 400 for one in settings)
    for one in settings:
        assert abs(one["predicted"] - one["simulated"]) <= 0.05, one
    assert min(one["simulated"] for one in settings) < 0.7 < max(one["simulated"] for one in settings)
