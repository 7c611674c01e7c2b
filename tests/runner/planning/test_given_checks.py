"""Columns as given are held against the next return; models are held against the data that they train on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from runner.config import sweep_file
from runner.config.gates import GatesSpec
from runner.planning import checks, data_checks, grid

OWN = ("tier: ohlcv}", "tier: none, features: {columns: '*'}}")


def add_columns(frame: pd.DataFrame) -> None:
    change = frame["close"].pct_change().fillna(0)
    frame["known"] = change.rolling(5, min_periods=1).mean()
    frame["centred"] = change.rolling(5, center=True, min_periods=1).mean()


def test_a_column_that_knows_the_next_return_stops_the_sweep(sweep_of: Callable[..., Path]) -> None:
    (cell,) = grid.expand(sweep_file.load(sweep_of(add_columns, OWN))).cells
    found = {one.gate: one for one in data_checks.check([cell], GatesSpec())}["lead lag"]
    assert found.level == "error"
    assert "centred +0.4" in found.message
    assert "known" not in found.message.partition("they hold")[0]
    assert cell.facts.inputs is not None
    assert abs(cell.facts.inputs.lead["known"]) < 0.1
    assert cell.entry.given["known"] == "as is (by its values)"


def test_a_model_with_many_more_parameters_than_bars_is_named(sweep_of: Callable[..., Path]) -> None:
    (cell,) = grid.expand(sweep_file.load(sweep_of())).cells
    assert not list(checks._starved((cell,), GatesSpec()))
    tokens = cell.sizes["n_train"] * cell.spec.task.context
    large = replace(cell, key="0" * 12, counts=replace(cell.counts, embedding=0, blocks=17 * tokens, head=0))
    (found,) = checks._starved((cell, large), GatesSpec())
    assert (found.level, found.limit) == ("warn", 16)
    assert np.isclose(found.number, 17)
    assert f"{cell.sizes['n_train']:,} windows of 20 bars" in found.message
    assert "1 passes" in found.message
    assert not list(checks._starved((large,), GatesSpec(data_starved="off")))
