"""What the user sees while a sweep runs."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.planning import grid
from runner.rundir.ledger import AnyRecord, AttemptStarted, CellEnded, CellRecorded, LedgerView, MetricsRecorded, Status
from runner.terminal.console import Console
from runner.terminal.progress import LiveProgress

Write = Callable[..., Path]


class Stage:
    """A progress display over two cells, fed by records."""

    def __init__(self, path: Path, *, terminal: bool) -> None:
        self.cells = grid.expand(sweepfile.load(path, ["grid.seed=[0, 1]"])).cells
        self.view = LedgerView()
        self.console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
        for cell in self.cells:
            self.view.apply(CellRecorded(key=cell.key, name=cell.name, labels={}, sizes={}, spec={}))
        self.progress = LiveProgress(self.cells, self.view, self.console)

    def tell(self, *records: AnyRecord) -> None:
        for record in records:
            self.view.apply(record)
            self.progress.on_record(record, self.view)

    @property
    def text(self) -> str:
        return self.console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [False, True])
def test_cells_running_done_and_to_go_with_their_losses(sweep_file: Write, terminal: bool) -> None:
    stage = Stage(sweep_file(), terminal=terminal)
    first, second = (cell.key for cell in stage.cells)
    with stage.progress:
        stage.tell(AttemptStarted(key=first, attempt=1, execution={}))
        stage.tell(MetricsRecorded(key=first, attempt=1, step=12, epoch=0, values={"step_loss": 0.7}))
        assert stage.progress._summary().startswith("0/2 done, 1 running, 1 to go")
        stage.tell(MetricsRecorded(key=first, attempt=1, step=25, epoch=1, values={"val_loss": 0.5123}))
        assert "validation loss 0.5123 (epoch 1)" in stage.progress._line()
        result = {"val_loss": 0.5, "val_loss_low": 0.4, "val_loss_high": 0.6, "skill": 0.1, "collapsed": True}
        stage.tell(CellEnded(key=first, attempt=1, status="finished", result=result))
        stage.tell(AttemptStarted(key=second, attempt=1, execution={}))
        stage.tell(CellEnded(key=second, attempt=1, status="failed", reason="killed"))
    assert "20k-h1-s0: finished, validation loss 0.5000 [0.4000, 0.6000] nats, skill +0.1000, collapsed" in stage.text
    assert "20k-h1-s1: failed (killed)" in stage.text
    assert stage.progress._summary().startswith("1/2 done, 0 running, 0 to go, 1 failed, ")


@pytest.mark.parametrize("status", ["failed", "out_of_memory", "interrupted", "thermal_stop"])
def test_a_cell_that_is_to_be_run_again_is_not_done(sweep_file: Write, status: Status) -> None:
    stage = Stage(sweep_file(), terminal=False)
    first, second = (cell.key for cell in stage.cells)
    for key in (first, second):
        stage.tell(AttemptStarted(key=key, attempt=1, execution={}))
    stage.tell(CellEnded(key=first, attempt=1, status="diverged"), CellEnded(key=second, attempt=1, status=status))
    assert stage.progress._summary().startswith(f"1/2 done, 0 running, 0 to go, 1 {status.replace('_', ' ')}, ")


def test_the_time_left_is_said_once_something_was_measured(sweep_file: Write) -> None:
    stage = Stage(sweep_file(), terminal=False)
    first = stage.cells[0].key
    assert stage.progress.eta_s() is None
    stage.tell(AttemptStarted(key=first, attempt=1, execution={}))
    stage.tell(MetricsRecorded(key=first, attempt=1, step=13, epoch=0, values={"step_loss": 0.7}))
    half = stage.progress.eta_s()
    assert half is not None
    assert half > 0
    stage.tell(CellEnded(key=first, attempt=1, status="finished", result={}))
    stage.tell(CellEnded(key=stage.cells[1].key, attempt=1, status="finished", result={}))
    assert stage.progress.eta_s() == pytest.approx(0)
