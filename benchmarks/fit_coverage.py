"""How often the 95 % intervals of a fit hold the truth, and how often its verdict is right, by simulation.

    .venv/bin/python benchmarks/fit_coverage.py             # prints; some ten minutes on one core
    .venv/bin/python benchmarks/fit_coverage.py --write     # and writes results/fit_coverage.json

Each scenario draws tables from a known law with Gaussian (or, where it says so, heavy-tailed or contaminated) noise of
the log loss, fits each with the defaults of `isotherm fit` and fewer resamples, and counts.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runner.scaling import Options, Table, fit

RESULTS = Path(__file__).parent / "results" / "fit_coverage.json"
BOOTSTRAPS = 100


def sizes(n: int, seeds: int, noise: float, *, heavy: bool = False, sweep: bool = False) -> Callable[..., Any]:
    """L = 0.5 + 0.15 (N / 50k)^-0.3 nats at sizes from 50k to 20M."""
    n_params = np.repeat(np.geomspace(5e4, 2e7, n), seeds)
    truth = {"E": 0.5, "alpha": 0.3, "A": 0.15 * 5e4**0.3}

    def draw(random: np.random.Generator) -> tuple[Table, Any]:
        loss = truth["E"] + truth["A"] * n_params ** -truth["alpha"]
        error = random.standard_t(3, len(loss)) / math.sqrt(3) if heavy else random.normal(size=len(loss))
        resamples = None
        if sweep:  # seeds and, common to all points, the validation period; a resample moves the latter
            common, spread = 0.02, 0.02
            loss = loss * np.exp(common * random.normal())
            resamples = loss * np.exp(noise * error) * np.exp(spread * random.normal(size=(BOOTSTRAPS, 1)))
        return Table(n_params, loss * np.exp(noise * error)), resamples

    return draw, truth


def published(noise: float, outliers: int) -> Callable[..., Any]:
    """240 points as in Besiroglu et al. 2024: compute from 3e18 to 3e21, sizes spread about the optimum."""
    truth = {"E": 1.82, "A": 482.0, "alpha": 0.348, "B": 2085.0, "beta": 0.366}

    def draw(random: np.random.Generator) -> tuple[Table, Any]:
        compute = 10 ** random.uniform(18.5, 21.5, 240)
        n_params = np.sqrt(compute / 120) * np.exp(random.normal(0, 0.8, 240))
        n_samples = compute / 6 / n_params
        loss = truth["E"] + truth["A"] * n_params ** -truth["alpha"] + truth["B"] * n_samples ** -truth["beta"]
        error = noise * random.normal(size=240)
        error[:outliers] += random.uniform(0.1, 0.4, outliers)
        return Table(n_params, loss * np.exp(error), n_samples), None

    return draw, truth


SCENARIOS = {
    "5 sizes x 3 seeds, noise 0.3 %": sizes(5, 3, 0.003),
    "5 sizes x 3 seeds, noise 1 %": sizes(5, 3, 0.01),
    "6 sizes x 1 seed, noise 0.3 %": sizes(6, 1, 0.003),
    "8 sizes x 1 seed, noise 1 %": sizes(8, 1, 0.01),
    "12 sizes x 3 seeds, noise 1 %": sizes(12, 3, 0.01),
    "12 sizes x 3 seeds, heavy tails 1 %": sizes(12, 3, 0.01, heavy=True),
    "sweep: 5 sizes x 3 seeds, noise 0.3 %, validation period 2 %": sizes(5, 3, 0.003, sweep=True),
    "240 points, two variables, noise 1 %": published(0.01, 0),
    "240 points, two variables, noise 1 %, 8 outliers": published(0.01, 8),
}


def simulate(draw: Callable[..., Any], truth: dict[str, float], tables: int) -> dict[str, Any]:
    held: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    estimates: dict[str, list[float]] = {name: [] for name in truth}
    started = time.perf_counter()
    for seed in range(tables):
        table, resamples = draw(np.random.default_rng(seed))
        found = fit(table, Options(bootstraps=BOOTSTRAPS), loss_resamples_RN=resamples)
        verdicts[found.verdict] += 1
        for name, value in truth.items():
            low, high = found.intervals[name]
            held[name] += low <= value <= high
            estimates[name].append(found.parameters[name])
    return {
        "tables": tables,
        "coverage": {name: held[name] / tables for name in truth},
        "median_estimate": {name: float(np.median(values)) for name, values in estimates.items()},
        "truth": truth,
        "verdicts": dict(verdicts),
        "seconds_per_fit": round((time.perf_counter() - started) / tables, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tables", type=int, default=200, help="simulated tables a scenario")
    given = parser.parse_args()
    results = {}
    for name, (draw, truth) in SCENARIOS.items():
        results[name] = simulate(draw, truth, given.tables)
        print(name, json.dumps(results[name]), flush=True)
    if given.write:
        document = {"bootstraps": BOOTSTRAPS, "nominal": 0.95, "scenarios": results}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
