"""Temperature under real sweeps: a heat wave, a stop and its resume, and a host without sensors."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from runner.thermal import sensors
from runner.thermal.spec import ThermalSpec
from tests.integration.monitors import MONITORED, heat
from tests.integration.workplace import SWEEP, Workplace, same
from tests.waiting import PATIENCE_S, wait_for

WATCHED = "thermal: {sensor: hwmon, interval_s: 0.3, min_hold_s: 0, hold_timeout_s: 3}"
COOL, HOT, AT_ONCE, TOO_HOT = 50.0, 90.0, 92.0, 96.0  # hold is at 88, one reading of 91.5 is enough, stop is at 95
SMALL = ("--set", "grid.budget=[20k]", "--set", "training.epochs=1", "--no-tracking")
SLICE_S = 10.0  # a slice of training that was under way is reported after the hold began
SENSORLESS = bool(sensors.check(ThermalSpec(), "cpu"))


class MonitoredPlace(Workplace):
    """A workplace on a host whose CPU temperature can be set."""

    def command(self, *arguments: str) -> list[str]:
        monitors = str(self.folder / "hwmon")
        return ["unshare", "--mount", "sh", "-c", MONITORED, monitors, *super().command(*arguments)]

    def heat(self, celsius: float) -> None:
        heat(self.folder / "hwmon", celsius)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[MonitoredPlace]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the command gets a /sys of its own")
    one = MonitoredPlace(tmp_path)
    one.write(SWEEP.replace("thermal: {require_sensors: false}", WATCHED))
    yield one
    one.stop()


def events(place: Workplace) -> list[str]:
    return [record["message"] for record in place.ledger() if record["kind"] == "event" and record["what"] == "thermal"]


def telemetry(place: Workplace) -> pd.DataFrame:
    return pd.read_parquet(place.folder / "runs" / "small" / "thermal.parquet")


def metric_times(place: Workplace) -> pd.Series:
    times = [record["time"] for record in place.ledger() if record["kind"] == "metrics"]
    return pd.to_datetime(pd.Series(times), utc=True, format="ISO8601")


@pytest.mark.slow
def test_a_heat_wave_changes_no_result(place: MonitoredPlace, calm: pd.DataFrame) -> None:
    """Hot from the start, and again while both trials train: for so long that they give their memory back."""
    place.heat(HOT)
    process = place.start("sweep", "sweep.yaml", "--no-tracking")
    wait_for(lambda: place.attempts() == 2)
    time.sleep(SLICE_S)
    assert not [one for one in place.ledger() if one["kind"] == "metrics"], "no trial starts while the device is hot"
    place.heat(COOL)
    place.wait_for_checkpoint()
    told = len(events(place))
    place.heat(AT_ONCE)
    wait_for(lambda: any("release" in message for message in events(place)[told:]))
    time.sleep(SLICE_S)
    place.heat(COOL)
    assert process.wait(PATIENCE_S) == 0, place.log()

    table = place.results()
    same(calm, table)
    assert table["held_seconds"].max() > 5
    assert table.loc[table["held_seconds"] > 5, "marks"].str.contains("throughput distorted").all()
    assert (calm["held_seconds"] == 0).all()
    assert table["max_celsius"].max() == AT_ONCE
    spent = (table["ended_at"] - table["started_at"]).dt.total_seconds()
    assert (table["train_seconds"] < spent - table["held_seconds"]).all(), "held time is not training time"

    assert any("hold" in message for message in events(place))
    rows = telemetry(place)
    assert {"normal", "hold", "release"} <= set(rows["state"])
    times = metric_times(place)
    changes = rows["state"].isin(["hold", "release"]).astype(int).diff().fillna(0)
    starts, ends = rows["time"][changes == 1], rows["time"][changes == -1]
    during = times[(times > starts.iloc[-1] + pd.Timedelta(seconds=SLICE_S)) & (times < ends.iloc[-1])]
    assert during.empty, "trials wait"
    report = place.folder / "runs" / "small"
    assert (report / "figures" / "temperature.png").stat().st_size > 10_000
    assert "Temperature" in (report / "report.md").read_text()


@pytest.mark.slow
def test_a_stop_ends_the_sweep_resumably(place: MonitoredPlace, calm: pd.DataFrame) -> None:
    place.heat(COOL)
    process = place.start("sweep", "sweep.yaml", "--no-tracking")
    place.wait_for_checkpoint()
    place.heat(TOO_HOT)
    assert process.wait(PATIENCE_S) == 3, place.log()
    assert "resume with: isotherm sweep sweep.yaml" in place.log()
    table = place.results()
    assert "thermal_stop" in set(table["status"])
    assert set(table["status"]) <= {"thermal_stop", "interrupted", "finished"}
    assert "stop is 95" in table.loc[table["status"] == "thermal_stop", "reason"].iloc[0]
    assert any("stop" in message for message in events(place))
    assert "stopped" in (place.folder / "runs" / "small" / "report.md").read_text()

    place.heat(COOL)
    place.run("sweep", "sweep.yaml", "--no-tracking")
    resumed = place.results()
    same(calm, resumed)
    assert resumed["attempts"].max() > 1
    assert resumed["max_celsius"].max() == TOO_HOT, "over all attempts"


@pytest.mark.skipif(not SENSORLESS, reason="this host has sensors")
def test_without_sensors_a_sweep_refuses_to_start_unless_told_otherwise(workplace: Workplace) -> None:
    refused = workplace.run("sweep", "sweep.yaml", *SMALL, "--set", "thermal.require_sensors=true", expect=2)
    assert "nothing was started" in refused.stderr
    assert "thermal.require_sensors: false" in refused.stderr
    assert not (workplace.folder / "runs").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SENSORLESS, reason="this host has sensors")
def test_a_sweep_without_protection_says_so_everywhere(finished: Workplace) -> None:
    assert "without temperature protection" in (finished.folder / "printed").read_text()
    [started] = [record for record in finished.ledger() if record["kind"] == "sweep_started"]
    assert "without temperature protection" in json.dumps(started["gates"])
    run = finished.folder / "runs" / "small"
    assert "without temperature protection" in (run / "report.md").read_text()
    assert not (run / "thermal.parquet").exists()
    plan = json.loads(finished.run("plan", "sweep.yaml", "--json").stdout)
    assert "temperature sensors" in [gate["gate"] for gate in plan["gates"]]


def test_the_shipped_demo_is_governed_by_a_simulated_device() -> None:
    from runner.config import sweep_file

    path = Path(__file__).resolve().parents[2] / "configs" / "sweeps" / "thermal_demo.yaml"
    thermal = sweep_file.load(path).settings.thermal
    assert thermal.sensor.name == "plant"
    assert thermal.plant.heat_wave is not None
    assert not sensors.check(thermal, "cpu")
