"""What a plan says of the size of the data, and a trial of many columns of one's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from runner.config import sweep_file
from runner.host.device import Device
from runner.planning import data_size, grid
from trainables.baselines import MAX_FITTED
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.data import catalog, windows
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer

CPU = Device("cpu", "cpu", 2)
OWN = ("tier: ohlcv}", "tier: none, features: {columns: '*', kind: {'*': as is}}}")


def many_columns(frame: pd.DataFrame) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(len(frame), 500))
    own = pd.DataFrame(values, columns=[f"own{number}" for number in range(500)])
    return pd.concat([frame, own], axis=1)


def test_the_table_and_what_there_is_for_each_parameter_are_told(sweep_of: Callable[..., Path]) -> None:
    (cell,) = grid.expand(sweep_file.load(sweep_of())).cells
    size = data_size.DataSize.of(cell, CPU)
    assert size.table_bytes == 1600 * 5 * 4
    assert size.home == "memory"
    assert size.windows_per_parameter == cell.sizes["n_train"] / cell.counts.total
    assert size.tokens_per_parameter == 20 * size.windows_per_parameter
    assert size.passes == 1
    assert "mapped into memory, which all trials of a host share" in next(data_size.lines([cell], CPU))
    train = cell.facts.splits["train"]
    many = dict.fromkeys(cell.facts.splits, train.__class__(**vars(train) | {"n_windows": MAX_FITTED + 1}))
    some = train.__class__(**vars(train) | {"n_windows": 10, "total": 25})
    object.__setattr__(cell.facts, "splits", many | {"test": some})
    told = "\n".join(data_size.lines([cell], CPU))
    assert "test is judged on 10 of 25 windows" in told
    assert "baselines are fitted on 500,000 of 500,001 training windows" in told
    assert "look at 4,000 windows of each split" in told


def test_500_columns_of_ones_own_train_and_go_on_where_they_were(sweep_of: Callable[..., Path], tmp_path: Path) -> None:
    path = sweep_of(many_columns, OWN, ("budget: [20k]", "budget: [2m]"), ("name: mlp", "name: patchtst"))
    (cell,) = grid.expand(sweep_file.load(path)).cells
    assert len(cell.spec.data.features) == 500
    assert f"the embedding has {cell.counts.embedding / cell.counts.total:.0%}" in "".join(data_size.lines([cell], CPU))
    data = windows.build(catalog.load(cell.entry, Path("data")), cell.spec.data, cell.spec.task, torch.device("cpu"))

    def trainer(folder: str, attempt: int = 1) -> Trainer:
        store = FileCheckpointStore(tmp_path / folder, attempt, cell.key)
        return Trainer(cell.spec, cell.record, data, gate=NullGate(), store=store)

    whole, first = trainer("whole"), trainer("parts")
    for _ in range(3):
        expected = whole.advance(0).loss
    first.advance(0)
    first.save()
    later = trainer("parts", 2)
    for _ in range(2):
        found = later.advance(0).loss
    assert found == expected
