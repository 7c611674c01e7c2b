"""A sweep of bars with a known answer: a planted structure, of which larger models learn more."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.planted import write_bars
from tests.integration.workplace import Workplace
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "name": "known",
    "baselines": ["prior"],
    "task": {"kind": "direction", "context": 2},
    "model": {"name": "mlp", "dropout": 0.0},
    "grid": {"budget": ["1k", "3k", "10k", "30k", "100k"], "horizon": [1], "seed": [0, 1]},
    "execution": {"device": "cpu", "micro_batch": 128, "threads": 1},
    "probe": {"seconds_per_model": 0.1},
    "thermal": {"require_sensors": False},
    "tracking": {"mlflow": None, "wandb": None},
}


def test_a_planted_law_falls_with_size_in_its_first_words(workplace: Workplace) -> None:
    """One sweep through all parts; `test_noise_never_falls` and its neighbours have many through the verdict alone."""
    bars = write_bars(workplace.folder, assets=6, bars=2400)
    training = {"epochs": 6, "global_batch": 128, "lr": 3e-3}
    workplace.write(json.dumps({**BASE, "data": {"source": bars, "tier": "ohlcv"}, "training": training}))
    workplace.run("sweep", "sweep.yaml", timeout=PATIENCE_S)
    report = Path(workplace.folder / "runs" / "known" / "report.md").read_text().splitlines()
    words = next(line for line in report if line.startswith("**Horizon 1: "))
    assert words.startswith("**Horizon 1: falls with size, the change from "), words
    assert " on validation and " in words, "the test split must agree"
