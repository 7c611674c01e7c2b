"""Walk-forward folds as repetitions of one comparison."""

import math
from pathlib import Path

from runner.report.analysis.collect import collect
from runner.report.analysis.folds import FOLD, FoldsVerdict, pooled
from tests.runner.report.conftest import Cell, write

BUDGETS = ("50k", "200k", "1m", "4m")  # too few for fits, which take most of the time


def verdict(
    tmp_path: Path, falls: tuple[float, ...], spread: float = 0.002, shares: tuple[float, ...] = (0.996,)
) -> FoldsVerdict:
    """Losses that fall by so much of themselves in each fold, from another level each.

    Args:
        shares: of the budget that a fold's shapes have, in turn.
    """
    cells = [
        Cell(
            budget,
            seed=seed,
            axes={FOLD: fold},
            share=shares[fold % len(shares)],
            loss=(0.5 + 0.02 * fold) * math.exp(-fall * size / 3 + spread * (-1) ** seed * (1 + size % 2)),
        )
        for fold, fall in enumerate(falls)
        for size, budget in enumerate(BUDGETS)
        for seed in (0, 1)
    ]
    collected = collect(write(tmp_path / "run", cells))
    (one,) = pooled(collected.verdicts, tuple({trial.group for trial in collected.trials}))
    return one


def test_folds_that_agree_are_one_verdict_with_each_of_them_named(tmp_path: Path) -> None:
    one = verdict(tmp_path, (0.06, 0.05, 0.07))
    assert one.direction == "falls"
    assert one.text.startswith("Horizon 1, 3 folds as one: falls with size, the mean change is -0.0")
    assert "By fold: fold 0 -0.0" in one.text
    assert "between folds the mean change is -0.0" in one.text
    assert "training spans share up to 100 %" in one.text


def test_shapes_that_differ_between_folds_are_one_size_for_each_budget(tmp_path: Path) -> None:
    alike, searched = (
        verdict(tmp_path / str(len(shares)), (0.06, 0.05), shares=shares) for shares in ((1.0,), (1.0, 0.985))
    )
    assert searched.direction == alike.direction == "falls"
    assert "4 distinct sizes" in searched.text, "not 8, which would do for a law"
    assert searched.form == alike.form
    level = verdict(tmp_path / "level", (0.0, 0.0), spread=0.0, shares=(1.0, 0.985))
    assert level.direction == "flat"


def test_one_fold_that_falls_among_others_that_rise_does_not_carry_the_verdict(tmp_path: Path) -> None:
    one = verdict(tmp_path, (0.06, -0.05, -0.01), spread=0.01)
    assert one.direction == "can't tell"
    low, high = one.text.partition("between folds")[2].partition("[")[2].partition("]")[0].split(", ")
    assert float(low) < 0 < float(high)


def test_a_run_without_folds_has_no_such_verdict(tmp_path: Path) -> None:
    cells = [Cell(budget, seed=seed) for budget in BUDGETS for seed in (0, 1)]
    collected = collect(write(tmp_path / "run", cells))
    assert list(pooled(collected.verdicts, tuple({trial.group for trial in collected.trials}))) == []
