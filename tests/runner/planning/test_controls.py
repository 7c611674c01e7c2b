"""A control's bars: as the sweep's own, without their order or with a law."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from runner.cli import app
from runner.config import sweep_file
from runner.planning import controls
from runner.planning import plan as planning


@pytest.mark.parametrize("kind", controls.KINDS)
def test_the_grid_of_a_control_is_the_sweeps_own(kind: str, sweep_of: Callable[..., Path], tmp_path: Path) -> None:
    path = sweep_of()
    sweep = sweep_file.load(path)
    own = planning.build(sweep, tmp_path / "runs", tmp_path / "data").grid.cells
    given = controls.overrides(sweep, kind, tmp_path / "data")
    other = planning.build(sweep_file.load(path, given), tmp_path / "runs", tmp_path / "data")
    assert other.paths.name == f"tiny-{kind}"
    assert not other.errors
    for one, control in zip(own, other.grid.cells, strict=True):
        assert one.spec.model == control.spec.model
        assert one.spec.training == control.spec.training
        assert one.sizes == pytest.approx(control.sizes, abs=2)
        assert one.key != control.key


def test_random_order_keeps_bars_and_takes_their_memory(sweep_of: Callable[..., Path], tmp_path: Path) -> None:
    def remember(frame: pd.DataFrame) -> None:
        moves = np.repeat(np.random.default_rng(0).choice([-0.01, 0.01], len(frame) // 4), 4)
        frame["close"] = 100 * np.exp(np.cumsum(moves))
        frame["open"], frame["high"], frame["low"] = frame.close * 1.001, frame.close * 1.01, frame.close * 0.99

    sweep = sweep_file.load(sweep_of(remember))
    controls.overrides(sweep, controls.NULL, tmp_path)
    own = pd.read_csv("bars.csv")
    [path] = (tmp_path / controls.FOLDER / "tiny-null").iterdir()
    bars = pd.read_parquet(path)
    moves, new = (np.diff(np.log(frame["close"].to_numpy())) for frame in (own, bars))
    np.testing.assert_allclose(np.sort(new), np.sort(moves), atol=1e-9)
    np.testing.assert_allclose(np.sort(bars.volume), np.sort(own.volume))
    np.testing.assert_allclose(bars.high / bars.close, 1.01)
    assert np.corrcoef(moves[1:], moves[:-1])[0, 1] > 0.5
    assert abs(np.corrcoef(new[1:], new[:-1])[0, 1]) < 0.1


def test_the_command_runs_both_and_stops_at_the_first_that_fails(
    sweep_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, started, codes = sweep_of(), [], iter((0, 3))

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        return subprocess.CompletedProcess(command, next(codes))

    monkeypatch.setattr(subprocess, "run", run)
    ended = CliRunner().invoke(app, ["control", str(path), "--no-tracking", "--set", "training.epochs=2"])
    assert ended.exit_code == 3
    names = [next(text for text in command if text.startswith("name=")) for command in started]
    assert names == ["name=tiny-null", "name=tiny-teacher"]
    for command in started:
        assert command[:6] == [sys.executable, "-P", "-m", "runner", "sweep", str(path)]
        assert {"--no-tracking", "training.epochs=2"} <= set(command)


@pytest.mark.slow
def test_both_controls_run_and_are_in_the_report_of_the_sweep(place: Path) -> None:
    (place / "runner.py").write_text("raise SystemExit('a file of the current folder was imported')")
    command = [sys.executable, "-P", "-m", "runner", "control", "sweep.yaml", "--no-tracking"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for kind in controls.KINDS:
        table = pd.read_parquet(f"runs/tiny-{kind}/results.parquet")
        assert list(table.loc[table["kind"] == "model", "status"]) == ["finished"] * 2
    assert Path("runs/tiny/report.md").read_text().count("\nControl, ") == 2


def test_generate_writes_bars_and_says_what_can_be_known(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["data", "generate", "walk?bars=300", "--assets", "2", "--to", str(tmp_path / "u")])
    assert ended.exit_code == 0, ended.output
    assert "0.6931 nats" in ended.stdout
    assert [len(pd.read_csv(path)) for path in sorted((tmp_path / "u").iterdir())] == [300, 300]
    assert str(tmp_path / "u" / "walk1.csv") in ended.stdout
