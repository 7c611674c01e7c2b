"""Trials of a grid that share a stable phase, and what a plan says of them."""

from pathlib import Path

import pytest

from runner.config import sweep_file
from runner.planning import branches
from runner.planning.grid import expand
from tests.finished import SWEEP

WSD = ("training.schedule=wsd", "training.warmup_steps=10", "grid.budget=[20k, 40k]", "grid.seed=[0]")
LENGTHS = "grid.training.length.steps=[60, 240, 120]"


@pytest.fixture
def cells_of(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def cells(*overrides: str):
        Path("sweep.yaml").write_text(SWEEP.replace("epochs: 1, ", ""))
        return expand(sweep_file.load(Path("sweep.yaml"), overrides, tracking=False)).cells

    return cells


def test_each_size_has_one_stable_run_the_longest(cells_of) -> None:
    cells = cells_of(*WSD, LENGTHS)
    found = branches.stable_runs(cells)
    names = {cell.key: cell.name for cell in cells}
    assert {names[key]: names[longest] for key, longest in found.items()} == {
        f"{size}-h1-s0-steps={steps}": f"{size}-h1-s0-steps=240" for size in ("20k", "40k") for steps in (60, 120)
    }
    assert [branches.share_trained(cell) for cell in cells if cell.key in found] == pytest.approx([0.2] * 4)


def test_without_a_common_warm_up_nothing_is_shared(cells_of) -> None:
    assert not branches.stable_runs(cells_of("training.schedule=wsd", *WSD[2:], LENGTHS))
    assert not branches.stable_runs(cells_of(*WSD[1:], LENGTHS))
