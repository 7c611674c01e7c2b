"""`isotherm thermal`, and protection in debug mode and before a sweep."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import debug
from runner.cli import app
from runner.config import sweep_file as sweepfile
from runner.terminal.console import Console
from runner.thermal import sensors
from trainables.errors import ConfigError

Write = Callable[..., Path]
NUMBERS = ("throughput_fraction", "limit_fraction", "swing_celsius", "max_celsius", "n_holds", "seconds_held")
SENSORLESS = bool(sensors.check(sensors.ThermalSpec(), "cpu"))


def isotherm(*arguments: str, expect: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expect, result.output
    return result.stdout


def test_simulate_prints_its_figures() -> None:
    options = "--ambient 30 --resistance 0.2 --time-constant 40 --power 400 --idle-power 20 --target 78 --hold 81"
    more = "--resume 70 --stop 90 --noise 0.5 --quantum 1 --delay 2 --dropout 100:103 --seconds 1200 --seed 3"
    text = isotherm("thermal", "simulate", *options.split(), *more.split(), "--policy", "duty_cycle", "--json")
    outcome = json.loads(text)
    assert all(isinstance(outcome[name], float | int) for name in NUMBERS)
    assert outcome["final_state"] == "throttle"
    assert outcome["sustainable_duty"] == pytest.approx((78 - 30 - 4) / (0.2 * 380))
    assert "limit_fraction" in isotherm("thermal", "simulate", "--seconds", "60")


def test_simulate_says_that_idle_power_alone_is_too_much() -> None:
    outcome = json.loads(isotherm("thermal", "simulate", "--idle-power", "350", "--seconds", "60", "--json"))
    assert outcome["limit_fraction"] is None
    assert "idle power alone" in outcome["idle_exceeds"]


def test_watch_shows_limits_and_the_policys_word() -> None:
    plant = ("--set", "thermal.sensor=plant", "--set", "thermal.interval_s=0.05")
    sweep = str(Path(__file__).resolve().parents[3] / "configs/sweeps/quickstart.yaml")
    watched = json.loads(isotherm("thermal", "watch", sweep, *plant, "--json"))
    [row] = watched["sensors"]
    assert (row["state"], row["hold"], row["part"]) == ("normal", 83.0, "gpu")
    assert "normal, duty 100%" in " ".join(isotherm("thermal", "watch", sweep, *plant, "--seconds", "0.1").split())


@pytest.mark.skipif(not SENSORLESS, reason="this host has sensors")
def test_watch_without_sensors_says_why() -> None:
    text = isotherm("thermal", "watch", expect=1)
    assert "no CPU temperature on this host" in text


def run_debug(path: Path, *overrides: str) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=140)
    code = debug.run(sweepfile.load(path, overrides), "20k", debug.DebugOptions(steps=5), console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.skipif(not SENSORLESS, reason="this host has sensors")
def test_debug_refuses_without_sensors_unless_told_otherwise(sweep_file: Write) -> None:
    with pytest.raises(ConfigError, match=r"thermal\.require_sensors: false"):
        run_debug(sweep_file(("require_sensors: false", "require_sensors: true")))
    code, text = run_debug(sweep_file())
    assert code == 0
    assert "without temperature protection" in text


def test_debug_is_governed(sweep_file: Write, tmp_path: Path) -> None:
    path = sweep_file(append="  sensor: replay\n  replay: trace.csv\n  interval_s: 0.05\n  min_hold_s: 0\n")
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,celsius\n0,84\n1.5,60\n")
    assert run_debug(path)[0] == 0
    trace.write_text("time_s,celsius\n0,95\n")
    code, text = run_debug(path)
    assert code == 3
    assert "95 C, stop is 89" in text
