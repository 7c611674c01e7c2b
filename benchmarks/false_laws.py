"""How often a verdict says 'power law' (or anything but 'flat' or 'not identifiable') where there is none.

    .venv/bin/python benchmarks/false_laws.py             # prints; some ten minutes on one core
    .venv/bin/python benchmarks/false_laws.py --write     # and writes results/false_laws.json

The truth has no law: the loss is the same at every size, or falls as a straight line in log N, or only moves with the
validation period. Noise of the log loss between seeds is from 0.3 % to 3 %: quickstart trials of one size differ by 0.3
to 1 %. `table` is the verdict of `isotherm fit` on the losses of one split. `sweep` is the rule of a sweep's report:
what validation says must come out on test, too, whose noise is drawn anew (with the seeds' own share in common).
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

from runner.scaling import FitOptions, FitTable, fit
from runner.scaling.verdict import NOT_IDENTIFIABLE

RESULTS = Path(__file__).parent / "results" / "false_laws.json"
BOOTSTRAPS = 100
SHARED = 0.5  # share of the noise's variance that a trial's validation and test losses have in common
LOSS = 0.55  # nats; a threshold label of quickstart


@dataclass(frozen=True)
class Truth:
    """A grid without a law: `slope` is the change of log loss over the whole range of sizes."""

    sizes: int
    seeds: int
    noise: float
    slope: float = 0.0
    heavy: bool = False

    def losses(self, random: np.random.Generator) -> tuple[FitTable, FitTable]:
        """Validation and test losses of one sweep."""
        n_params = np.repeat(np.geomspace(5e4, 2e7, self.sizes), self.seeds)
        level = math.log(LOSS) + self.slope * (np.log(n_params) - math.log(5e4)) / math.log(400)
        common = self._draw(random, len(n_params)) * math.sqrt(SHARED)
        tables = []
        for _ in range(2):
            noise = self.noise * (common + self._draw(random, len(n_params)) * math.sqrt(1 - SHARED))
            tables.append(FitTable(n_params, np.exp(level + noise)))
        return tables[0], tables[1]

    def _draw(self, random: np.random.Generator, n: int) -> Any:
        return random.standard_t(3, n) / math.sqrt(3) if self.heavy else random.normal(size=n)


SCENARIOS = {
    "flat, 5 sizes x 1 seed, noise 1 %": Truth(5, 1, 0.01),
    "flat, 5 sizes x 3 seeds, noise 0.3 %": Truth(5, 3, 0.003),
    "flat, 5 sizes x 3 seeds, noise 1 %": Truth(5, 3, 0.01),
    "flat, 5 sizes x 3 seeds, noise 3 %": Truth(5, 3, 0.03),
    "flat, 7 sizes x 1 seed, noise 1 %": Truth(7, 1, 0.01),
    "flat, 7 sizes x 3 seeds, noise 1 %": Truth(7, 3, 0.01),
    "flat, 7 sizes x 3 seeds, heavy tails 3 %": Truth(7, 3, 0.03, heavy=True),
    "flat, 12 sizes x 3 seeds, noise 1 %": Truth(12, 3, 0.01),
    "straight line, -5 %, 7 sizes x 3 seeds, noise 1 %": Truth(7, 3, 0.01, slope=-0.05),
}


def simulate(truth: Truth, tables: int) -> dict[str, Any]:
    counts: dict[str, Counter[str]] = {"table": Counter(), "sweep": Counter()}
    started = time.perf_counter()
    for seed in range(tables):
        validation, test = truth.losses(np.random.default_rng(seed))
        word = _verdict(validation)
        counts["table"][word] += 1
        holds = word == NOT_IDENTIFIABLE or _verdict(test) == word
        counts["sweep"][word if holds else NOT_IDENTIFIABLE] += 1
    return {
        "tables": tables,
        **{name: dict(found.most_common()) for name, found in counts.items()},
        "seconds_per_table": round((time.perf_counter() - started) / tables, 3),
    }


def _verdict(table: FitTable) -> str:
    return fit(table, FitOptions(bootstraps=BOOTSTRAPS, sparing=True)).verdict


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
        document = {"bootstraps": BOOTSTRAPS, "shared_variance": SHARED, "scenarios": ordered}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
