"""The figure of temperature over time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from runner.report.figures.timeline import timeline_figures
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, LedgerView, SweepStarted
from runner.rundir.paths import RunPaths

A, B, C = "a" * 12, "b" * 12, "c" * 12

START = datetime(2026, 1, 1, tzinfo=UTC)


def table(devices: int, rows: int = 100, celsius: float | None = 70.0) -> pd.DataFrame:
    states = ["normal", "throttle", "hold", "release", "stop"]
    return pd.DataFrame(
        [
            {
                "time": START + timedelta(seconds=second * (1 if second < 50 else 10)),
                "node": "node",
                "device": f"GPU-{device}",
                "sensor": "nvml",
                "part": "gpu",
                "celsius": celsius,
                "state": states[second * len(states) // rows],
                "duty": 1.0,
                "target": 80.0,
                "hold": 83.0,
                "resume": 75.0,
                "stop": 89.0,
            }
            for device in range(devices)
            for second in range(rows)
        ]
    )


def view() -> LedgerView:
    """One trial with two attempts, one that never ended, one that waits."""
    built = LedgerView()
    keys = (A, B, C)
    built.apply(SweepStarted(run="r", keys=keys, config={}, code_version="", versions={}))
    for key in keys:
        built.apply(CellRecorded(key=key, name=f"${key}$", labels={}, sizes={}, spec={}))
    for seconds, key in ((0, A), (10, B), (20, A)):
        built.apply(AttemptStarted(key=key, attempt=1, execution={}, time=START + timedelta(seconds=seconds)))
    built.apply(CellEnded(key=A, attempt=2, status="finished", time=START + timedelta(seconds=40)))
    return built


def test_there_is_no_figure_without_readings(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert not list(timeline_figures(paths, LedgerView()))
    table(1).iloc[:0].to_parquet(paths.thermal_parquet)
    assert not list(timeline_figures(paths, LedgerView()))


def test_every_device_has_a_panel(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for devices, figures in ((1, ["temperature"]), (2, ["temperature"]), (8, ["temperature", "temperature_2"])):
        table(devices).to_parquet(paths.thermal_parquet)
        plots = list(timeline_figures(paths, view()))
        assert [plot.name for plot in plots] == figures
        assert all(plot.png.startswith(b"\x89PNG") for plot in plots)
        assert "70 Celsius" in plots[0].alt


def test_readings_that_are_all_missing_are_drawn_as_levels(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    table(1, rows=20, celsius=None).astype({"celsius": "float64"}).to_parquet(paths.thermal_parquet)
    [plot] = timeline_figures(paths, view())
    assert "nan" not in plot.alt
    table(1, rows=1).to_parquet(paths.thermal_parquet)
    assert len(list(timeline_figures(paths, view()))) == 1
