"""Does the best learning rate stay the same over sizes, with muP and without?

    .venv/bin/python benchmarks/mup_transfer.py            # prints a table; about eight minutes on one core
    .venv/bin/python benchmarks/mup_transfer.py --write    # and writes results/mup_transfer.json

PatchTST at several budgets, which differ in width and depth, on bars with a planted structure that no size exhausts, at
a ladder of learning rates, each with a few seeds, by the trainer. muP's base is the smallest budget: the two are equal
there. Of each size and parametrization the optimum is the vertex of a parabola through the mean validation losses of
the best rate and its neighbours, in the logarithm of the rate. What transfer is worth is the loss that a size has at
the best rate of the smallest size, above its own best.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from runner.config import sweep_file
from runner.config.yaml_lines import parse
from runner.planning import grid
from runner.scaling.rule import vertex
from tests.integration.planted import write_bars
from trainables.data import catalog, windows
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer

RESULTS = Path(__file__).parent / "results" / "mup_transfer.json"
RATE, PARAMETRIZATION = "training.lr", "training.parametrization"


def sweep_of(bars: list[str], options: argparse.Namespace) -> sweep_file.Sweep:
    """All trials as one grid."""
    config = {
        "name": "mup",
        "data": {"source": bars, "tier": "ohlcv"},
        "task": {"kind": "direction", "context": 4},
        "model": {"name": "patchtst", "patch": 1, "dropout": 0.0},
        "training": {
            "epochs": options.epochs,
            "global_batch": 128,
            "weight_decay": 0.01,
            "mup_base": options.budgets[0],
        },
        "grid": {
            "budget": options.budgets,
            PARAMETRIZATION: ["standard", "mup"],
            RATE: options.rates,
            "seed": list(range(options.seeds)),
        },
        "execution": {"device": "cpu", "micro_batch": 128, "threads": 1},
        "thermal": {"require_sensors": False},
        "tracking": {"mlflow": None, "wandb": None},
    }
    return sweep_file.understand(parse(json.dumps(config), None), {})


def train(cell: grid.Cell, data: windows.TrialData) -> float:
    """Validation loss of one trial; infinite where it diverged."""
    trainer = Trainer(cell.spec, cell.record, data, gate=NullGate())
    while not trainer.done:
        trainer.advance(60.0)
    result = trainer.result()
    loss = result.columns_by_split["val_loss"]
    return float("inf") if result.diverged or loss is None else loss


def optimum(losses: dict[float, float]) -> float:
    """The best rate, of a parabola through the best one tried and its neighbours."""
    rates = sorted(rate for rate, loss in losses.items() if np.isfinite(loss))
    best = int(np.argmin([losses[rate] for rate in rates]))
    near = rates[max(0, best - 1) : best + 2]
    return float(10 ** vertex(np.log10(near), np.array([losses[rate] for rate in near])))


def summary(losses: dict[tuple[str, str], dict[float, float]], budgets: list[str]) -> dict[str, Any]:
    """By parametrization: optimum and losses by size, and what the smallest size's rate costs the others."""
    found: dict[str, Any] = {}
    for name in ("standard", "mup"):
        first = min(losses[name, budgets[0]], key=lambda rate: losses[name, budgets[0]][rate])
        found[name] = {
            budget: {
                "optimum": round(optimum(losses[name, budget]), 6),
                "best_loss": round(min(losses[name, budget].values()), 5),
                "loss_at_the_smallest_sizes_rate": round(losses[name, budget][first], 5),
                "losses": {f"{rate:g}": round(loss, 5) for rate, loss in losses[name, budget].items()},
            }
            for budget in budgets
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--budgets", nargs="+", default=["20k", "100k", "500k"])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.0005 * 2**power for power in range(7)])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--assets", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        bars = write_bars(Path(folder), assets=options.assets, bars=2400)
        cells = grid.expand(sweep_of(bars, options), Path(folder)).cells
        spec = cells[0].spec
        data = windows.build(catalog.load(cells[0].entry, Path(folder)), spec.data, spec.task, torch.device("cpu"))
        for cell in cells:
            rate, name = float(cell.axes[RATE]), str(cell.axes[PARAMETRIZATION])
            runs[name, cell.labels["budget"]][rate].append(loss := train(cell, data))
            print(f"{cell.name}: {loss:.5f}", flush=True)
    losses = {place: {rate: fmean(of) for rate, of in by_rate.items()} for place, by_rate in runs.items()}
    results = summary(losses, options.budgets)
    for name, sizes in results.items():
        for budget, one in sizes.items():
            print(name, budget, {key: value for key, value in one.items() if key != "losses"})
    if options.write:
        machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": 1}
        settings = {key: value for key, value in vars(options).items() if key != "write"}
        shapes = {cell.labels["budget"]: cell.spec.model.shape for cell in cells}
        document = {
            "machine": {**machine, "date": datetime.now(UTC).date().isoformat()},
            "settings": {**settings, "windows": len(data.train), "shapes": shapes},
            "results": results,
        }
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
