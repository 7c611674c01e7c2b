"""Reliability by quantile bins, on predictions whose truth is known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from runner.report.analysis.collect import collect
from runner.report.figures.calibration import calibration_figures, reliability
from runner.rundir.paths import RunPaths


def predictions(n: int, *, factor: float = 1.0, seeds: int = 1, block: int = 1) -> pd.DataFrame:
    """Logits times a factor; labels drawn from the logits themselves, in runs of equal days."""
    random = np.random.default_rng(5)
    logit = np.repeat(random.normal(0, 1, n // block), block)
    label = (random.random(n // block) < 1 / (1 + np.exp(-logit[::block]))).repeat(block)
    frame = pd.DataFrame(
        {
            "date": pd.date_range("2020-01-01", periods=n),
            "asset": "x",
            "label": label.astype(float),
            "logit": factor * logit,
        }
    )
    return pd.concat([frame] * seeds)


def test_true_probabilities_lie_on_the_diagonal_within_their_intervals() -> None:
    found = reliability(predictions(8000), budget="1m", horizon=1, bins=8)
    assert len(found.predicted_B) == 8
    assert np.all(np.diff(found.predicted_B) > 0)
    assert found.error < 0.02
    inside = (found.low_B <= found.predicted_B) & (found.predicted_B <= found.high_B)
    assert inside.sum() >= 6


def test_over_confidence_shows() -> None:
    found = reliability(predictions(8000, factor=3.0), budget="1m", horizon=1, bins=8)
    assert found.high_B[-1] < found.predicted_B[-1]
    assert found.low_B[0] > found.predicted_B[0]
    assert found.error > 0.1


def test_several_seeds_and_overlapping_labels_do_not_make_intervals_narrower() -> None:
    alone, twice = (reliability(predictions(2000, seeds=n), budget="1m", horizon=1, bins=4) for n in (1, 2))
    assert np.allclose(alone.high_B - alone.low_B, twice.high_B - twice.low_B)
    overlapping = reliability(predictions(2000, block=20), budget="1m", horizon=20, bins=4)
    assert (overlapping.high_B - overlapping.low_B).mean() > 2 * (alone.high_B - alone.low_B).mean()


@pytest.mark.parametrize("logits", [[0.3] * 40, [0.0] * 39 + [2.0], [-1.0, 1.0] * 20])
def test_few_distinct_predictions_give_few_bins_and_no_empty_one(logits: list[float]) -> None:
    frame = predictions(40)
    frame["logit"] = logits
    found = reliability(frame, budget="1m", horizon=1, bins=8)
    assert 1 <= len(found.predicted_B) <= 2
    assert np.isfinite([found.predicted_B, found.observed_B, found.low_B, found.high_B]).all()


def save(paths: RunPaths, cell: Any) -> None:
    frame = predictions(600).assign(split="validation")
    paths.predictions.mkdir(exist_ok=True)
    frame.to_parquet(paths.prediction(cell.key))


def test_a_panel_a_horizon_with_the_smallest_the_middle_and_the_largest_size(run) -> None:
    cells = run.grid(["50k", "100k", "200k", "1m"], [1, 5])
    paths = run(cells)
    for cell in cells:
        save(paths, cell)
    collected = collect(paths)
    (plot,) = calibration_figures(paths, collected.view, collected.trials)
    assert "2 panels" in plot.alt
    assert plot.wide


def test_without_predictions_there_is_no_figure(run) -> None:
    paths = run(run.grid(["50k"]))
    collected = collect(paths)
    assert list(calibration_figures(paths, collected.view, collected.trials)) == []
    paths.predictions.mkdir()
    paths.prediction(collected.trials[0].key).write_bytes(b"torn")
    assert list(calibration_figures(paths, collected.view, collected.trials)) == []
