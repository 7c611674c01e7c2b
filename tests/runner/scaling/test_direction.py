"""Direction and turns: what must be said of planted losses, and what noise must never be called."""

from pathlib import Path

import numpy as np
import pytest

from runner.report.analysis.agreement import ALL, agree
from runner.scaling import FitOptions, FitTable, direction, fit, read_csv
from runner.scaling.direction import Direction
from runner.scaling.verdict import few_sizes, without_forms

SEEDS = FitOptions(bootstraps=20, replicates=True)
QUICK = FitOptions(bootstraps=20, sparing=True)


def sizes(n: int, seeds: int) -> np.ndarray:
    return np.repeat(np.geomspace(5e4, 2e7, n), seeds)


def judged(means: list[float], seeds: int, noise: float, seed: int = 0, *, windows: float = 0.0) -> Direction:
    random = np.random.default_rng(seed)
    loss = np.repeat(means, seeds) * np.exp(noise * random.normal(size=len(means) * seeds))
    shared = None
    if windows:
        shared = loss * np.exp(0.02 * random.normal(size=(1000, 1)) + windows * random.normal(size=(1000, len(loss))))
    return direction(FitTable(sizes(len(means), seeds), loss), SEEDS, loss_resamples_RN=shared)


def test_a_planted_fall_is_said_first_with_its_interval() -> None:
    """12 assets, a quadratic teacher, 2.5k to 100k parameters, 2 seeds: once called 'not identifiable' and no more."""
    found = judged([0.636, 0.58, 0.53, 0.49, 0.4515], 2, 0.008, 1)
    assert found.word == "falls"
    assert found.words.startswith("falls with size, the change is -0.1")
    assert found.change.low < -0.1843 < found.change.high < -0.15  # type: ignore[operator]


@pytest.mark.parametrize("n", [5, 7])
@pytest.mark.parametrize("seeds", [2, 3])
def test_noise_never_falls(n: int, seeds: int) -> None:
    """What validation says must come out on test, as in a report; 20 sweeps without a change."""
    for number in range(20):
        splits = {
            (split, ALL): judged([0.55] * n, seeds, 0.01, 100 * number + k, windows=0.003)
            for k, split in enumerate(("validation", "test"))
        }
        verdicts = {key: without_forms(one, n) or few_sizes(one, n) for key, one in splits.items()}
        assert agree(splits, verdicts, any_unsound=False).direction in ("can't tell", "flat")


@pytest.mark.parametrize("n", [5, 6, 7])
def test_flat_looks_at_every_size(n: int) -> None:
    assert judged([0.5] * n, 3, 0.001).word == "flat"
    for middle in (0.45, 0.493, 0.507):
        means = [0.5] * n
        means[n // 2] = middle
        found = judged(means, 3, 0.001)
        assert found.word == "can't tell"
        assert found.turn is not None
        assert found.turn.lowest == (middle < 0.5)
    # within the margin a turn changes nothing that matters
    assert judged([0.5, 0.4995, 0.499, 0.4995, 0.5], 3, 0.0002).word == "flat"


@pytest.mark.parametrize(
    "losses", [(0.50, 0.47, 0.45, 0.47, 0.5001), (0.50, 0.44, 0.42, 0.45, 0.53), (0.50, 0.46, 0.43, 0.44, 0.47, 0.5)]
)
def test_a_turn_is_seen_with_single_rows_too(losses: tuple[float, ...]) -> None:
    found = fit(FitTable(sizes(len(losses), 1), np.array(losses)), QUICK)
    assert found.judged.form == "turns"
    assert (found.verdict, found.direction.word) == ("not identifiable", "can't tell")


def test_a_small_turn_at_the_end_leaves_the_fall() -> None:
    found = judged([0.60, 0.52, 0.48, 0.47, 0.48], 3, 0.001)
    assert found.word == "falls"
    assert found.turn is not None
    assert found.turn.size == pytest.approx(sizes(5, 1)[3])


def test_an_up_and_down_in_the_middle_is_a_turn() -> None:
    found = judged([0.60, 0.50, 0.55, 0.48, 0.45], 3, 0.002)
    assert found.turn is not None
    assert found.word == "falls"


def test_a_power_law_does_not_turn() -> None:
    means = list(0.5 + 0.15 * (sizes(7, 1) / 5e4) ** -1.0)  # steep: most sizes lie on its floor
    turned = sum(judged(means, 3, 0.01, seed).turn is not None for seed in range(40))
    assert turned <= 2


def test_one_seed_is_no_replicate() -> None:
    found = judged([0.6, 0.55, 0.5, 0.45, 0.4], 1, 0.001, windows=0.001)
    assert found.word == "can't tell"
    assert found.change.low is None
    assert "grid.seed: [0, 1]" in found.reason


def test_the_interval_covers() -> None:
    """Seeds and windows both count; 200 tables, 95 % nominal, standard error 1.5 points."""
    held = 0
    for seed in range(200):
        found = judged([0.5] * 5, 2, 0.01, seed)
        held += found.change.low <= 0 <= found.change.high  # type: ignore[operator]
    assert held >= 182


def test_single_rows_are_judged_by_their_scatter_and_that_is_said() -> None:
    losses = 0.5 + 0.15 * (sizes(8, 1) / 5e4) ** -0.3
    found = fit(FitTable(sizes(8, 1), losses), QUICK)
    assert found.direction.word == "falls"
    assert any("scatter about a smooth curve" in note for note in found.notes)
    replicated = fit(FitTable(sizes(8, 2), np.repeat(losses, 2)), QUICK)
    assert any("rows of equal size" in note for note in replicated.notes)


def test_a_straight_line_is_log_linear() -> None:
    random = np.random.default_rng(0)
    n_params = sizes(8, 3)
    found = fit(FitTable(n_params, 2 * n_params**-0.05 * np.exp(0.003 * random.normal(size=24))), QUICK)
    assert (found.direction.word, found.judged.form, found.verdict) == ("falls", "log-linear", "not identifiable")


def test_groups_of_one_point_each_have_no_change_and_no_nan(tmp_path: Path) -> None:
    rows = [f"{size},{0.5 + 0.15 * (size / 5e4) ** -0.3:.5f},g{i}" for i, size in enumerate(np.geomspace(5e4, 5e6, 7))]
    path = tmp_path / "each.csv"
    path.write_text("n_params,loss,group\n" + "\n".join(rows) + "\n")
    found = fit(read_csv(path), FitOptions(bootstraps=20))
    assert found.direction.word == "can't tell"
    assert found.direction.change.value is None
    assert "no group has two sizes" in found.reason
    assert "nan" not in found.reason + " ".join(found.notes)
    assert found.as_dict()["change"]["value"] is None
    assert any("cannot settle" in note for note in found.notes)


def test_the_largest_compute_is_held_out_as_well() -> None:
    """The loss of the largest compute lies below the law of the rest, as later runs of a published table did."""
    n_params, budget = np.meshgrid(np.geomspace(1e7, 1e9, 7), np.geomspace(1e18, 1e21, 5))
    n_params, n_samples = n_params.ravel(), (budget / 6 / n_params).ravel()
    loss = 1.8 + 400 * n_params**-0.35 + 2000 * n_samples**-0.37
    most = budget.ravel() == budget.max()
    loss[most] *= 0.95
    found = fit(FitTable(n_params, loss, n_samples), QUICK)
    assert found.compute_extrapolation is not None
    assert found.compute_extrapolation.compute == pytest.approx(1e21 / 6)
    assert found.compute_extrapolation.relative_error == pytest.approx(0.0526, abs=0.01)
    document = found.as_dict()
    assert document["extrapolation"]["n_params"] == pytest.approx(1e9)
    assert document["extrapolation_by_compute"]["relative_error"] == pytest.approx(0.0526, abs=0.01)
