"""How often a verdict names a direction or a law where there is none, and misses one that is there.

    .venv/bin/python benchmarks/false_laws.py             # prints; some five minutes on one core
    .venv/bin/python benchmarks/false_laws.py --write     # and writes results/false_laws.json

The loss is the same at every size, or falls as a straight line in log N, or as a power law. A trial's log loss has
noise between seeds (quickstart trials of one size differ by 0.3 to 1 %) and, on each split, noise of the windows that
it is judged on: a part that all trials share and a part of its own. `sweep` is the rule of a sweep's report: loss
resamples of the windows are passed as the report passes them, and what validation says must come out on test (half of
the seeds' variance is common to both). `table` is `isotherm fit` on the losses of validation, where a size has a single
row.
"""

import argparse
import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runner.report.analysis.agreement import ALL, SPLITS, agree
from runner.report.analysis.fits import REFITS
from runner.report.analysis.resamples import COUNT
from runner.scaling import FitOptions, FitTable, direction, fit
from runner.scaling.verdict import without_forms

RESULTS = Path(__file__).parent / "results" / "false_laws.json"
COMMON = 0.5  # share of the seeds' variance that a trial's validation and test losses have in common
PERIOD, OWN = 0.02, 0.003  # deviation of the log loss by the windows: shared by all trials, and a trial's own
OPTIONS = FitOptions(bootstraps=REFITS, sparing=True, replicates=True)  # as the report has them
LOSS = 0.55  # nats; a threshold label of quickstart


@dataclass(frozen=True)
class Truth:
    """A grid: `change` of the log loss over the whole range of sizes, in a straight line or as a power law."""

    sizes: int
    seeds: int
    noise: float
    change: float = 0.0
    law: bool = False
    heavy: bool = False

    def tables(self, random: np.random.Generator) -> list[tuple[FitTable, Any]]:
        """Losses of one sweep on validation and test, each with its resamples."""
        n_params = np.repeat(np.geomspace(5e4, 2e7, self.sizes), self.seeds)
        n = len(n_params)
        way = 1 - (n_params / 5e4) ** -0.3 if self.law else np.log(n_params / 5e4)
        level = math.log(LOSS) + self.change * way / way.max()
        common = self._draw(random, n) * math.sqrt(COMMON)
        made = []
        for _ in SPLITS:
            seeds = self.noise * (common + self._draw(random, n) * math.sqrt(1 - COMMON))
            windows = PERIOD * random.normal() + OWN * random.normal(size=n)
            log_loss = level + seeds + windows
            resamples = PERIOD * random.normal(size=(COUNT, 1)) + OWN * random.normal(size=(COUNT, n))
            made.append((FitTable(n_params, np.exp(log_loss)), np.exp(log_loss + resamples)))
        return made

    def _draw(self, random: np.random.Generator, n: int) -> Any:
        return random.standard_t(3, n) / math.sqrt(3) if self.heavy else random.normal(size=n)


SCENARIOS = {
    "flat, 5 sizes x 1 seed, noise 1 %": Truth(5, 1, 0.01),
    "flat, 5 sizes x 2 seeds, noise 0.3 %": Truth(5, 2, 0.003),
    "flat, 5 sizes x 2 seeds, noise 1 %": Truth(5, 2, 0.01),
    "flat, 5 sizes x 3 seeds, noise 0.3 %": Truth(5, 3, 0.003),
    "flat, 5 sizes x 3 seeds, noise 1 %": Truth(5, 3, 0.01),
    "flat, 5 sizes x 3 seeds, noise 3 %": Truth(5, 3, 0.03),
    "flat, 7 sizes x 1 seed, noise 1 %": Truth(7, 1, 0.01),
    "flat, 7 sizes x 3 seeds, heavy tails 3 %": Truth(7, 3, 0.03, heavy=True),
    "flat, 12 sizes x 3 seeds, noise 1 %": Truth(12, 3, 0.01),
    "straight line, -5 %, 7 sizes x 3 seeds, noise 1 %": Truth(7, 3, 0.01, change=-0.05),
    "power law, -20 %, 5 sizes x 2 seeds, noise 1 %": Truth(5, 2, 0.01, change=-0.2, law=True),
    "power law, -20 %, 7 sizes x 3 seeds, noise 0.3 %": Truth(7, 3, 0.003, change=-0.2, law=True),
}


def simulate(truth: Truth, tables: int) -> dict[str, Any]:
    names = ("table", "table_direction", "validation_direction", "sweep", "sweep_direction", "sweep_form")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    started = time.perf_counter()
    for seed in range(tables):
        made = truth.tables(np.random.default_rng(seed))
        if truth.seeds == 1:  # with seeds a table is judged as validation is
            alone = fit(made[0][0], FitOptions(bootstraps=REFITS, sparing=True))
            counts["table"][alone.verdict] += 1
            counts["table_direction"][alone.direction.word] += 1
        directions, verdicts = {}, {}
        for split, (table, resamples) in zip(SPLITS, made, strict=True):
            directions[split, ALL] = direction(table, OPTIONS, loss_resamples_RN=resamples)
            early = without_forms(directions[split, ALL], truth.sizes)  # the report fits all the same, to show it
            verdicts[split, ALL] = early or fit(table, OPTIONS, loss_resamples_RN=resamples).judged
        found = agree(directions, verdicts, any_unsound=False)
        counts["validation_direction"][directions["validation", ALL].word] += 1
        counts["sweep"][found.verdict] += 1
        counts["sweep_direction"][found.direction] += 1
        counts["sweep_form"][found.form] += 1
    return {
        "tables": tables,
        **{name: dict(found.most_common()) for name, found in counts.items() if found},
        "seconds_per_table": round((time.perf_counter() - started) / tables, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tables", type=int, default=200, help="simulated sweeps a scenario")
    parser.add_argument("--only", default="", help="scenarios whose name holds this; the others' results are kept")
    given = parser.parse_args()
    kept = json.loads(RESULTS.read_text())["scenarios"] if given.only and RESULTS.exists() else {}
    for name, truth in SCENARIOS.items():
        if given.only in name:
            kept[name] = simulate(truth, given.tables)
            print(name, json.dumps(kept[name]), flush=True)
    if given.write:
        ordered = {name: kept[name] for name in SCENARIOS if name in kept}
        document = {
            "resamples": COUNT, "refits": REFITS, "common_variance": COMMON, "period": PERIOD, "own": OWN,
            "scenarios": ordered,
        }  # fmt: skip
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
