"""What a plan says of the changes that its grid could detect."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from runner.config import sweep_file
from runner.planning import plan as planning
from runner.planning import power
from runner.planning.validation_noise import Blocks
from runner.rundir.ledger import LedgerView
from trainables import baselines
from trainables.training import predictions

TWO = (("seed: [0]", "seed: [0, 1]"), ("budget: [20k]", "budget: [20k, 60k]"))


def built(path: Path, tmp_path: Path) -> planning.Plan:
    return planning.build(sweep_file.load(path), tmp_path / "runs", tmp_path / "data")


def known(plan: planning.Plan, tmp_path: Path, **given: float) -> power.SeriesPower:
    (one,) = power.of_plan(plan, data_root=tmp_path / "data", cache=tmp_path / "cache", **given)
    return one


def test_a_plan_knows_what_it_could_detect(
    sweep_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = built(sweep_of(lambda frame: None, *TWO), tmp_path)
    one = known(plan, tmp_path)
    assert one.place == "horizon 1"
    assert 0.005 < (one.detectable or 0) < 0.3
    start = "horizon 1: a change from the smallest to the largest size is detected with 80 % from "
    assert one.words().startswith(f"{start}{100 * (one.detectable or 0):.1f} % of the prior's loss on; possible: falls")
    assert json.loads(json.dumps(one.as_dict()))["detectable"] == one.detectable
    (finding,) = power.findings([one])
    assert (finding.level, finding.number) == ("warn", one.detectable)
    assert (known(plan, tmp_path, spread=0.1).detectable or 0) > 2 * (one.detectable or 1)

    monkeypatch.setattr(baselines, "predict", lambda *_: pytest.fail("it is kept"))
    assert known(plan, tmp_path) == one


def test_one_seed_detects_nothing_and_says_so(sweep_of: Callable[..., Path], tmp_path: Path) -> None:
    one = known(built(sweep_of(), tmp_path), tmp_path)
    assert one.detectable is None
    assert one.words() == (
        "horizon 1: no change is detected, whatever its size: 2 sizes and 2 seeds of each are needed"
    )
    assert list(power.findings([one])) == [], "the checks of seeds and sizes say it"


def test_assets_that_move_together_are_hardly_more_than_one() -> None:
    alike, apart = (Blocks(0.01, 0.6, 4, r) for r in (0.95, 0.0))
    grid = power.Grid(sizes=5, seeds=5, blocks=0.006, spread=0.0005)
    times = grid.windows_for()
    assert times is not None
    assert power._assets(alike, grid) == (4, None), "what they share does not shrink"
    have, assets = power._assets(apart, grid)
    assert assets is not None
    assert assets == pytest.approx(have * times, abs=1)


def test_the_spread_of_seeds_is_that_of_the_trials_before(sweep_of: Callable[..., Path], tmp_path: Path) -> None:
    cells = built(sweep_of(lambda frame: None, *TWO), tmp_path).grid.cells
    shifts = iter((0.01, -0.01, 0.02, -0.02))
    states = {
        cell.key: SimpleNamespace(
            status="finished", ended=SimpleNamespace(result={"val_loss": 0.6 * np.exp(next(shifts))})
        )
        for cell in sorted(cells, key=lambda cell: cell.target)
    }
    found = power._spread(cells, LedgerView(cells=states))  # type: ignore[arg-type]
    assert found == pytest.approx(np.sqrt((2 * 0.01**2 + 2 * 0.02**2) / 2))
    assert power._spread(cells, LedgerView()) is None


def test_trials_of_this_run_give_the_error_in_place_of_baselines(
    sweep_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = built(sweep_of(lambda frame: None, *TWO), tmp_path)
    random = np.random.default_rng(0)
    dates, labels = pd.date_range("2010-01-01", periods=400), random.integers(2, size=400).astype(np.float32)
    states, shift_N = {}, 0.3 * random.normal(size=400)
    for cell in plan.grid.cells:
        logits = random.normal(size=400) * 1e-6 + (shift_N if cell.target == 60_000 else 0.0)
        path = plan.paths.prediction(cell.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = predictions.table(dates.to_numpy(), np.full(400, "a"), "validation", labels, logits)
        frame.to_parquet(path)
        result = {"val_loss": 0.7 + random.normal() / 100, "prior_loss": 0.7}
        states[cell.key] = SimpleNamespace(status="finished", ended=SimpleNamespace(result=result))
    monkeypatch.setattr(power.ledger, "read", lambda _: LedgerView(cells=states))  # type: ignore[arg-type]
    monkeypatch.setattr(baselines, "predict", lambda *_: pytest.fail("not needed"))
    one = known(plan, tmp_path)
    assert "the largest size less the smallest, of this run's trials" in one.basis
    difference_N = np.logaddexp(0, shift_N) - labels * shift_N
    assert one.grid.blocks == pytest.approx(difference_N.std() / np.sqrt(400) / 0.7, rel=0.3)

    plan.paths.prediction(plan.grid.cells[0].key).unlink()
    assert known(plan, tmp_path).grid.blocks == pytest.approx(one.grid.blocks, rel=1e-3), "the other seed is enough"
