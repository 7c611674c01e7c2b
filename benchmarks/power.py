"""Whether the power that a plan predicts is the share of sweeps in which the report names the direction.

    .venv/bin/python benchmarks/power.py             # prints; under a minute on one core
    .venv/bin/python benchmarks/power.py --write     # and writes results/power.json

Losses are simulated window by window: each date has a loss that all trials share, each size differs from the others by
a persistent series of its own, each seed by a number (half of its variance is common to validation and test). The plan
sees two baselines on the validation dates and the spread of the seeds; their difference is resampled as it is before a
sweep (`runner.planning.validation_noise`). The report's rule then decides on the trials: `direction` with resamples of
the blocks of dates, on validation and on test.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runner.planning.validation_noise import of_blocks
from runner.scaling import FitOptions, FitTable, direction
from runner.scaling.direction import FALLS
from runner.scaling.power import COMMON, Grid
from trainables.training.bootstrap import BlockBootstrap

RESULTS = Path(__file__).parent / "results" / "power.json"
LOSS, PERSISTENCE = 0.55, 0.5
OPTIONS = FitOptions(replicates=True, reference_loss=LOSS)


@dataclass(frozen=True)
class Setting:
    """A grid and its truth: `change` of the log loss, `own` deviation of a size's loss on a date, `spread` of seeds."""

    sizes: int
    seeds: int
    dates: int
    own: float
    spread: float
    change: float


SETTINGS = (
    Setting(3, 2, 600, 0.15, 0.005, -0.045),
    Setting(5, 2, 600, 0.10, 0.003, -0.03),
    Setting(7, 3, 1000, 0.10, 0.010, -0.035),
    Setting(5, 3, 1000, 0.30, 0.005, -0.06),
    Setting(7, 5, 400, 0.05, 0.010, -0.03),
)


def persistent(random: np.random.Generator, rows: int, length: int) -> Any:
    """Series [rows, length] of deviation 1 whose neighbours are alike."""
    shocks = random.normal(size=(rows, length)) * np.sqrt(1 - PERSISTENCE**2)
    series = np.empty_like(shocks)
    series[:, 0] = random.normal(size=rows)
    for t in range(1, length):
        series[:, t] = PERSISTENCE * series[:, t - 1] + shocks[:, t]
    return series


def dates(count: int) -> Any:
    """Dates of a split."""
    return np.datetime64("2010-01-01") + np.arange(count)


def of_dates(series_T: Any) -> tuple[Any, Any]:
    """The resamples of the blocks of a split: counts [R, T] of its dates."""
    bootstrap = BlockBootstrap(dates(len(series_T)), series_T, horizon=1, label="power")
    return bootstrap, np.concatenate(list(bootstrap.counts()))


def predicted(setting: Setting, random: np.random.Generator) -> Grid:
    """What a plan knows: the blocks of two baselines' difference, and the spread."""
    one, other = setting.own * LOSS * persistent(random, 2, setting.dates)
    blocks = of_blocks(dates(setting.dates), one - other, horizon=1) / LOSS
    return Grid(setting.sizes, setting.seeds, blocks, setting.spread)


def named(setting: Setting, random: np.random.Generator) -> bool:
    """Whether one sweep's report says that the loss falls."""
    n_params = np.repeat(np.geomspace(5e4, 2e7, setting.sizes), setting.seeds)
    common = random.normal(size=len(n_params)) * np.sqrt(COMMON)
    level = LOSS * np.exp(setting.change * np.linspace(0, 1, setting.sizes)).repeat(setting.seeds)
    words = []
    for _ in range(2):
        own_ST = setting.own * LOSS * persistent(random, setting.sizes, setting.dates)
        shared_T = 0.3 * LOSS * persistent(random, 1, setting.dates)[0]
        seeds = setting.spread * LOSS * (common + random.normal(size=len(n_params)) * np.sqrt(1 - COMMON))
        bootstrap, counts = of_dates(own_ST[0] - own_ST[-1])
        loss = level + seeds + own_ST.mean(axis=1).repeat(setting.seeds) + shared_T.mean()
        drawn = np.stack([bootstrap.means(counts, row + shared_T) for row in own_ST], axis=1)
        resamples = level + seeds + drawn.repeat(setting.seeds, axis=1)
        words.append(direction(FitTable(n_params, loss), OPTIONS, loss_resamples_RN=resamples).word)
    return words == [FALLS, FALLS]


def simulate(setting: Setting, sweeps: int) -> dict[str, Any]:
    started = time.perf_counter()
    random = np.random.default_rng(0)
    plans = [predicted(setting, random) for _ in range(40)]
    mean = replace(plans[0], blocks=float(np.sqrt(np.mean([plan.blocks**2 for plan in plans]))))
    shares = [plan.power(setting.change) for plan in plans]
    return {
        **asdict(setting),
        "blocks": round(mean.blocks, 5),
        "detectable": round(mean.detectable() or 0.0, 4),
        "predicted": round(mean.power(setting.change), 3),
        "predicted_by_a_plan": [round(float(q), 3) for q in np.quantile(shares, (0.1, 0.9))],
        "simulated": round(float(np.mean([named(setting, random) for _ in range(sweeps)])), 3),
        "sweeps": sweeps,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--sweeps", type=int, default=600, help="simulated sweeps a setting")
    given = parser.parse_args()
    found = []
    for setting in SETTINGS:
        found.append(simulate(setting, given.sweeps))
        print(json.dumps(found[-1]), flush=True)
    if given.write:
        RESULTS.write_text(json.dumps({"loss": LOSS, "common_variance": COMMON, "settings": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
