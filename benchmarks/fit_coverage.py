"""How often the 95 % intervals of a fit hold the truth, and how often its verdict is right, by simulation.

    .venv/bin/python benchmarks/fit_coverage.py             # prints; some ten minutes on one core
    .venv/bin/python benchmarks/fit_coverage.py --write     # and writes results/fit_coverage.json

Each scenario draws tables from a known law with Gaussian (or, where it says so, heavy-tailed or contaminated) noise of
the log loss, fits each with the defaults of `isotherm fit` and fewer resamples, and counts. Where the verdict was
'power law' coverage is counted apart: those are the intervals that a reader is given as a finding. Two ways to resample
that are not used are measured beside ours on the smallest tables.
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

from runner.scaling import FitOptions, FitTable, fit, intervals
from runner.scaling.law import DELTA, Design, FitProblem, Floats, Law
from runner.scaling.model_comparison import POWER_LAW

RESULTS = Path(__file__).parent / "results" / "fit_coverage.json"
BOOTSTRAPS = 100


def sizes(n: int, seeds: int, noise: float, *, heavy: bool = False, sweep: bool = False) -> Callable[..., Any]:
    """L = 0.5 + 0.15 (N / 50k)^-0.3 nats at sizes from 50k to 20M."""
    n_params = np.repeat(np.geomspace(5e4, 2e7, n), seeds)
    truth = {"E": 0.5, "alpha": 0.3, "A": 0.15 * 5e4**0.3}

    def draw(random: np.random.Generator) -> tuple[FitTable, Any]:
        loss = truth["E"] + truth["A"] * n_params ** -truth["alpha"]
        error = random.standard_t(3, len(loss)) / math.sqrt(3) if heavy else random.normal(size=len(loss))
        resamples = None
        if sweep:  # seeds and, common to all points, the validation period; a resample moves the latter
            common, spread = 0.02, 0.02
            loss = loss * np.exp(common * random.normal())
            resamples = loss * np.exp(noise * error) * np.exp(spread * random.normal(size=(BOOTSTRAPS, 1)))
        return FitTable(n_params, loss * np.exp(noise * error)), resamples

    return draw, truth


def published(noise: float, outliers: int) -> Callable[..., Any]:
    """240 points as in Besiroglu et al. 2024: compute from 3e18 to 3e21, sizes spread about the optimum."""
    truth = {"E": 1.82, "A": 482.0, "alpha": 0.348, "B": 2085.0, "beta": 0.366}

    def draw(random: np.random.Generator) -> tuple[FitTable, Any]:
        compute = 10 ** random.uniform(18.5, 21.5, 240)
        n_params = np.sqrt(compute / 120) * np.exp(random.normal(0, 0.8, 240))
        n_samples = compute / 6 / n_params
        loss = truth["E"] + truth["A"] * n_params ** -truth["alpha"] + truth["B"] * n_samples ** -truth["beta"]
        error = noise * random.normal(size=240)
        error[:outliers] += random.uniform(0.1, 0.4, outliers)
        return FitTable(n_params, loss * np.exp(error), n_samples), None

    return draw, truth


SCENARIOS = {
    "5 sizes x 1 seed, noise 0.3 %": sizes(5, 1, 0.003),
    "5 sizes x 1 seed, noise 1 %": sizes(5, 1, 0.01),
    "5 sizes x 3 seeds, noise 3 %": sizes(5, 3, 0.03),
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
    held_as_law: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    estimates: dict[str, list[float]] = {name: [] for name in truth}
    started = time.perf_counter()
    for seed in range(tables):
        table, resamples = draw(np.random.default_rng(seed))
        found = fit(table, FitOptions(bootstraps=BOOTSTRAPS), loss_resamples_RN=resamples)
        verdicts[found.verdict] += 1
        for name, value in truth.items():
            low, high = found.intervals[name]
            held[name] += low <= value <= high
            held_as_law[name] += found.verdict == POWER_LAW and low <= value <= high
            estimates[name].append(found.parameters[name])
    laws = verdicts[POWER_LAW]
    return {
        "tables": tables,
        "coverage": {name: held[name] / tables for name in truth},
        "coverage_as_power_law": {name: held_as_law[name] / laws for name in truth} if laws else None,
        "median_estimate": {name: float(np.median(values)) for name, values in estimates.items()},
        "truth": truth,
        "verdicts": dict(verdicts),
        "seconds_per_fit": round((time.perf_counter() - started) / tables, 2),
    }


# ---- ways to resample that are not used --------------------------------------------------------------------------


def plain_residual(design: Design, y_N: Floats, law: Law, random: np.random.Generator) -> Floats:
    """Residuals drawn with replacement about the fit, as they are (Efron 1979)."""
    fitted_N = law.log_losses(design.logs, design.group_N)
    drawn_RN: Floats = fitted_N + random.choice(y_N - fitted_N, size=(BOOTSTRAPS, len(y_N)))
    return drawn_RN


def wild(design: Design, y_N: Floats, law: Law, random: np.random.Generator) -> Floats:
    """Each residual with a sign drawn anew (Wu 1986, with Rademacher signs)."""
    fitted_N = law.log_losses(design.logs, design.group_N)
    drawn_RN: Floats = fitted_N + (y_N - fitted_N) * random.choice([-1.0, 1.0], size=(BOOTSTRAPS, len(y_N)))
    return drawn_RN


OTHERS = {"plain residual bootstrap": plain_residual, "wild bootstrap": wild}
OTHERS_ON = "6 sizes x 1 seed, noise 0.3 %"


def simulate_other(resample: Callable[..., Floats], tables: int) -> dict[str, Any]:
    draw, truth = SCENARIOS[OTHERS_ON]
    held: Counter[str] = Counter()
    for seed in range(tables):
        random = np.random.default_rng(seed)
        table, _ = draw(random)
        design, *_ = table.design()
        y_N = np.log(table.loss)
        problem = FitProblem(design, y_N, DELTA)
        law = problem.fit()
        laws = problem.refit(law, resample(design, y_N, law, random))
        for name, values in (("E", [one.irreducible[0] for one in laws]), ("alpha", [one.exponent(0) for one in laws])):
            low, high = intervals.interval(np.array(values))
            held[name] += low <= truth[name] <= high
    return {"tables": tables, "scenario": OTHERS_ON, "coverage": {name: held[name] / tables for name in held}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tables", type=int, default=120, help="simulated tables a scenario")
    parser.add_argument("--only", default="", help="what has this in its name; the other results are kept")
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if given.only and RESULTS.exists() else {}
    results, others = known.get("scenarios", {}), known.get("not_used", {})
    for name, (draw, truth) in SCENARIOS.items():
        if given.only in name:
            results[name] = simulate(draw, truth, given.tables)
            print(name, json.dumps(results[name]), flush=True)
    for name, resample in OTHERS.items():
        if given.only in name:
            others[name] = simulate_other(resample, given.tables)
            print(name, json.dumps(others[name]), flush=True)
    if given.write:
        ordered = {name: results[name] for name in SCENARIOS if name in results}
        document = {"bootstraps": BOOTSTRAPS, "nominal": 0.95, "scenarios": ordered, "not_used": others}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
