"""The ledger: durable, tolerant of a torn tail, strict about everything else."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.rundir import ledger, results
from runner.rundir.ledger import (
    AttemptStarted,
    CellEnded,
    CellRecorded,
    EventRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.rundir.ledger.chain import Chain
from runner.rundir.paths import RunPaths
from trainables.errors import ConfigError, LedgerError

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


def test_a_closed_ledger_takes_no_record(path: Path) -> None:
    """A thread that outlasts the sweep may still have something to report."""
    one = Ledger(path)
    one.close()
    with pytest.raises(ValueError, match="is closed"):
        one.append(SweepEnded(exit_code=0, counts={}))
    assert list(ledger.records(path)) == []


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


def old(lines: list[bytes]) -> list[bytes]:
    """The lines as schema 1 had them: numbered, without a hash."""
    return [re.sub(rb',"chain":"[0-9a-f]{16}"', b"", line).replace(b'"v":2', b'"v":1') for line in lines]


def ten_lines(path: Path) -> list[bytes]:
    write(path, started(A), *(EventRecorded(what="n", message=str(number)) for number in range(9)))
    return path.read_bytes().splitlines(keepends=True)


BREAKS = {
    "a line is missing": (lambda lines: lines[:4] + lines[5:], 5, "record 4 was expected and record 5 was found: 1 "),
    "three are missing": (lambda lines: lines[:4] + lines[7:], 5, "record 4 was expected and record 7 was found: 3 "),
    "the first is missing": (lambda lines: lines[1:], 1, "record 0 was expected and record 1 was found"),
    "a line is doubled": (lambda lines: [*lines[:5], lines[4], *lines[5:]], 6, "record 5 .* record 4 .* doubled"),
    "two are exchanged": (
        lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 5, "record 4 was expected and record 5 was found",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("schema", [1, 2])
def test_a_line_out_of_its_place_is_named(path: Path, name: str, schema: int) -> None:
    change, number, words = BREAKS[name]
    lines = ten_lines(path)
    path.write_bytes(b"".join(change(lines if schema == 2 else old(lines))))
    for use in (ledger.read, Ledger):
        with pytest.raises(LedgerError, match=rf"ledger\.jsonl:{number}: {words}(?s:.)*fix: restore the file"):
            use(path)


@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_changed_line_is_named_whichever_it_is(path: Path, at: int) -> None:
    lines = ten_lines(path)
    path.write_bytes(b"".join([*lines[:at], lines[at].replace(b'Z","', b'Z", "', 1), *lines[at + 1 :]]))
    with pytest.raises(LedgerError, match=rf"ledger\.jsonl:{at + 1}: its running hash does not match"):
        ledger.read(path)


def test_a_line_without_a_hash_among_others_is_refused(path: Path) -> None:
    lines = ten_lines(path)
    path.write_bytes(b"".join([*lines[:4], *old(lines[4:5]), *lines[5:]]))
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:5: its running hash .* is missing"):
        ledger.read(path)


def test_a_ledger_of_schema_1_is_read_and_goes_on(path: Path) -> None:
    path.parent.mkdir()
    lines = old(ten_lines(path))
    path.write_bytes(b"".join(lines))
    assert len(list(ledger.records(path))) == 10
    write(path, cell(A), EventRecorded(what="n", message="last"))
    assert path.read_bytes().startswith(b"".join(lines)), "nothing of it is written anew"
    assert [record.seq for record in ledger.records(path)] == list(range(12))
    # From then on the hash covers the old lines, too.
    path.write_bytes(path.read_bytes().replace(b'"message":"3"', b'"message":"4"'))
    with pytest.raises(LedgerError, match=r":11: its running hash does not match: this line, or one before it, was"):
        ledger.read(path)


def test_the_first_lines_of_a_ledger_are_a_ledger(path: Path) -> None:
    """What the message about a damaged line advises."""
    lines = ten_lines(path)
    path.write_bytes(b"".join(lines[:4]))
    write(path, cell(A))
    assert [record.seq for record in ledger.records(path)] == list(range(5))


def test_a_line_is_hashed_without_its_own_hash() -> None:
    """Fixed, so that a ledger of today can be read for ever."""
    first, chain = b'{"seq":0}', Chain()
    digest = hashlib.sha256(b'{"seq":0').hexdigest()[:16]
    assert chain.seal(first) == b'{"seq":0,"chain":"' + digest.encode() + b'"}\n'
    assert chain.accept(chain.seal(first), 0) == ""
    assert chain.digest == digest
    assert hashlib.sha256(digest.encode() + b'{"seq":1').hexdigest()[:16].encode() in chain.seal(b'{"seq":1}')


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
    with pytest.raises(LedgerError, match=r"schema 99.*reads schema 1 and 2\n.*fix: "):
        ledger.read(path)


def test_a_record_is_on_disk_before_append_returns(path: Path) -> None:
    """A process that dies at once after appending has lost nothing."""
    script = (
        "import os, sys; from pathlib import Path; from runner.rundir.ledger import *\n"
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


def test_a_ledger_is_no_link_and_no_second_name_of_a_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "bashrc"
    other.write_text("precious")
    for place in (lambda: path.symlink_to(other), lambda: os.link(other, path), lambda: os.mkfifo(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        place()
        with pytest.raises(ConfigError, match=r"ledger\.jsonl"):
            Ledger(path)
    assert other.read_text() == "precious"


def test_an_absent_ledger_is_empty(path: Path) -> None:
    assert ledger.read(path).current == {}
