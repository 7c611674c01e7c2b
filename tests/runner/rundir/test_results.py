"""The results table as files: a spreadsheet runs nothing that is in the CSV, and the parquet file is exact."""

from pathlib import Path

import pandas as pd
import pytest

from runner.rundir import results
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, LedgerView, MetricsRecorded, SweepStarted
from runner.rundir.paths import RunPaths

KEY = "0123456789ab"
FORMULAS = (
    "=cmd|'/c calc'!A1", "+1+cmd", "-2+3+cmd", "@SUM(1,2)", "\t=1+1", "\r=1+1", "\uff1d1+1", "-", "=", "+1e5x",
)  # fmt: skip
HARMLESS = ("-1", "+2.5", "-1e-3", ".5", "-.5E+7", "a=b", "50k-h1-s0", " =1", "", "'=1", "1-2")


def written(folder: Path, text: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    view = LedgerView()
    labels = {
        "budget": "2m",
        "tier": text,
        "horizon": 1,
        "seed": 0,
        "axes": {"training.clip": text},
        text or "empty": 1,
    }
    records = (
        SweepStarted(run="mine", keys=(KEY,), config={}, code_version="1", versions={}),
        CellRecorded(key=KEY, name=text, labels=labels, n_params=5, n_params_non_embedding=1, sizes={}, spec={}),
        AttemptStarted(key=KEY, attempt=1, execution={}, code_version="1"),
        CellEnded(key=KEY, attempt=1, status="failed", reason=text, result={"val_loss": -0.5, "skill": -0.25}),
    )
    for record in records:
        view.apply(record)
    paths = RunPaths(folder)
    table = results.write(view, paths)
    pd.testing.assert_frame_equal(pd.read_parquet(paths.results_parquet), table)
    return table, pd.read_csv(paths.results_csv, keep_default_na=False, dtype=str)


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_a_spreadsheet_would_run_is_quoted_in_the_csv_alone(tmp_path: Path, text: str) -> None:
    exact, csv = written(tmp_path, text)
    for column in ("name", "reason", "tier", "axis:training.clip"):
        assert exact[column][0] == text
        assert csv[column][0] == "'" + text.replace("\r", "\n")
    assert not [name for name in csv.columns if name[:1] in "=+-@\t"], "headings are cells, too"


def test_a_carriage_return_begins_no_row(tmp_path: Path) -> None:
    _, csv = written(tmp_path, "a\r=1+1")
    assert csv["name"].tolist() == ["a\n=1+1"]
    assert b"\r" not in RunPaths(tmp_path).results_csv.read_bytes()


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_and_numbers_are_as_they_are(tmp_path: Path, text: str) -> None:
    exact, csv = written(tmp_path, text)
    assert (csv["name"][0], csv["axis:training.clip"][0]) == (text, text)
    assert (csv["val_loss"][0], csv["skill"][0], csv["n_params"][0]) == ("-0.5", "-0.25", "5")
    assert exact["val_loss"][0] == -0.5


def test_energy_is_that_of_all_attempts() -> None:
    view = LedgerView()
    for record in (
        SweepStarted(run="mine", keys=(KEY,), config={}, code_version="1", versions={}),
        CellRecorded(key=KEY, name="a", labels={}, n_params=5, n_params_non_embedding=1, sizes={}, spec={}),
        AttemptStarted(key=KEY, attempt=1, execution={}, code_version="1"),
        MetricsRecorded(key=KEY, attempt=1, step=10, epoch=1, values={"joules": 300.0}),
        MetricsRecorded(key=KEY, attempt=1, step=20, epoch=1, values={"joules": 700.0}),
        AttemptStarted(key=KEY, attempt=2, execution={}, code_version="1"),
        CellEnded(key=KEY, attempt=2, status="finished", reason="", result={"joules": 50.0}),
    ):
        view.apply(record)
    assert results.frame(view)["joules"].tolist() == [750.0]
