"""Debug mode: one trial in this process."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import debug
from runner.cli import app
from runner.config import sweep_file as sweepfile
from runner.terminal.console import Console
from trainables.errors import ConfigError

Write = Callable[..., Path]


def run(path: Path, options: debug.DebugOptions, *overrides: str, budget: str = "20k") -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=140)
    code = debug.run(sweepfile.load(path, overrides), budget, options, console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_whole_trial(sweep_file: Write, folder: Path) -> None:
    code, text = run(sweep_file(), debug.DebugOptions())
    assert code == 0
    for part in ("train", "validation", "test", "embedding", "blocks", "head", "20 features", "finished", "val_loss"):
        assert part in text
    assert "a micro-batch: windows 32 x 60 x 20 float32" in text
    assert re.search(r"step 1/\d+  loss [\d.]+  gradient norm [\d.]+", text)
    norms = [line for line in text.splitlines() if line.startswith("│ head ")][-1]
    assert all(float(cell) > 0 for cell in norms.split("│")[2:4])
    assert "test_loss" not in text, "the test split is not touched unless asked"
    assert "ms a step" not in text, "nor is the profiler"
    assert not (folder / "runs").exists(), "debug mode writes no ledger"


def test_some_steps_at_a_budget_that_is_not_in_the_grid(sweep_file: Write) -> None:
    code, text = run(sweep_file(), debug.DebugOptions(steps=3), budget="35k")
    assert code == 0
    assert "step 3/" in text
    assert "step 4/" not in text
    assert text.count("L2 norms") == 1, "the first steps are the last ones"
    assert "budget of 35,000" in text


def test_one_batch_can_be_overfitted(sweep_file: Write) -> None:
    code, text = run(
        sweep_file(), debug.DebugOptions(overfit_batch=True), "training.global_batch=16", "training.lr=3e-3"
    )
    assert code == 0, text
    assert "one batch: loss" in text


def test_a_batch_that_is_not_learned_is_said(sweep_file: Write) -> None:
    code, text = run(sweep_file(), debug.DebugOptions(overfit_batch=True, steps=5), "training.lr=1e-9")
    assert code == 1
    assert "did not fall" in text


def test_a_profile_is_written(sweep_file: Write, folder: Path) -> None:
    code, text = run(sweep_file(), debug.DebugOptions(profile=True, judge_test=True))
    assert code == 0
    for phase in debug.PHASES:
        row = next(line for line in text.splitlines() if phase in line)
        assert float(row.replace("│", " ").split()[-1]) > 0, row
    assert "test_loss" in text
    trace = folder / "runs" / "tiny.debug" / "trace.json"
    assert json.loads(trace.read_text())["traceEvents"]
    assert "Self CPU" in text


def test_divergence_is_code_one(sweep_file: Write) -> None:
    code, text = run(sweep_file(), debug.DebugOptions(detect_anomaly=False), "training.lr=1e30")
    assert code == 1
    assert "diverged" in text


def test_a_budget_without_sense(sweep_file: Write) -> None:
    with pytest.raises(ConfigError, match="not a budget"):
        run(sweep_file(), debug.DebugOptions(), budget="much")


def test_an_error_can_be_examined_where_it_happened(sweep_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        where = "in the trainer"
        raise RuntimeError(where)

    monkeypatch.setattr(debug, "_train", fail)
    result = CliRunner().invoke(
        app, ["debug", "--budget", "20k", str(sweep_file()), "--post-mortem"], input="p where\nq\n"
    )
    assert result.exit_code == 4, result.output
    assert "'in the trainer'" in result.output
