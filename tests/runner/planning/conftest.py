"""Bars with known faults, as a user's own CSV."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SWEEP = """\
name: tiny
data: {source: bars.csv, tier: ohlcv}
task: {kind: threshold, threshold: 0.01, context: 20}
model: {name: mlp}
training: {epochs: 1, global_batch: 128, lr: 1.0e-3}
grid: {budget: [20k], horizon: [1], seed: [0]}
execution: {device: cpu, threads: 1}
thermal: {require_sensors: false}
"""
Change = Callable[[pd.DataFrame], pd.DataFrame | None]  # in place, or by a table that is returned


def bars(n: int = 1600, seed: int = 0) -> pd.DataFrame:
    """An honest random walk of daily bars."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, n)))
    opened = close * np.exp(random.normal(0, 0.003, n))
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    return pd.DataFrame(
        {
            "date": pd.date_range("2001-01-01", periods=n, freq="B"),
            "open": opened,
            "high": top * np.exp(np.abs(random.normal(0, 0.004, n))),
            "low": bottom * np.exp(-np.abs(random.normal(0, 0.004, n))),
            "close": close,
            "volume": 1e6 * np.exp(random.normal(0, 0.2, n)),
        }
    )


@pytest.fixture
def sweep_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A sweep file over bars that were changed, in an empty current directory."""
    monkeypatch.chdir(tmp_path)

    def write(change: Change = lambda frame: None, *replace: tuple[str, str], n: int = 1600, append: str = "") -> Path:
        frame = bars(n)
        changed = change(frame)
        (frame if changed is None else changed).to_csv(tmp_path / "bars.csv", index=False)
        text = SWEEP
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "sweep.yaml"
        path.write_text(text + append)
        return path

    return write
