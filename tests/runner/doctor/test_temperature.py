"""Sensors and limits: a simulated device, NVML's stand-in, and a host without any."""

from typing import Any

from runner.doctor import temperature
from runner.thermal.spec import ThermalSpec
from tests.runner.thermal.standins import Nvml

PLANT = {"ambient_celsius": 40.0, "noise_celsius": 0.0}


def spec(**values: Any) -> ThermalSpec:
    return ThermalSpec.model_validate({"sensor": "plant", "plant": PLANT, **values})


def test_a_cool_device_with_its_limits(one: Any) -> None:
    found = one(temperature.check, "temperature", thermal=spec())
    assert found.level == "ok"
    assert "40 °C; holds at" in found.what


def test_a_hot_device(one: Any) -> None:
    found = one(temperature.check, "temperature", thermal=spec(plant={**PLANT, "ambient_celsius": 110.0}))
    assert found.level == "warn"
    assert "wait from the first step" in found.why


def test_a_gpu(place: Any, one: Any) -> None:
    (place.root / "dev/nvidia0").write_text("")
    library = Nvml({"uuid": "GPU-1", "celsius": 41, "slowdown": 90})
    found = one(temperature.check, "temperature", nvml=lambda: library)
    assert found.level == "ok"
    assert "nvml, GPU-1 gpu: 41 °C" in found.what
    assert library.opened == 0


def test_no_sensor_is_an_error_unless_that_is_allowed(one: Any) -> None:
    hwmon = {"chip": "no-such-chip"}
    strict = ThermalSpec.model_validate({"sensor": "hwmon", "hwmon": hwmon})
    found = one(temperature.check, "temperature", thermal=strict)
    assert found.level == "error"
    assert "no-such-chip" in found.what
    allowed = strict.model_copy(update={"require_sensors": False})
    assert one(temperature.check, "temperature", thermal=allowed).level == "warn"
