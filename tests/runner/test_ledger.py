"""The ledger: durable, tolerant of a torn tail, strict about everything else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner import ledger, results
from runner.ledger import (
    AttemptStarted,
    CellEnded,
    CellRecorded,
    EventRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.paths import RunPaths
from trainables.errors import LedgerError

A, B, C = "a" * 12, "b" * 12, "c" * 12


def cell(key: str, **labels: object) -> CellRecorded:
    return CellRecorded(
        key=key, name=f"cell {key}", labels={"budget": "2m", "horizon": 1, **labels}, sizes={"n_train": 10}, spec={}
    )


def started(*keys: str) -> SweepStarted:
    return SweepStarted(run="r", keys=keys, config={}, code_version="1", versions={})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r" / "ledger.jsonl"


def write(path: Path, *records: ledger.AnyRecord) -> None:
    writer = Ledger(path)
    for record in records:
        writer.append(record)
    writer.close()


def test_records_come_back_as_they_went_in(path: Path) -> None:
    given = [
        started(A),
        cell(A),
        AttemptStarted(key=A, attempt=1, execution={"micro_batch": 4}),
        MetricsRecorded(key=A, attempt=1, step=3, epoch=1, values={"val_loss": 0.5, "val_auc": None}),
        CellEnded(key=A, attempt=1, status="finished", result={"val_loss": 0.5}),
        EventRecorded(what="w", message="m"),
        SweepEnded(exit_code=0, counts={"finished": 1}),
    ]
    write(path, *given)
    back = list(ledger.records(path))
    assert [record.seq for record in back] == list(range(7))
    assert [record.model_dump(exclude={"seq"}) for record in back] == [g.model_dump(exclude={"seq"}) for g in given]


def test_numbers_go_on_after_reopening(path: Path) -> None:
    write(path, started(A))
    write(path, cell(A))
    assert [record.seq for record in ledger.records(path)] == [0, 1]


def test_the_last_value_of_a_step_counts(path: Path) -> None:
    write(path, started(A), cell(A))
    write(path, MetricsRecorded(key=A, attempt=1, step=3, epoch=1, values={"x": 1.0, "y": 2.0}))
    write(path, MetricsRecorded(key=A, attempt=2, step=3, epoch=1, values={"x": 5.0}))
    assert ledger.read(path).cells[A].metrics == {3: {"x": 5.0, "y": 2.0}}


def test_a_new_attempt_reopens_an_interrupted_cell(path: Path) -> None:
    write(path, started(A), cell(A), AttemptStarted(key=A, attempt=1, execution={"threads": 1}))
    write(path, CellEnded(key=A, attempt=1, status="interrupted"))
    assert ledger.read(path).cells[A].status == "interrupted"
    assert not ledger.read(path).cells[A].final
    write(path, AttemptStarted(key=A, attempt=2, execution={"threads": 1}))
    assert ledger.read(path).cells[A].status == "running"


@pytest.mark.parametrize("status", ["finished", "diverged", "infeasible"])
def test_findings_are_final(path: Path, status: ledger.Status) -> None:
    write(path, started(A), cell(A), CellEnded(key=A, attempt=1, status=status))
    assert ledger.read(path).cells[A].final


@pytest.mark.parametrize("cut", [1, 20, 60])
@pytest.mark.filterwarnings("ignore")
def test_a_torn_tail_is_left_out_then_cut_off_and_reported(path: Path, cut: int) -> None:
    write(path, started(A), cell(A))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert len(list(ledger.records(path))) == 1
    write(path, cell(B))
    kinds = [record.kind for record in ledger.records(path)]
    assert kinds == ["sweep_started", "event", "cell"]
    assert [record.seq for record in ledger.records(path)] == [0, 1, 2]


def test_a_damaged_record_in_the_middle_is_refused_with_its_line(path: Path) -> None:
    write(path, started(A), cell(A))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-5], lines[1]]) + "\n")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:2: damaged record"):
        ledger.read(path)


def test_another_schema_version_is_refused_with_the_mend(path: Path) -> None:
    write(path, started(A))
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"v": 99}) + "\n")
    with pytest.raises(LedgerError, match=r"schema 99.*reads schema 1\n.*mend: "):
        ledger.read(path)


def test_a_record_is_on_disk_before_append_returns(path: Path) -> None:
    """A process that dies at once after appending has lost nothing."""
    script = (
        "import os, sys; from pathlib import Path; from runner.ledger import *\n"
        f"w = Ledger(Path({str(path)!r}))\n"
        "for i in range(50): w.append(EventRecorded(what='x', message=str(i)))\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(list(ledger.records(path))) == 50


def test_removed_cells_leave_the_results(path: Path) -> None:
    write(path, started(A, B), cell(A), cell(B))
    for key in (A, B):
        write(path, AttemptStarted(key=key, attempt=1, execution={}), CellEnded(key=key, attempt=1, status="finished"))
    write(path, started(B))
    view = ledger.read(path)
    assert list(results.frame(view)["key"]) == [B]
    assert set(view.cells) == {A, B}


def test_results_have_typed_columns_and_the_further_axes(path: Path) -> None:
    write(
        path,
        started(A, B, C),
        cell(A, axes={"model.dropout": 0.1}),
        cell(B, axes={"model.dropout": 0.2}),
        cell(C),
        AttemptStarted(key=A, attempt=1, execution={"micro_batch": 4, "accumulation": 2, "threads": 1}),
        CellEnded(key=A, attempt=1, status="finished", result={"val_loss": 0.5, "collapsed": False, "steps": 7}),
        AttemptStarted(key=B, attempt=1, execution={}),
    )
    table = results.write(ledger.read(path), RunPaths(path.parent))
    assert list(table["key"]) == [A, B]  # c was never started
    assert list(table["status"]) == ["finished", "interrupted"]
    assert table.dtypes.astype(str).to_dict().items() >= results.COLUMNS.items()
    assert list(table["axis:model.dropout"]) == ["0.1", "0.2"]
    import pandas as pd

    again = pd.read_parquet(RunPaths(path.parent).results_parquet)
    assert again.loc[0, "steps"] == 7
    assert bool(again.loc[0, "collapsed"]) is False


def test_an_absent_ledger_is_empty(path: Path) -> None:
    assert ledger.read(path).current == {}
