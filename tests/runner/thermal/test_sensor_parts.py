"""Sensors as parts: the conformance kit on what ships and on the example, and a sensor of one's own in a sweep file."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isotherm.testing import check_sensor
from runner.thermal import sensors
from runner.thermal.governor import Governor
from runner.thermal.reading import Channel, Reading
from runner.thermal.sensors import SENSORS, SensorHost, hwmon, nvml, sensor
from runner.thermal.spec import ThermalSpec
from tests.runner.thermal.standins import Nvml
from trainables.errors import ConfigError
from trainables.parts import PartConfig, plugins

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "my_sensor.py"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    known, loaded = {part.name: part for part in SENSORS}, dict(plugins._loaded)
    yield
    SENSORS._parts.clear()
    SENSORS._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    plugins.load([plugins.read(EXAMPLE)])
    (tmp_path / "celsius").write_text("51.5\n")
    return tmp_path / "celsius"


def spec_of(path: Path) -> ThermalSpec:
    return ThermalSpec.model_validate({"sensor": {"name": "file", "path": str(path)}})


def test_what_ships_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_sensor("plant")
    (tmp_path / "trace.csv").write_text("time_s,celsius\n0,50\n")
    check_sensor("replay", thermal=ThermalSpec(sensor="replay", replay=str(tmp_path / "trace.csv")))  # type: ignore[arg-type]
    table = {"coretemp": [SimpleNamespace(label="Package id 0", current=45.0, high=80.0, critical=100.0)]}
    monkeypatch.setattr(hwmon.psutil, "sensors_temperatures", lambda: table, raising=False)
    monkeypatch.setattr(nvml, "load_library", lambda: Nvml({"uuid": "GPU-1", "name": "A", "celsius": 60}))
    for name, device in (("hwmon", "cpu"), ("auto", "cpu"), ("nvml", "cuda"), ("auto", "cuda")):
        check_sensor(name, device=device)


def test_the_example_is_under_60_lines_and_keeps_the_contract(file: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    check_sensor("file", path=str(file))


def test_a_sensor_of_ones_own_is_what_the_governor_reads(file: Path) -> None:
    assert sensors.check(spec_of(file), "cpu") == ""
    plugin = plugins.loaded()
    SENSORS._parts.pop("file")  # as in the governor's process, which gets the plugin's text
    plugins._loaded.clear()
    governor = Governor(spec_of(file), "cpu", parts=plugin)
    assert governor.about()["why"] == ""
    assert governor._station is not None
    governor._station.sample()
    assert {one.celsius for one in governor.samples_after(-1)} == {51.5}
    file.write_text("no idea")
    governor._station.sample()
    assert governor.samples_after(-1)[-1].celsius is None  # unknown, never normal


def test_a_sensor_that_is_not_there_is_said(file: Path, tmp_path: Path) -> None:
    assert "none: there is no such file" in sensors.check(spec_of(tmp_path / "none"), "cpu")
    assert "no sensor 'fil' is registered" in sensors.check(ThermalSpec.model_validate({"sensor": "fil"}), "cpu")

    @sensor("broken")
    def broken(config: PartConfig, host: SensorHost) -> Any:
        return 1 // 0

    found = sensors.check(ThermalSpec.model_validate({"sensor": "broken"}), "cpu")
    assert found.startswith("the sensor 'broken' cannot be opened: ZeroDivisionError")


HERE, THERE = (Channel(device=device, part="cpu") for device in ("cpu", "other"))


class Good:
    name = "good"
    channels: tuple[Channel, ...] = (HERE,)

    def __init__(self, config: Any, host: Any) -> None:
        pass

    def read(self, load: float) -> Any:
        return {HERE: Reading(50.0)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"channels": ()}, "needs a channel"),
        ({"channels": (HERE, HERE)}, "distinct"),
        ({"channels": (Channel(device="cpu", part="fan"),)}, "not fan"),  # type: ignore[arg-type]
        ({"read": lambda self, load: {HERE: 50.0}}, "readings are isotherm.Reading"),
        ({"read": lambda self, load: {THERE: Reading(50.0)}}, "not announced"),
        ({"read": lambda self, load: {HERE: Reading(-1.0)}}, "no channel showed a temperature"),
        ({"read": lambda self, load: setattr(self, "channels", (HERE, THERE)) or {HERE: Reading(5.0)}}, "not change"),
    ],
)
def test_the_kit_finds_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    sensor("tried")(type("Tried", (Good,), changes))
    if not message:
        check_sensor("tried")
        return
    with pytest.raises(AssertionError, match=message):
        check_sensor("tried")


def test_a_class_that_is_not_registered_is_refused() -> None:
    with pytest.raises(ConfigError, match="Good is not registered as sensor"):
        check_sensor(Good)
