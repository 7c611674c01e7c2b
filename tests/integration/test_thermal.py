"""Temperature under real sweeps: a replayed heat wave, a stop and its resume, and a host without sensors."""

import json
from pathlib import Path

import pandas as pd
import pytest

from runner.thermal import sensors
from runner.thermal.spec import ThermalSpec
from tests.integration.workplace import SWEEP, Workplace, same

pytestmark = pytest.mark.timeout(400)

REPLAYED = SWEEP.replace(
    "thermal: {require_sensors: false}",
    "thermal: {sensor: replay, replay: trace.csv, interval_s: 0.5, min_hold_s: 0, hold_timeout_s: 3}",
)
LONG = ("--set", "training.epochs=8", "--set", "grid.budget=[300k]", "--set", "grid.seed=[0, 1, 2]", "--no-tracking")
SMALL = ("--set", "grid.budget=[20k]", "--set", "training.epochs=1", "--no-tracking")
SLICE_S = 3.0  # a slice of training that was under way is reported after the hold began
SENSORLESS = bool(sensors.check(ThermalSpec(), "cpu"))


def trace(place: Workplace, rows: str) -> None:
    (place.folder / "trace.csv").write_text("time_s,celsius\n" + rows.replace(" ", "\n") + "\n")


def run(place: Workplace, rows: str, expect: int = 0) -> str:
    place.write(REPLAYED)
    trace(place, rows)
    return place.run("sweep", "sweep.yaml", *LONG, expect=expect).stdout


@pytest.fixture(scope="module")
def cool(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Results of the sweep while nothing happens."""
    place = Workplace(tmp_path_factory.mktemp("cool"))
    run(place, "0,50")
    return place.results()


def events(place: Workplace) -> list[str]:
    return [record["message"] for record in place.ledger() if record["kind"] == "event" and record["what"] == "thermal"]


def telemetry(place: Workplace) -> pd.DataFrame:
    return pd.read_parquet(place.folder / "runs" / "small" / "thermal.parquet")


def metric_times(place: Workplace) -> pd.Series:
    times = [record["time"] for record in place.ledger() if record["kind"] == "metrics"]
    return pd.to_datetime(pd.Series(times), utc=True, format="ISO8601")


@pytest.mark.slow
def test_a_heat_wave_changes_no_result(workplace: Workplace, cool: pd.DataFrame) -> None:
    """Hot from the start for some seconds, and again in the middle: three readings, then one halfway to stop."""
    run(workplace, "0,84 5,50 10,86.5 17,50")
    table = workplace.results()
    same(cool.drop(columns="marks"), table.drop(columns="marks"))
    assert table.loc[table["held_seconds"] > 5, "marks"].str.contains("throughput distorted").all()
    assert (cool["held_seconds"] == 0).all()
    assert table["held_seconds"].max() > 5
    assert table["max_celsius"].max() == 86.5
    assert cool["max_celsius"].max() == 50.0
    spent = (table["ended_at"] - table["started_at"]).dt.total_seconds()
    assert (table["train_seconds"] < spent - table["held_seconds"]).all(), "held time is not training time"

    rows = telemetry(workplace)
    assert {"normal", "hold", "release"} <= set(rows["state"])
    times = metric_times(workplace)
    changes = rows["state"].isin(["hold", "release"]).astype(int).diff().fillna(0)
    starts, ends = rows["time"][changes == 1], rows["time"][changes == -1]
    assert times.min() > ends.min(), "no trial starts while the device is hot"
    for start, end in zip(starts[-1:], ends[-1:], strict=True):
        during = times[(times > start + pd.Timedelta(seconds=SLICE_S)) & (times < end)]
        assert during.empty, "trials wait"
    told = " ".join(events(workplace))
    assert "hold" in told
    assert "release" in told
    report = workplace.folder / "runs" / "small"
    assert (report / "figures" / "temperature.png").stat().st_size > 10_000
    assert "Temperature" in (report / "report.md").read_text()


@pytest.mark.slow
def test_a_stop_ends_the_sweep_resumably(workplace: Workplace, cool: pd.DataFrame) -> None:
    text = run(workplace, "0,50 10,95", expect=3)
    assert "resume with: isotherm sweep sweep.yaml" in text
    table = workplace.results()
    assert "thermal_stop" in set(table["status"])
    assert set(table["status"]) <= {"thermal_stop", "interrupted", "finished"}
    assert "stop is 89" in table.loc[table["status"] == "thermal_stop", "reason"].iloc[0]
    assert any("stop" in message for message in events(workplace))
    assert "stopped" in (workplace.folder / "runs" / "small" / "report.md").read_text()

    run(workplace, "0,50")
    resumed = workplace.results()
    same(cool, resumed)
    assert resumed["attempts"].max() > 1
    assert resumed["max_celsius"].max() == 95.0, "over all attempts"


@pytest.mark.skipif(not SENSORLESS, reason="this host has sensors")
def test_without_sensors_a_sweep_refuses_to_start_unless_told_otherwise(workplace: Workplace) -> None:
    refused = workplace.run("sweep", "sweep.yaml", *SMALL, "--set", "thermal.require_sensors=true", expect=2)
    assert "nothing was started" in refused.stderr
    assert "thermal.require_sensors: false" in refused.stderr
    assert not (workplace.folder / "runs").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SENSORLESS, reason="this host has sensors")
def test_a_sweep_without_protection_says_so_everywhere(workplace: Workplace) -> None:
    told = workplace.run("sweep", "sweep.yaml", *SMALL)
    assert "without temperature protection" in told.stdout
    [started] = [record for record in workplace.ledger() if record["kind"] == "sweep_started"]
    assert "without temperature protection" in json.dumps(started["gates"])
    run = workplace.folder / "runs" / "small"
    assert "without temperature protection" in (run / "report.md").read_text()
    assert not (run / "thermal.parquet").exists()
    plan = json.loads(workplace.run("plan", "sweep.yaml", *SMALL[:-1], "--json").stdout)
    assert "temperature sensors" in [gate["gate"] for gate in plan["gates"]]


def test_the_shipped_demo_is_governed_by_a_simulated_device() -> None:
    from runner import sweepfile

    path = Path(__file__).resolve().parents[2] / "configs" / "sweeps" / "thermal_demo.yaml"
    thermal = sweepfile.load(path).settings.thermal
    assert thermal.sensor == "plant"
    assert thermal.plant.heat_wave is not None
    assert not sensors.check(thermal, "cpu")
