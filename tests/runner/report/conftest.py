"""Writes run directories as a sweep would, through the ledger itself, with known outcomes."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from runner.report.build import ReportFiles, build
from runner.rundir.ledger import (
    AttemptStarted,
    CellEnded,
    CellRecorded,
    EventRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.rundir.paths import RunPaths
from trainables.schema import parse_budget

PRIOR = {1: 0.5642, 2: 0.6521, 3: 0.6893, 5: 0.6718}
EVIL = "<script>alert('x')</script> | `tick` \"quote\" *b* [l](javascript:x) & Ünï→ 漢 $x^2$ \u202egnp.exe"


@dataclass(frozen=True)
class Cell:
    """One cell of a generated grid and what becomes of it."""

    budget: str
    horizon: int = 1
    seed: int = 0
    fate: str = "finished"  # a status, or: collapsed, under-trained, running, waiting, unrecorded
    model: str = "patchtst"
    timescale: str = "daily"
    fraction: float = 1.0
    axes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    reason: str = ""
    loss: float | None = None
    threshold: float = 0.01
    code_version: str = "0.1.0+g3f2a9c1"
    share: float = 0.996  # of the budget that the shape has
    role: str = ""

    @property
    def key(self) -> str:
        parts = (self.budget, self.horizon, self.seed, self.model, self.timescale, self.fraction, self.axes, self.name)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def n_params(self) -> int:
        return round(parse_budget(self.budget) * self.share)


def grid(
    budgets: Sequence[str], horizons: Sequence[int] = (1,), seeds: Sequence[int] = (0,), **same: Any
) -> list[Cell]:
    return [Cell(b, h, s, **same) for h in horizons for b in budgets for s in seeds]


def write(
    root: Path,
    cells: Sequence[Cell],
    *,
    closed: bool = True,
    events: Sequence[EventRecorded] = (),
    gates: Sequence[dict[str, Any]] = (),
) -> RunPaths:
    """A run directory whose ledger says what a sweep over these cells would."""
    with patch("os.fsync"):  # durability is not the subject here, and a busy disk would make it slow
        return _write(RunPaths(root), cells, closed, events, tuple(gates))


def _write(
    paths: RunPaths, cells: Sequence[Cell], closed: bool, events: Sequence[EventRecorded], gates: tuple[Any, ...]
) -> RunPaths:
    ledger = Ledger(paths.ledger)
    ledger.append(
        SweepStarted(
            run=paths.root.name,
            keys=tuple(cell.key for cell in cells),
            config={"name": paths.root.name, "data": {"source": ["sp500"]}},
            code_version="0.1.0+g3f2a9c1",
            versions={"isotherm": "0.1.0", "python": "3.11.2", "torch": "2.13.0+cpu", "numpy": "2.2.6"},
            gates=gates,
        )
    )
    for cell in cells:
        if cell.fate != "unrecorded":
            ledger.append(_recorded(cell))
    for cell in cells:
        _play(ledger, cell)
    for event in events:
        ledger.append(event)
    if closed:
        ledger.append(SweepEnded(exit_code=0, counts={}))
    ledger.close()
    return paths


def _recorded(cell: Cell) -> CellRecorded:
    return CellRecorded(
        key=cell.key,
        name=cell.name or f"{cell.budget}-h{cell.horizon}-s{cell.seed}",
        labels={
            "budget": cell.budget, "model": cell.model, "horizon": cell.horizon, "tier": "a20",
            "timescale": cell.timescale, "data_fraction": cell.fraction, "seed": cell.seed,
            "axes": cell.axes,
            **({"role": cell.role} if cell.role else {}),
        },
        n_params=cell.n_params,
        n_params_non_embedding=round(cell.n_params * 0.93),
        sizes={
            "n_train": round((3462 - cell.horizon) * cell.fraction), "n_val": 694 - cell.horizon,
            "n_test": 696 - cell.horizon, "n_val_effective": (694 - cell.horizon) // cell.horizon,
        },
        spec={
            "data": {
                "content_sha256": hashlib.sha256(cell.timescale.encode()).hexdigest(),
                "assets": ["sp500"], "features": [f"f{i}" for i in range(25)], "tier": "a20",
                "timescale": cell.timescale, "representation": "relative", "scaling": "zscore",
                "splits": {"train": 0.7, "validation": 0.15, "test": 0.15, "embargo": 0, "folds": 1, "fold": 0},
                "fraction": cell.fraction,
            },
            "task": {
                "kind": "threshold", "threshold": cell.threshold, "price": "high",
                "context": 60, "horizon": cell.horizon,
            },
            "training": {"global_batch": 128, "lr": 1e-3, "weight_decay": 0.01},
        },
    )  # fmt: skip


def _play(ledger: Ledger, cell: Cell) -> None:
    if cell.fate in {"waiting", "unrecorded"}:
        return
    if cell.fate == "infeasible":
        ledger.append(CellEnded(key=cell.key, attempt=0, status="infeasible", reason=cell.reason or "19 samples"))
        return
    execution = {"micro_batch": 128, "accumulation": 1, "threads": 1, "device": "cpu"}
    ledger.append(
        AttemptStarted(
            key=cell.key, attempt=1, execution=execution, device_name="AMD EPYC", code_version=cell.code_version
        )
    )
    best = _loss(cell)
    epochs = {"diverged": 3, "running": 4, "interrupted": 2, "failed": 1}.get(cell.fate, 8)
    curve = _curve(best, epochs, "last" if cell.fate == "under-trained" else "early")
    for epoch, loss in enumerate(curve, 1):
        rate = 0.5e-3 * (1 + math.cos(math.pi * epoch / 8))
        values = {"val_loss": loss, "train_loss": loss - 0.01 * epoch, "lr": rate}
        ledger.append(MetricsRecorded(key=cell.key, attempt=1, step=27 * epoch, epoch=epoch, values=values))
    if cell.fate == "running":
        return
    status = {"collapsed": "finished", "under-trained": "finished"}.get(cell.fate, cell.fate)
    result = _result(cell, best) if status == "finished" else {}
    ledger.append(CellEnded(key=cell.key, attempt=1, status=status, reason=cell.reason, result=result))


def _loss(cell: Cell) -> float:
    prior = PRIOR.get(cell.horizon, 0.69)
    if cell.loss is not None:
        return cell.loss
    if cell.fate == "collapsed":
        return prior + 0.0012
    noise = np.random.default_rng(int(cell.key, 16)).normal(0, 0.003)
    gain = 0.035 + 0.02 * min(math.log10(cell.n_params / 5e4), 2) - 0.004 * cell.horizon
    return prior - gain + float(noise) - (0.006 if cell.model == "mlp" else 0.0)


def _curve(best: float, epochs: int, where: str) -> list[float]:
    turn, height = (epochs, 0.02) if where == "last" else (max(epochs - 2, 1), 0.004)
    steps = range(1, epochs + 1)
    return [best + height * max(turn - epoch, 0) ** 0.7 + 0.008 * max(epoch - turn, 0) for epoch in steps]


def _result(cell: Cell, loss: float) -> dict[str, Any]:
    prior = PRIOR.get(cell.horizon, 0.69)
    half = 0.012 * math.sqrt(cell.horizon)
    skill, spread = 1 - loss / prior, half / prior * 0.8
    return {
        "epochs": 8, "best_epoch": 8 if cell.fate == "under-trained" else 6, "steps": 216,
        "val_loss": loss, "val_loss_low": loss - half, "val_loss_high": loss + 1.1 * half,
        "val_auc": 0.5 + 3.4 * max(skill, 0), "val_auc_low": 0.45 + 3.4 * max(skill, 0),
        "val_auc_high": 0.55 + 3.4 * max(skill, 0), "val_brier": 0.19, "prior_loss": prior,
        "skill": skill, "skill_low": skill - spread, "skill_high": skill + spread,
        "collapsed": cell.fate == "collapsed", "test_loss": loss + 0.011, "test_auc": 0.66,
        "train_seconds": 4.0 + cell.n_params / 4e4, "samples_per_second": 2.4e8 / cell.n_params,
    }  # fmt: skip


QUICKSTART = [
    *grid(["50k", "200k"], [1, 5], [0, 1]),
    Cell("1m", 1, 0),
    Cell("1m", 1, 1, fate="under-trained"),
    Cell("1m", 5, 0, fate="collapsed"),
    Cell("1m", 5, 1, fate="diverged", reason="gradient norm is not finite at optimizer step 81"),
]
HARD = [
    *grid(["50k", "200k", "1m", "2m", "6m"], [1, 5], [0, 1, 2]),
    Cell("20m", 1, 0, loss=1.9),
    Cell("20m", 1, 1, fate="out_of_memory", reason="asked for 115 GB"),
    Cell("20m", 1, 2, fate="failed", name=EVIL, reason=f"RuntimeError: {EVIL}\nsecond line"),
    Cell("20m", 5, 0, fate="diverged", reason="loss is not finite at optimizer step 81"),
    Cell("20m", 5, 1, fate="running"),
    Cell("20m", 5, 2, fate="waiting"),
    *grid(["50k", "200k", "1m"], [30], [0, 1, 2], fate="infeasible", reason="23 effective samples, 100 needed"),
    Cell("60m", 1, 0, fate="unrecorded"),
]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunPaths, ReportFiles]:
    paths = write(tmp_path_factory.mktemp("runs") / "quickstart", QUICKSTART)
    return paths, build(paths)


@pytest.fixture(scope="session")
def hard(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunPaths, ReportFiles]:
    events = [EventRecorded(what="resume", message=f"event {i}: {EVIL}", key=HARD[0].key) for i in range(60)]
    paths = write(tmp_path_factory.mktemp("runs") / "hard", HARD, closed=False, events=events)
    return paths, build(paths)


class Runs:
    """Makes runs; test modules cannot import this file, so its parts are reached through here."""

    cell = Cell
    grid = staticmethod(grid)
    quickstart_cells = QUICKSTART
    evil = EVIL

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def at(self, name: str, cells: Sequence[Cell]) -> RunPaths:
        """A run in a folder of this name."""
        return write(self.folder / "named" / name, cells)

    def __call__(self, cells: Sequence[Cell], **how: Any) -> RunPaths:
        return write(self.folder / "runs" / "made", cells, **how)


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    return Runs(tmp_path)
