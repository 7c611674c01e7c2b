"""Training throughput of `Trainer` against a plain eager PyTorch loop at equal settings, on one CPU thread.

    .venv/bin/python benchmarks/trainer_throughput.py            # prints the ratios; about two minutes
    .venv/bin/python benchmarks/trainer_throughput.py --write    # and writes results/trainer_throughput.json

The plain loop is what one would write by hand: all windows gathered into one tensor beforehand, the same model, AdamW,
schedule, clipping, the loss read every step, and after every epoch validation loss, AUC, average precision and Brier
score. Both run in one process, epoch by epoch in turns, and the ratio is the median over the turns, so that a busy
machine slows both alike. Above 1 the trainer is faster. The ratio of processor times is given beside that of the clock.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from trainables.data import catalog, windows
from trainables.data.dataset import Dataset
from trainables.data.windows import TrialData
from trainables.models import budget, registry
from trainables.schema import (
    DataShape,
    DataSpec,
    ExecutionRecord,
    ModelSpec,
    ResolvedData,
    ResolvedTask,
    ResolvedTraining,
    TrialSpec,
    parse_budget,
)
from trainables.training.gate import Action
from trainables.training.loop import Trainer
from trainables.training.optim import learning_rate, make_optimizer, set_learning_rate

RESULTS = Path(__file__).parent / "results" / "trainer_throughput.json"
TASK = ResolvedTask(context=60)
BATCH = 128


class StopAfter:
    """Lets a number of units pass (optimizer steps and evaluation batches), then stops."""

    def __init__(self) -> None:
        self.units = 0

    def check(self) -> Action:
        """Count down."""
        self.units -= 1
        return Action.RUN if self.units >= 0 else Action.STOP

    def wait(self, max_seconds: float) -> float:
        """Never called."""
        return 0.0


class OurLoop:
    """The trainer, an epoch at a time."""

    def __init__(self, spec: TrialSpec, data: TrialData) -> None:
        record = ExecutionRecord(micro_batch=BATCH, accumulation=1, threads=1, device="cpu", checkpoint_interval_s=1e9)
        self.gate = StopAfter()
        self.trainer = Trainer(spec, record, data, gate=self.gate)
        self.units = len(data.train) // BATCH + -(-len(data.validation) // BATCH)

    def epoch(self) -> None:
        """Train and validate."""
        self.gate.units = self.units
        report = self.trainer.advance(1e9)
        assert len(report.rows) == 1


class PlainLoop:
    """What one would write by hand."""

    def __init__(self, spec: TrialSpec, data: TrialData) -> None:
        torch.manual_seed(0)
        self.training = spec.training
        self.model = registry.build(spec.model)
        self.optimizer = make_optimizer(self.model, spec.training)
        self.train, self.validation = (part.batch(torch.arange(len(part))) for part in (data.train, data.validation))
        self.steps = len(data.train) // BATCH
        self.step = 0

    def epoch(self) -> dict[str, float]:
        """Train and validate."""
        model, optimizer, training = self.model, self.optimizer, self.training
        x_NLF, y_N = self.train.x_BLF, self.train.y_B
        model.train()
        order_N = torch.randperm(len(y_N))
        losses = []
        for index_B in order_N[: self.steps * BATCH].split(BATCH):
            rate = learning_rate(self.step, total_steps=training.epochs * self.steps, training=training)
            set_learning_rate(optimizer, rate)
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(x_NLF[index_B]), y_N[index_B])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimizer.step()
            losses.append(loss.item())
            self.step += 1
        model.eval()
        with torch.no_grad():
            logits_N = torch.cat([model(x_BLF) for x_BLF in self.validation.x_BLF.split(BATCH)])
        label_N, probability_N = self.validation.y_B.numpy(), torch.sigmoid(logits_N).numpy()
        return {
            "train_loss": float(np.mean(losses)),
            "val_loss": F.binary_cross_entropy_with_logits(logits_N, self.validation.y_B).item(),
            "val_auc": roc_auc_score(label_N, probability_N),
            "val_ap": average_precision_score(label_N, probability_N),
            "val_brier": brier_score_loss(label_N, probability_N),
        }


def measure(spec: TrialSpec, data: TrialData, turns: int) -> dict[str, float | list[float]]:
    loops: dict[str, OurLoop | PlainLoop] = {"trainer": OurLoop(spec, data), "plain": PlainLoop(spec, data)}
    wall: dict[str, list[float]] = {"trainer": [], "plain": []}
    cpu: dict[str, list[float]] = {"trainer": [], "plain": []}
    for turn in range(-1, turns):
        for name in ("trainer", "plain") if turn % 2 else ("plain", "trainer"):
            started, started_cpu = time.perf_counter(), time.process_time()
            loops[name].epoch()
            if turn >= 0:  # the first turn builds and warms up
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - started_cpu)
    ratios, cpu_ratios = (
        [plain / ours for plain, ours in zip(times["plain"], times["trainer"], strict=True)] for times in (wall, cpu)
    )
    samples = len(data.train) // BATCH * BATCH
    return {
        "ratio": round(statistics.median(ratios), 4),
        "cpu_time_ratio": round(statistics.median(cpu_ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "trainer_samples_per_second": round(samples / statistics.median(wall["trainer"]), 1),
        "plain_samples_per_second": round(samples / statistics.median(wall["plain"]), 1),
    }


def make_spec(label: str, dataset: Dataset, resolved: ResolvedData) -> TrialSpec:
    model = ModelSpec()
    data = DataShape(n_features=len(dataset.features), context=TASK.context)
    shape = budget.solve(parse_budget(label), spec=model, data=data)
    training = ResolvedTraining(
        epochs=1000,
        global_batch=BATCH,
        lr=1e-3,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
        loss="bce",
        focal_gamma=2.0,
        class_weight="none",
        early_stopping=None,
        seed=0,
    )
    return TrialSpec(data=resolved, task=TASK, model=shape, training=training, dtype="fp32")


def machine() -> dict[str, str | int]:
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(names) or 1,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": 1,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--budgets", nargs="+", default=["200k", "1m"])
    parser.add_argument("--turns", type=int, default=15, help="epochs of each loop, after one that warms up")
    parser.add_argument("--at-least", type=float, default=0.95, help="exit with 1 if a ratio is lower")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        asked = DataSpec()
        dataset = catalog.load(catalog.prepare(asked, Path(folder)), Path(folder))
    entry = dataset.entry
    resolved = ResolvedData(
        content_sha256=entry.content_sha256,
        assets=entry.assets,
        features=entry.features,
        **asked.model_dump(include={"tier", "timescale", "representation", "scaling", "splits", "fraction"}),
    )
    data = windows.build(dataset, resolved, TASK, torch.device("cpu"))
    results = {}
    for label in options.budgets:
        spec = make_spec(label, dataset, resolved)
        results[label] = measure(spec, data, options.turns)
        print(label, json.dumps(results[label]), flush=True)
    if options.write:
        settings = {"batch": BATCH, "context": TASK.context, "data": "sp500 a20"}
        document = {"machine": machine(), "settings": settings, "results": results}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(result["ratio"] >= options.at_least for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
