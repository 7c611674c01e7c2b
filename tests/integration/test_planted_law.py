"""Sweeps of bars with a known answer: a planted structure falls with size, a random walk never does."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.planted import write_bars
from tests.integration.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BASE: dict[str, Any] = {
    "name": "known",
    "task": {"kind": "direction", "context": 2},
    "model": {"name": "mlp", "dropout": 0.0},
    "grid": {"budget": ["1k", "3k", "10k", "30k", "100k"], "horizon": [1], "seed": [0, 1]},
    "execution": {"device": "cpu", "micro_batch": 128, "threads": 1},
    "probe": {"seconds_per_model": 0.1},
    "thermal": {"require_sensors": False},
    "tracking": {"mlflow": None, "wandb": None},
}


def first_sentence(workplace: Workplace, bars: list[str], epochs: int) -> str:
    """How the report of a sweep of these bars begins."""
    training = {"epochs": epochs, "global_batch": 128, "lr": 3e-3}
    workplace.write(json.dumps({**BASE, "data": {"source": bars, "tier": "ohlcv"}, "training": training}))
    workplace.run("sweep", "sweep.yaml", timeout=400)
    report = Path(workplace.folder / "runs" / "known" / "report.md").read_text().splitlines()
    return next(line for line in report if line.startswith("**Horizon 1: "))


def test_a_planted_law_falls_with_size_in_its_first_words(workplace: Workplace) -> None:
    words = first_sentence(workplace, write_bars(workplace.folder, assets=8, bars=2400, planted=True), epochs=8)
    assert words.startswith("**Horizon 1: falls with size, the change from "), words
    assert " on validation and " in words, "the test split must agree"


def test_a_random_walk_does_not_fall(workplace: Workplace) -> None:
    """One sweep through all parts; `test_noise_never_falls` has 20 of each design through the verdict alone."""
    words = first_sentence(workplace, write_bars(workplace.folder, assets=2, bars=1200, planted=False), epochs=1)
    assert "falls with size, " not in words, words
