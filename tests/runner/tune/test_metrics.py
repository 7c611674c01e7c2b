"""What a sweep gives to Ray's metrics; Ray's own gauge is the boundary."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.util import metrics as ray_metrics

from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, LedgerView, SweepStarted
from runner.thermal.monitor import Sample
from runner.thermal.policy import Limits
from runner.tune.metrics import STATES, RayMetrics

Told = dict[tuple[str, ...], float]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The newest value of each gauge and tags, as Ray's validated call takes them."""
    values: Told = {}

    def keep(self: Any, value: float, tags: dict[str, str] | None = None) -> None:
        found = self._get_final_tags(tags)
        values[(self._name, *(found[key] for key in self._tag_keys))] = value

    monkeypatch.setattr(ray_metrics.Gauge, "set", keep)
    return values


def test_trials_are_counted_by_state_as_the_ledger_has_them(told: Told) -> None:
    view, metrics = LedgerView(), RayMetrics("first")
    records = [
        SweepStarted(run="first", keys=("a" * 12, "b" * 12, "c" * 12), config={}, code_version="1", versions={}),
        *(CellRecorded(key=key * 12, name=key, labels={}, sizes={}, spec={}) for key in "abc"),
        *(AttemptStarted(key=key * 12, attempt=1, execution={}) for key in "ab"),
        CellEnded(key="a" * 12, attempt=1, status="finished"),
    ]
    for seq, record in enumerate(records):
        numbered = record.model_copy(update={"seq": seq})
        view.apply(numbered)
        metrics.on_record(numbered, view)
    counts = {state: told["isotherm_trials", "first", state] for state in STATES}
    assert {state: n for state, n in counts.items() if n} == {"finished": 1, "running": 1, "waiting": 1}


def test_held_time_and_throughput_are_those_of_the_trial_without_its_waits(told: Told) -> None:
    metrics = RayMetrics("first")
    trial = SimpleNamespace(config={"job": {"key": "k1", "global_batch": 128}})
    metrics.on_trial_result(1, [], trial, {"kind": "waiting"})
    metrics.on_trial_result(2, [], trial, {"step": 10, "train_s": 4.0, "held_s": 0.0})
    metrics.on_trial_result(3, [], trial, {"step": 30, "train_s": 6.0, "held_s": 55.0})
    assert told["isotherm_held_seconds", "first", "k1"] == 55
    assert told["isotherm_samples_per_second", "first", "k1"] == 20 * 128 / 2


def test_temperatures_and_levels_are_by_device(told: Told) -> None:
    def sample(device: str, celsius: float | None, state: str) -> Sample:
        now = datetime.now(UTC)
        limits = Limits(80, 83, 75, 89)
        return Sample(1, now, device, "nvml", "gpu", celsius, state, 1.0, None, None, "", "", limits)

    RayMetrics("first").on_samples(
        "0123456789", [sample("0", 70, "normal"), sample("0", 84, "hold"), sample("1", None, "stop")]
    )
    assert told["isotherm_temperature_celsius", "first", "01234567", "0", "nvml gpu"] == 84
    assert told["isotherm_thermal_level", "first", "01234567", "0", "nvml gpu"] == 2
    assert told["isotherm_thermal_level", "first", "01234567", "1", "nvml gpu"] == 4
    assert ("isotherm_temperature_celsius", "first", "01234567", "1", "nvml gpu") not in told


def test_the_page_names_every_metric(told: Told) -> None:
    text = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
    made = vars(RayMetrics("first")).values()
    names = {one._name for one in made if isinstance(one, ray_metrics.Gauge)}
    assert len(names) == 5
    assert all(f"`ray_{name}`" in text for name in names)
