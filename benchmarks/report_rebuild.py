"""How long a report takes to be built again from the directory of a run of 200 trials.

run: .venv/bin/python benchmarks/report_rebuild.py

The run is synthetic: 5 sizes x 4 horizons x 10 seeds with 8 epochs each, 12 metrics between two epochs, predictions of
700 validation and 700 test windows a trial, and four baselines a horizon. Once losses follow a power law at every
horizon, so that every fit is made, with all its resamples; once they follow none.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from runner.rundir.ledger import (
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.rundir.paths import RunPaths

RESULTS = Path(__file__).parent / "results" / "report_rebuild.json"
SIZES = (20_000, 80_000, 320_000, 1_280_000, 5_120_000)
HORIZONS = (1, 2, 3, 5)
SEEDS = range(10)
BASELINES = ("prior", "volatility", "linear", "boosted_trees")
WINDOWS, EPOCHS, SLICES, STEPS = 700, 8, 12, 216
LIMIT_S = 10.0  # what is promised
REPEATS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    found = {
        "limit_seconds": LIMIT_S,
        "with_a_law_at_every_horizon": measure(law=True),
        "without_a_law": measure(law=False),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_average": round(os.getloadavg()[0], 1),
        },
    }
    print(json.dumps(found, indent=1))
    if options.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def measure(*, law: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder) / "synthetic")
        with patch("os.fsync"):  # writing the run is not what is measured
            trials = write(paths, law=law)
        built = [build(paths) for _ in range(REPEATS)]
        return {
            "trials": trials,
            "baselines": len(BASELINES) * len(HORIZONS),
            "ledger_bytes": paths.ledger.stat().st_size,
            "figures": len(list(paths.figures.glob("*.png"))),
            "html_bytes": paths.report_html.stat().st_size,
            "seconds": [round(wall, 2) for wall, _ in built],
            "processor_seconds": [round(used, 2) for _, used in built],
        }


def build(paths: RunPaths) -> tuple[float, float]:
    """Seconds of the whole command, its start included: by the clock, and of the processor.

    The second is nearly what a machine with nothing else to do would need, as the command uses one core.
    """
    before, started = processor_seconds(), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "runner", "report", str(paths.root)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started, processor_seconds() - before


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write(paths: RunPaths, *, law: bool) -> int:
    """A run directory as a sweep leaves it; returns the number of trials."""
    cells = [(size, horizon, seed) for horizon in HORIZONS for size in SIZES for seed in SEEDS]
    ledger = Ledger(paths.ledger)
    keys = tuple(key_of(*cell) for cell in cells)
    ledger.append(SweepStarted(run="synthetic", keys=keys, config={}, code_version="x", versions={}))
    paths.predictions.mkdir(parents=True)
    for horizon in HORIZONS:
        for name in BASELINES:
            for record in baseline(name, horizon):
                ledger.append(record)
    for cell in cells:
        for record in trial(*cell, law=law):
            ledger.append(record)
        predictions(*cell, law=law).to_parquet(paths.prediction(key_of(*cell)), index=False)
    ledger.append(SweepEnded(exit_code=0, counts={}))
    ledger.close()
    return len(cells)


def key_of(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def spec(horizon: int) -> dict[str, object]:
    data = {"content_sha256": "0" * 64, "assets": ["x"], "features": [f"feature_{i}" for i in range(20)], "splits": {}}
    return {"data": data, "task": {"kind": "direction", "context": 60, "horizon": horizon}}


def recorded(key: str, name: str, horizon: int, **more: object) -> CellRecorded:
    sizes = {"n_train": 3000, "n_val": WINDOWS, "n_test": WINDOWS, "n_val_effective": WINDOWS // horizon}
    labels = {"horizon": horizon, "tier": "a20", "timescale": "daily", "data_fraction": 1.0}
    given = {"labels": labels, "sizes": sizes, "spec": spec(horizon), **more}
    return CellRecorded(key=key, name=name, **given)


def result(loss: float) -> dict[str, object]:
    skill = 1 - loss / np.log(2)
    return {
        "epochs": EPOCHS, "best_epoch": 5, "steps": STEPS, "collapsed": False, "prior_loss": float(np.log(2)),
        "val_loss": loss, "val_loss_low": loss - 0.02, "val_loss_high": loss + 0.02, "skill": skill,
        "skill_low": skill - 0.03, "skill_high": skill + 0.03, "val_auc": 0.7, "val_auc_low": 0.65,
        "val_auc_high": 0.75, "test_loss": loss + 0.01, "test_skill": skill - 0.01, "train_seconds": 3.0,
        "evaluation_seconds": 0.2, "held_seconds": 0.0, "throttled_seconds": 0.0, "samples_per_second": 9000.0,
        "peak_bytes": 700_000_000,
    }  # fmt: skip


def trial(size: int, horizon: int, seed: int, *, law: bool) -> list[AnyRecord]:
    key, loss = key_of(size, horizon, seed), expected_loss(size if law else SIZES[0], seed)
    labels = {"budget": f"{size // 1000}k", "model": "patchtst", "horizon": horizon, "tier": "a20", "seed": seed}
    labels |= {"timescale": "daily", "data_fraction": 1.0, "axes": {}}
    training = {"training": {"global_batch": 128, "seed": seed}, "model": {"name": "mlp", "width": size}}
    cell = recorded(
        key, f"{size // 1000}k-h{horizon}-s{seed}", horizon, labels=labels, n_params=size,
        n_params_non_embedding=size, spec=spec(horizon) | training,
    )  # fmt: skip
    execution = {"micro_batch": 128, "device": "cpu"}
    records: list[AnyRecord] = [cell, AttemptStarted(key=key, attempt=1, execution=execution, device_name="cpu")]
    for step in range(1, EPOCHS * SLICES + 1):
        values: dict[str, float | None] = {"step_loss": loss}
        if step % SLICES == 0:
            values |= {"val_loss": loss + 0.01 * abs(step / SLICES - 5), "train_loss": loss, "skill": 0.1, "lr": 1e-3}
        records.append(MetricsRecorded(key=key, attempt=1, step=step, epoch=step // SLICES, values=values))
    return [*records, CellEnded(key=key, attempt=1, status="finished", result=result(loss))]


def baseline(name: str, horizon: int) -> list[AnyRecord]:
    key = key_of(name, horizon)
    labels = {"model": name, "horizon": horizon, "tier": "a20", "timescale": "daily", "data_fraction": 1.0}
    return [
        recorded(key, f"{name}-h{horizon}", horizon, cell_kind="baseline", labels=labels),
        AttemptStarted(key=key, attempt=1, execution={}),
        CellEnded(key=key, attempt=1, status="finished", result=result(0.62)),
    ]


def expected_loss(size: int, seed: int) -> float:
    return 0.45 + 0.15 * float(size / SIZES[0]) ** -0.3 + 0.001 * (seed - 4.5)


def predictions(size: int, horizon: int, seed: int, *, law: bool) -> pd.DataFrame:
    """Logits that are the better the larger the size, on labels that all trials share."""
    truth = np.random.default_rng(horizon).normal(size=2 * WINDOWS)
    noise = np.random.default_rng([size, horizon, seed]).normal(size=2 * WINDOWS)
    signal = 2.0 - (float(size / SIZES[0]) ** -0.3 if law else 1.0)
    return pd.DataFrame(
        {
            "date": pd.date_range("2010-01-01", periods=2 * WINDOWS, freq="B"),
            "asset": "x",
            "split": np.repeat(["validation", "test"], WINDOWS),
            "label": (truth > 0).astype(np.float64),
            "logit": signal * truth + 0.5 * noise,
        }
    )


if __name__ == "__main__":
    main()
