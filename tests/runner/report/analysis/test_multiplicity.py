"""Several comparisons are several tests, and what was given up was one, too."""

from dataclasses import replace
from pathlib import Path

import pytest

from runner.report.analysis.multiplicity import holm, looked_at, words
from runner.rundir import ledger
from tests.runner.report.conftest import grid, write


def test_holm_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None], 5) == [pytest.approx(0.05), None]
    assert holm([0.9, 0.8], 2) == [1.0, 1.0]


def test_all_series_of_a_ledger_count_and_single_sizes_do_not(tmp_path: Path) -> None:
    cells = grid(["50k", "1m"], horizons=(1, 5), seeds=(0, 1))
    paths = write(tmp_path / "run", [*cells, replace(cells[0], model="mlp")])
    assert looked_at(ledger.read(paths.ledger)) == 2


def test_what_a_search_tries_is_no_comparison(tmp_path: Path) -> None:
    tried = grid(["50k", "1m"], horizons=(5,), role="searched")
    paths = write(tmp_path / "run", [*grid(["50k", "1m"]), *tried])
    assert looked_at(ledger.read(paths.ledger)) == 1


def test_what_does_not_survive_says_so() -> None:
    assert words(0.02, 0.08, 4, 2).endswith("(2 starts): not below 0.05 for all of them together")
    assert words(0.001, 0.004, 4, 1).endswith("4 comparisons in this run's ledger (1 start)")
