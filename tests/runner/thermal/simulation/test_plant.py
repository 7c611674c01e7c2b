"""The simulated device, and the policy against it."""

import math
import random

import pytest

from benchmarks.thermal_policy import draw, figures, missed, simulate
from runner.thermal.policy import Limits, Rules
from runner.thermal.simulation import simulate as simulation
from runner.thermal.simulation.plant import Plant
from runner.thermal.spec import HeatWave, PlantSpec
from trainables.errors import ConfigError

RULES = Rules(Limits(target=80, hold=83, resume=75, stop=89))


def test_it_follows_newtons_law() -> None:
    plant = Plant(PlantSpec(ambient_celsius=20, resistance=0.1, time_constant_s=50, power_watts=400, quantum_celsius=0))
    plant.run(50, 1.0)
    assert plant.celsius == pytest.approx(20 + 40 * (1 - math.exp(-1)))
    for _ in range(500):
        plant.run(1, 0.5)
    assert plant.celsius == pytest.approx(40, abs=0.01)
    reading = plant.read()
    assert reading.celsius == pytest.approx(plant.celsius)


def test_small_steps_and_large_ones_agree() -> None:
    one, many = (Plant(PlantSpec(quantum_celsius=0)) for _ in range(2))
    one.run(30, 0.7)
    for _ in range(300):
        many.run(0.1, 0.7)
    assert one.celsius == pytest.approx(many.celsius)


def test_readings_are_late_rounded_noisy_and_sometimes_missing() -> None:
    late = Plant(PlantSpec(ambient_celsius=20, quantum_celsius=0, delay_s=3))
    exact = Plant(PlantSpec(ambient_celsius=20, quantum_celsius=0))
    shown, true = [], []
    for _ in range(20):
        late.run(1, 1.0)
        exact.run(1, 1.0)
        shown.append(late.read().celsius)
        true.append(exact.read().celsius)
    assert shown[3:] == pytest.approx(true[:-3])
    assert shown[:3] == [20, 20, 20]
    coarse = Plant(PlantSpec(ambient_celsius=21.3, quantum_celsius=0.5))
    assert coarse.read().celsius == 21.5
    noisy = Plant(PlantSpec(ambient_celsius=50, noise_celsius=1, quantum_celsius=0, seed=3))
    values = [noisy.read().celsius or 0.0 for _ in range(2000)]
    mean = sum(values) / len(values)
    assert mean == pytest.approx(50, abs=0.1)
    assert math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) == pytest.approx(1, abs=0.05)
    silent = Plant(PlantSpec(dropout=((1, 2),)))
    assert silent.read().good
    silent.run(1.5, 1.0)
    assert not silent.read().good


def test_a_seed_repeats_itself() -> None:
    same = [simulation.run(PlantSpec(noise_celsius=1, seed=5, power_watts=400), RULES, 600) for _ in range(2)]
    assert same[0] == same[1]
    assert simulation.run(PlantSpec(noise_celsius=1, seed=6, power_watts=400), RULES, 600) != same[0]


def test_a_heat_wave_comes_and_goes() -> None:
    plant = Plant(PlantSpec(ambient_celsius=20, heat_wave=HeatWave(start_s=10, end_s=20, celsius=30)))
    seen = []
    for _ in range(3):
        seen.append(plant.ambient())
        plant.run(10, 0.0)
    assert seen == [20, 50, 20]


def test_a_dozen_random_devices_keep_the_bounds() -> None:
    rng = random.Random(7)
    devices = [draw(rng) for _ in range(12)]
    assert not missed(figures(devices, simulate(devices, "duty_cycle")))


@pytest.mark.slow
def test_two_hundred_random_devices_keep_the_bounds_and_bang_bang_does_not() -> None:
    rng = random.Random(2024)
    devices = [draw(rng) for _ in range(200)]
    assert not missed(figures(devices, simulate(devices, "duty_cycle")))
    assert missed(figures(devices[:20], simulate(devices[:20], "bang_bang")))


def test_a_cool_device_is_never_held_back() -> None:
    outcome = simulation.run(PlantSpec(power_watts=150, noise_celsius=1), RULES, 1200)
    assert outcome.throughput_fraction == 1.0
    assert outcome.limit_fraction == 1.0
    assert outcome.final_state == "normal"


def test_a_device_that_is_too_hot_at_rest_is_said_to_be() -> None:
    plant = {"ambient_celsius": 40, "resistance": 0.2, "power_watts": 400, "idle_power_watts": 230}
    outcome = simulation.run(PlantSpec.model_validate(plant), RULES, 600)
    assert outcome.limit_fraction is None
    assert outcome.idle_exceeds is not None
    assert "86.0 C, hold is 83" in outcome.idle_exceeds


def test_a_dropout_holds_and_a_long_one_stops() -> None:
    short = simulation.run(PlantSpec(dropout=((100, 103),)), RULES, 300)
    assert short.n_holds == 0
    held = simulation.run(PlantSpec(dropout=((100, 160),)), RULES, 300)
    assert (held.n_holds, held.final_state != "stop") == (1, True)
    assert simulation.run(PlantSpec(dropout=((100, 300),)), RULES, 300).final_state == "stop"


def test_all_wrong_options_are_named_together() -> None:
    limits = {"target": 80.0, "hold": 70.0, "resume": None, "stop": None}
    with pytest.raises(ConfigError) as error:
        simulation.from_options({"resistance": -1}, limits, ["5"], seconds=0, strategy="x")
    text = str(error.value)
    for part in ("--policy", "--seconds", "--dropout", "resistance", "target must lie below hold"):
        assert part in text
