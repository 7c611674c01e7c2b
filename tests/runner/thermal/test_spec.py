"""The block `thermal`: what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runner.config import sweep_file as sweepfile
from runner.thermal.spec import CpuLimits, GpuLimits, HeatWave, MemoryLimits, PlantSpec, ThermalSpec
from trainables.errors import ConfigError


@pytest.mark.parametrize("preset", [GpuLimits(), MemoryLimits(), CpuLimits()])
def test_presets_are_in_order(preset: GpuLimits) -> None:
    assert preset.resume < preset.target < preset.hold < preset.stop


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hold": 80}, "target must lie below hold"),
        ({"resume": 83}, "resume must lie below hold"),
        ({"stop": 83}, "hold must lie below stop"),
        ({"stop": 200}, "between 0 and 150"),
        ({"scale": "headroom"}, "target must lie above hold"),
        ({"scale": "headroom", "target": 10, "hold": 6, "resume": 15, "stop": -1}, "cannot be negative"),
        ({"target": float("nan")}, "finite"),
    ],
)
def test_limits_out_of_order_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GpuLimits(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"unknown_stop_s": 5}, "longer than unknown_hold_s"),
        ({"interval_s": 4}, "two sampling intervals"),
        ({"sensor": "replay"}, r"thermal\.replay"),
        ({"hold_samples": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ThermalSpec(**values)


def test_a_plant_makes_sense() -> None:
    with pytest.raises(ValidationError, match="below power_watts"):
        PlantSpec(power_watts=100, idle_power_watts=100)
    with pytest.raises(ValidationError, match="end after its start"):
        PlantSpec(dropout=((5, 5),))
    with pytest.raises(ValidationError, match="after start_s"):
        HeatWave(start_s=5, end_s=5, celsius=10)


def test_a_sweep_file_says_where_limits_are_wrong(sweep_file: Callable[..., Path]) -> None:
    path = sweep_file(append="  gpu: {target: 90}\n  interval: 2\n")
    with pytest.raises(ConfigError) as error:
        sweepfile.load(path)
    text = str(error.value)
    assert "target must lie below hold" in text
    assert "sweep.yaml:" in text
    assert "did you mean 'interval_s'" in text
