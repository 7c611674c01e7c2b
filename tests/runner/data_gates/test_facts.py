"""What the checks look at, on splits that are wrong on purpose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runner import grid, sweepfile
from runner.data_gates import findings
from runner.data_gates.facts import examine
from runner.settings import GatesSpec
from trainables.data import catalog
from trainables.data.window_index import WindowIndex, index_windows


@pytest.fixture
def cell(sweep_of: Callable[..., Path]) -> grid.Cell:
    (one,) = grid.expand(sweepfile.load(sweep_of())).cells
    return one


def windows_of(cell: grid.Cell) -> tuple[catalog.Dataset, WindowIndex]:
    dataset = catalog.load(cell.entry, Path("data"))
    return dataset, index_windows(dataset, cell.spec.data, cell.spec.task)


def test_purged_splits_do_not_overlap(cell: grid.Cell) -> None:
    assert cell.facts.overlaps == 0


@pytest.mark.parametrize(("extra", "overlapping"), [(1, 1), (3, 3)])
def test_a_training_label_that_reaches_into_validation_stops_the_sweep(cell: grid.Cell, extra, overlapping) -> None:
    dataset, index = windows_of(cell)
    train = index.splits["train"]
    more = train.ends_N[-1] + 1 + np.arange(extra)  # the bars that the purge leaves out
    longer = replace(
        train,
        ends_N=np.append(train.ends_N, more),
        labels_N=np.append(train.labels_N, np.zeros(extra)),
        dates_N=np.append(train.dates_N, dataset.frame["date"].to_numpy()[more].astype("datetime64[ns]")),
    )
    wrong = replace(index, splits=index.splits | {"train": longer})
    facts = examine(dataset, wrong, "zscore")
    assert facts.overlaps == overlapping
    found = {one.gate: one for one in findings.check([replace(cell, facts=facts)], GatesSpec())}["label overlap"]
    assert (found.level, found.number, found.limit) == ("error", overlapping, 0)


def test_inputs_of_revin_are_normalised_windows_and_their_statistics(cell: grid.Cell) -> None:
    dataset, index = windows_of(cell)
    plain, by_window = examine(dataset, index, "zscore").inputs, examine(dataset, index, "revin").inputs
    assert plain is not None
    assert by_window is not None
    assert len(by_window.names) == 3 * len(plain.names)
    assert {"close", "log_scale(close)", "level(close)"} <= set(by_window.auc)


def test_test_labels_are_held_against_no_input(cell: grid.Cell) -> None:
    dataset, index = windows_of(cell)
    part = index.splits["test"]
    close = index.data.values_TF[part.ends_N, index.features.index("close")]
    leaking = replace(index, splits=index.splits | {"test": replace(part, labels_N=(close > 0).astype(float))})
    before, after = examine(dataset, index, "zscore").inputs, examine(dataset, leaking, "zscore").inputs
    assert before is not None
    assert after is not None
    assert before.auc == after.auc


def test_long_splits_are_looked_at_in_part(sweep_of: Callable[..., Path]) -> None:
    (cell,) = grid.expand(sweepfile.load(sweep_of(n=9000))).cells
    assert cell.facts.splits["train"].n_windows > 6000
    assert cell.facts.inputs is not None
    assert max(cell.facts.inputs.auc.values()) < 0.6
