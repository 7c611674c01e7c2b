"""Ledgers of specification format 1, which judged the best epoch by the windows that chose it, stay readable."""

from pathlib import Path
from typing import Any

import pytest

from runner.config import sweep_file
from runner.planning import grid
from runner.report import build
from runner.report.analysis.collect import collect
from runner.report.analysis.compare import compare
from runner.rundir import status
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, Ledger, MetricsRecorded, SweepStarted
from runner.rundir.paths import RunPaths

SWEEP = """\
name: tiny
data: {source: sp500, tier: ohlcv}
task: {kind: threshold, context: 20}
model: {name: mlp}
training: {epochs: 8, lr: 1.0e-3}
grid: {budget: [20k, 40k], horizon: [1], seed: [0]}
execution: {device: cpu, threads: 1}
thermal: {require_sensors: false}
"""
RESULT = {
    "epochs": 8, "best_epoch": 6, "steps": 208, "collapsed": False, "diverged": False, "train_seconds": 2.0,
    "val_loss": 0.40, "val_loss_low": 0.38, "val_loss_high": 0.42, "prior_loss": 0.47,
    "skill": 0.15, "skill_low": 0.1, "skill_high": 0.2, "test_loss": 0.41, "test_skill": 0.1,
}  # fmt: skip


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[grid.Cell, ...]:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SWEEP)
    return grid.expand(sweep_file.load(Path("tiny.yaml"), (), tracking=False)).cells


def as_format_1(spec: dict[str, Any]) -> dict[str, Any]:
    """A trial's specification as format 1 had it."""
    assert spec.pop("format") == 2
    del spec["data"]["splits"]["selection"]
    del spec["training"]["judged_epoch"]
    return {"format": 1, **spec}


def write(name: str, cells: tuple[grid.Cell, ...], *, old: bool) -> RunPaths:
    paths = RunPaths(Path("runs") / name)
    paths.root.mkdir(parents=True)
    ledger = Ledger(paths.ledger)
    keys = tuple(f"{number:012x}" for number, _ in enumerate(cells, 1 if old else 100))
    ledger.append(SweepStarted(run=name, keys=keys, config={}, code_version="1", versions={}))
    for key, cell in zip(keys, cells, strict=True):
        spec = cell.spec.model_dump(mode="json")
        sizes = {name: size for name, size in cell.sizes.items() if not (old and name == "n_selection")}
        ledger.append(
            CellRecorded(
                key=key,
                name=cell.name,
                labels=cell.labels,
                n_params=cell.counts.total,
                sizes=sizes,
                spec=as_format_1(spec) if old else spec,
            )
        )
        ledger.append(AttemptStarted(key=key, attempt=1, execution={"device": "cpu"}))
        for epoch in range(1, 9):
            values = {"val_loss": 0.40 + 0.01 * abs(epoch - 6)}
            ledger.append(MetricsRecorded(key=key, attempt=1, step=26 * epoch, epoch=epoch, values=values))
        result = RESULT if old else RESULT | {"judged_epoch": 8}
        ledger.append(CellEnded(key=key, attempt=1, status="finished", result=result))
    ledger.close()
    return paths


def test_status_and_report_read_them_and_say_which_epoch_was_judged(cells: tuple[grid.Cell, ...]) -> None:
    old, new = write("old", cells, old=True), write("new", cells, old=False)
    assert status.collect(old)["counts"] == {"finished": 2}
    assert [trial.judged_epoch for trial in collect(old).trials] == [6, 6]
    assert [trial.judged_epoch for trial in collect(new).trials] == [8, 8]
    for paths, told in ((old, "6 of 8"), (new, "8 of 8")):
        build.build(paths)
        assert told in (paths.root / "report.md").read_text()


def test_their_losses_stand_in_no_table_with_new_ones(cells: tuple[grid.Cell, ...]) -> None:
    found = compare([write("old", cells, old=True), write("new", cells, old=False)])
    assert not found.comparable
    assert [question.runs for question in found.questions] == [("old",), ("new",)]


def test_new_keys_are_not_those_of_format_1(cells: tuple[grid.Cell, ...]) -> None:
    spec = cells[0].spec
    assert spec.format == 2
    assert spec.model_copy(update={"format": 1}).key != spec.key
