"""The temperature policy on random simulated devices, an hour each: duty cycle beside bang-bang.

    .venv/bin/python benchmarks/thermal_policy.py                 # 300 devices; prints the figures, about a minute
    .venv/bin/python benchmarks/thermal_policy.py --write         # and writes results/thermal_policy.json

Devices: ambient 20 to 45 C, time constant 15 to 120 s, at full power heating by at most 1 degree a second at the target
(a quarter of them by just that), readings in whole degrees, up to 3 s late (half of them by just that), with noise of a
standard deviation up to 1 (a third at just that). Hold is 3 degrees above the target. Exit code 1 where a bound is
missed.
"""

import argparse
import json
import platform
import random
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.thermal.policy import Limits, Rules, Strategy
from runner.thermal.simulation.simulate import Outcome, run, sustainable_duty
from runner.thermal.spec import PlantSpec

RESULTS = Path(__file__).parent / "results" / "thermal_policy.json"
SECONDS = 3600.0
TARGETS = (70.0, 75.0, 80.0, 85.0)


def draw(rng: random.Random) -> tuple[PlantSpec, Limits]:
    """A random device with its limits."""
    target = rng.choice(TARGETS)
    ambient, constant_s = rng.uniform(20, 45), rng.uniform(15, 120)
    heating = 1.0 if rng.random() < 0.25 else rng.uniform(-0.2, 1.0)  # degrees a second at the target, at full power
    rise = max(target - ambient + heating * constant_s, 5.0)
    power = rng.uniform(100, 700)
    plant = PlantSpec(
        ambient_celsius=ambient,
        resistance=rise / power,
        time_constant_s=constant_s,
        power_watts=power,
        idle_power_watts=power * rng.choice((0.0, rng.uniform(0.0, 0.15))),
        noise_celsius=rng.choice((1.0, 0.0, rng.random())),
        quantum_celsius=1.0,
        delay_s=rng.choice((3.0, rng.uniform(0, 3))),
        seed=rng.randrange(2**31),
    )
    return plant, Limits(target=target, hold=target + 3, resume=target - 5, stop=target + 9)


def simulate(devices: Sequence[tuple[PlantSpec, Limits]], strategy: Strategy) -> list[Outcome]:
    return [run(plant, Rules(limits=limits, strategy=strategy), SECONDS) for plant, limits in devices]


def figures(devices: Sequence[tuple[PlantSpec, Limits]], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Worst and median of what is bounded."""
    over = [outcome.max_celsius - limits.hold for (_, limits), outcome in zip(devices, outcomes, strict=True)]
    fractions = [outcome.limit_fraction for outcome in outcomes if outcome.limit_fraction is not None]
    swings = [outcome.swing_celsius for outcome in outcomes]
    return {
        "highest_above_hold_celsius": max(over),
        "limit_fraction_min": min(fractions),
        "limit_fraction_median": statistics.median(fractions),
        "swing_celsius_max": max(swings),
        "swing_celsius_median": statistics.median(swings),
        "holds_max": max(outcome.n_holds for outcome in outcomes),
        "holds_second_half_total": sum(outcome.n_holds_second_half for outcome in outcomes),
        "seconds_held_mean": statistics.fmean(outcome.seconds_held for outcome in outcomes),
        "throughput_fraction_mean": statistics.fmean(outcome.throughput_fraction for outcome in outcomes),
        "dips_total": sum(outcome.n_dips for outcome in outcomes),
    }


def missed(duty: dict[str, Any]) -> list[str]:
    """Bounds that the duty cycle misses."""
    bounds = {
        "never above hold": duty["highest_above_hold_celsius"] <= 0,
        "limit_fraction at least 0.98": duty["limit_fraction_min"] >= 0.98,
        "swing below 3 degrees": duty["swing_celsius_max"] < 3,
        "at most 3 holds": duty["holds_max"] <= 3,
        "no hold in the second half": duty["holds_second_half_total"] == 0,
    }
    return [name for name, met in bounds.items() if not met]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    devices = [draw(rng) for _ in range(given.devices)]
    strategies: tuple[Strategy, ...] = ("duty_cycle", "bang_bang")
    measured = {strategy: figures(devices, simulate(devices, strategy)) for strategy in strategies}
    limited = sum(sustainable_duty(plant, limits.target) < 1 for plant, limits in devices)
    document = {
        "what": "policy on random simulated devices, an hour each",
        "devices": given.devices,
        "devices_that_need_throttling": limited,
        "seed": given.seed,
        **measured,
        "python": platform.python_version(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(json.dumps(document, indent=2))
    if given.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    wrong = missed(measured["duty_cycle"])
    print("missed: " + ", ".join(wrong) if wrong else "all bounds are met", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
