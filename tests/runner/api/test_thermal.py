"""Temperature protection of a loop of one's own, under a simulated device; without Ray."""

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import isotherm
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
# At full load it would reach 90 degrees within some seconds.
QUICK: dict[str, Any] = {
    "sensor": "plant",
    "plant": {"ambient_celsius": 30, "resistance": 0.2, "time_constant_s": 3, "power_watts": 300},
    "gpu": {"target": 60, "hold": 75, "resume": 55, "stop": 110},
    "interval_s": 0.02,
    "period_s": 0.05,
    "min_hold_s": 0.1,
    "unknown_hold_s": 5,
    "unknown_stop_s": 60,
}
HEAT = {**QUICK["plant"], "heat_wave": {"start_s": 0.3, "end_s": 60, "celsius": 100}}


def opened(thermal: dict[str, Any]) -> isotherm.Governor:
    return isotherm.Governor("cpu", thermal=thermal)


@pytest.fixture
def governor() -> Iterator[isotherm.Governor]:
    with opened(QUICK) as one:
        yield one


def loop(governor: isotherm.Governor) -> Iterator[float]:
    """A plain PyTorch loop; what it waited before each step, the wait for the first reading left out."""
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    governor.wait()
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        waited_s = governor.wait()
        optimizer.zero_grad()
        model(torch.ones(4, 8)).square().mean().backward()
        optimizer.step()
        time.sleep(0.002)
        yield waited_s


def test_a_loop_rests_once_its_device_is_warm(governor: isotherm.Governor) -> None:
    waits = loop(governor)
    assert next(waits) == 0.0
    assert any(waited_s > 0 for waited_s in waits)
    assert governor.celsius is not None
    assert 30 < governor.celsius < 75


def test_at_the_stop_limit_the_loop_is_ended() -> None:
    with opened({**QUICK, "plant": HEAT}) as governor, pytest.raises(isotherm.ThermalStopError, match="110"):
        for _ in loop(governor):
            pass


def test_the_gate_is_for_one_step(governor: isotherm.Governor) -> None:
    done = 0
    for _ in range(3):
        with isotherm.thermal_gate(governor):
            done += 1
    assert done == 3


def test_without_a_sensor_nothing_begins_unless_that_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    missing = {"sensor": "hwmon", "hwmon": {"chip": "no such chip"}}
    with pytest.raises(isotherm.ConfigError, match="no temperature can be read"):
        opened(missing)
    with opened({**missing, "require_sensors": False}) as governor:
        assert governor.wait() == 0.0
        assert governor.celsius is None
    assert "without temperature protection" in caplog.text


def test_wrong_settings_come_together() -> None:
    with pytest.raises(isotherm.ConfigError) as raised:
        opened({"interval_s": -1, "gpu": {"target": 90}})
    assert [problem.place for problem in raised.value.problems] == ["thermal.gpu", "thermal.interval_s"]
    assert "target must lie below hold" in raised.value.problems[0].message


class Trainer:
    """The order of hooks of Lightning's trainer, where it is not installed."""

    def __init__(self, callbacks: list[Any]) -> None:
        self.callbacks = callbacks

    def fit(self, batches: int) -> None:
        for hook, given in (("setup", ("fit",)), *((("on_train_batch_start", (None, i))) for i in range(batches))):
            for callback in self.callbacks:
                getattr(callback, hook)(self, None, *given)
        for callback in self.callbacks:
            callback.teardown(self, None, "fit")


def test_the_callback_for_lightning_waits_before_each_batch(
    governor: isotherm.Governor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("lightning") is None:
        package, module = ModuleType("lightning"), ModuleType("lightning.pytorch")
        module.Callback = object  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "lightning", package)
        monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    spec = importlib.util.spec_from_file_location("callback", ROOT / "examples" / "my_lightning_callback.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    waits: list[float] = []
    wait = governor.wait
    monkeypatch.setattr(governor, "wait", lambda: waits.append(wait()))
    Trainer([example.ThermalGate(governor)]).fit(3)
    assert len(waits) == 3
    assert governor.monitor is not None
