"""What the checks look at, on splits that are wrong on purpose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runner.config import sweep_file
from runner.config.gates import GatesSpec
from runner.planning import data_checks, grid
from runner.planning.data_facts import examine
from tests.runner.planning.conftest import bars
from trainables.data import catalog
from trainables.data.dataset import Dataset
from trainables.data.window_index import WindowIndex, index_windows


@pytest.fixture
def cell(sweep_of: Callable[..., Path]) -> grid.Cell:
    (one,) = grid.expand(sweep_file.load(sweep_of())).cells
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
    )
    wrong = replace(index, splits=index.splits | {"train": longer})
    facts = examine(dataset, wrong, "zscore")
    assert facts.overlaps == overlapping
    found = {one.gate: one for one in data_checks.check([replace(cell, facts=facts)], GatesSpec())}["label overlap"]
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
    (cell,) = grid.expand(sweep_file.load(sweep_of(n=9000))).cells
    assert cell.facts.splits["train"].n_windows > 6000
    assert cell.facts.inputs is not None
    assert max(cell.facts.inputs.auc.values()) < 0.6


def with_gap(at: int, days: int) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[at:, "date"] += pd.Timedelta(days=days)

    return change


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_label_across_a_gap_is_found_with_its_dates(sweep_of: Callable[..., Path], horizon: int) -> None:
    path = sweep_of(with_gap(600, 455), ("horizon: [1]", f"horizon: [{horizon}]"), n=2600)
    (cell,) = grid.expand(sweep_file.load(path)).cells
    (gap,) = cell.facts.gaps
    assert (gap.asset, gap.days, gap.usual_days) == ("bars", 458, 3)
    assert (str(gap.after), str(gap.before)) == ("2003-04-18", "2004-07-19")
    found = {one.gate: one for one in data_checks.check([cell], GatesSpec())}["label gap"]
    assert (found.level, found.number, found.limit) == ("warn", 458, 12)
    assert f"of horizon {horizon} spans" in found.message
    assert "458 days from 2003-04-18 to 2004-07-19 (bars)" in found.message


def test_a_gap_that_only_contexts_or_nothing_spans_is_no_gap_of_a_label(sweep_of: Callable[..., Path]) -> None:
    (whole,) = grid.expand(sweep_file.load(sweep_of())).cells
    dataset, index = windows_of(whole)
    last, first = index.splits["train"].ends_N[-1], index.splits["validation"].ends_N[0]
    assert first - last > 10  # contexts of validation lie between
    frame = dataset.frame.copy()
    frame.loc[last + 5 :, "date"] += pd.Timedelta(days=455)
    facts = examine(Dataset(frame, dataset.features, dataset.entry), index, "zscore")
    assert [gap.days for gap in facts.gaps] == [3]


def test_holidays_are_no_gap_and_each_asset_has_its_own(sweep_of: Callable[..., Path], tmp_path: Path) -> None:
    path = sweep_of(with_gap(600, 8), ("bars.csv", "[bars.csv, other.csv]"))
    other = bars(seed=1)
    with_gap(900, 40)(other)
    other.to_csv(tmp_path / "other.csv", index=False)
    (cell,) = grid.expand(sweep_file.load(path)).cells
    assert {gap.asset: gap.days for gap in cell.facts.gaps} == {"bars": 11, "other": 43}
    found = {one.gate: one for one in data_checks.check([cell], GatesSpec())}["label gap"]
    assert "(other)" in found.message
    assert "(bars)" not in found.message


def test_with_a_calendar_sessions_are_looked_at_one_by_one(sweep_of: Callable[..., Path]) -> None:
    """The bars are of all weekdays: those on holidays are named, and a gap is by its days."""
    path = sweep_of(lambda frame: None, ("tier: ohlcv", "tier: ohlcv, calendar: XNYS"))
    table = pd.read_csv("bars.csv")
    table.drop(index=[900, 901, *range(1000, 1015)]).to_csv("bars.csv", index=False)
    (cell,) = grid.expand(sweep_file.load(path)).cells
    assert cell.facts.gaps == ()
    found = {one.gate: one for one in data_checks.check([cell], GatesSpec())}["missing session"]
    days = [str(one) for one in cell.facts.doubts if "no bar" in one.words]
    assert days[:2] == [f"{day} bars: no bar, and XNYS was open" for day in ("2004-06-14", "2004-06-15")]
    assert "2001-01-15 bars: a bar, and XNYS was closed" in {str(one) for one in cell.facts.doubts}
    assert (found.level, found.number) == ("warn", len(cell.facts.doubts))


def test_a_price_far_off_and_equal_bars_are_findings(sweep_of: Callable[..., Path]) -> None:
    def wrong(frame: pd.DataFrame) -> None:
        frame.loc[400, "high"] *= 3
        frame.loc[700:706, ["open", "high", "low", "close"]] = frame.loc[
            700, ["open", "high", "low", "close"]
        ].to_list()

    (cell,) = grid.expand(sweep_file.load(sweep_of(wrong))).cells
    found = {one.gate: one.message for one in data_checks.check([cell], GatesSpec())}
    assert "2002-07-15 bars: a high of" in found["outlier"]
    assert "2003-09-08 bars: 7 equal bars, to 2003-09-16" in found["stale run"]
