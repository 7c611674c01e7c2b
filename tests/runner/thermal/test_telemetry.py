"""Rows, events and the file."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from runner.thermal.monitor import Sample
from runner.thermal.policy import Limits
from runner.thermal.telemetry import COLUMNS, Telemetry

FIRST = Sample(
    seq=0,
    time=datetime(2026, 1, 1, tzinfo=UTC),
    device="GPU-1",
    sensor="nvml",
    part="gpu",
    celsius=50.0,
    state="normal",
    duty=1.0,
    power_watts=250.0,
    utilisation=0.9,
    slowed_by="",
    reason="",
    limits=Limits(80, 83, 75, 89),
)


def after(seconds: float, **changes: object) -> Sample:
    return replace(FIRST, time=FIRST.time + timedelta(seconds=seconds), **changes)  # type: ignore[arg-type]


def test_what_does_not_change_is_told_now_and_then(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path / "thermal.parquet")
    assert not list(telemetry.add("n", [after(second) for second in range(100)]))
    assert 10 <= len(telemetry.frame()) <= 21
    assert not list(telemetry.add("n", [after(100 + second, celsius=50.0 + second) for second in range(10)]))
    assert len(telemetry.frame()) >= 19


def test_a_clock_that_is_set_back_a_day_stops_no_rows(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path / "thermal.parquet")
    list(telemetry.add("n", [after(second) for second in range(20)]))
    before = len(telemetry.frame())
    list(telemetry.add("n", [after(second - 86_400) for second in range(100)]))
    assert len(telemetry.frame()) - before >= 10


def test_changes_of_level_are_events_once(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path / "thermal.parquet")
    told = [
        *telemetry.add("node", [after(0), after(1, state="throttle", duty=0.5, reason="80 C, target is 80")]),
        *telemetry.add("node", [after(2), after(3, state="throttle", duty=0.6, reason="80 C, target is 80")]),
        *telemetry.add("node", [after(4, state="hold", duty=0.0, reason="84 C, hold is 83")]),
        *telemetry.add("node", [after(5, state="release", duty=0.0, reason="long")]),
        *telemetry.add("node", [after(6, celsius=70.0)]),
        *telemetry.add("node", [after(7, state="stop", duty=0.0, reason="95 C, stop is 89")]),
    ]
    assert [text.split(": ", 1)[1].split(" (")[0] for text in told] == [
        "throttle",
        "hold",
        "release",
        "normal again at 70 C",
        "stop",
    ]
    assert "GPU-1" in told[0]


def test_the_line_names_what_is_held_back(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path / "thermal.parquet")
    assert telemetry.line() == ""
    list(telemetry.add("n", [FIRST, replace(FIRST, device="GPU-2", celsius=60.0)]))
    assert "GPU-2" in telemetry.line()
    assert "60 C normal" in telemetry.line()
    list(telemetry.add("n", [after(1, state="throttle", duty=0.25)]))
    assert "GPU-1" in telemetry.line()
    assert "throttle 25%" in telemetry.line()


def test_the_file_grows_over_sweeps(tmp_path: Path) -> None:
    path = tmp_path / "thermal.parquet"
    for _ in range(2):
        telemetry = Telemetry(path)
        list(telemetry.add("node", [after(0), after(1, celsius=None), after(2)]))
        telemetry.write()
        telemetry.write(now=True)
    table = pd.read_parquet(path)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 6
    assert table["celsius"].isna().sum() == 2
    assert set(table["hold"]) == {83.0}
    assert set(table["node"]) == {"node"}
    assert not list(tmp_path.glob(".*")), "nothing is left aside"
