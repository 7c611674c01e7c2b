"""Paired differences of metrics: their values are those of the predictions, and noise is seldom a difference."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.metric_differences import metric_differences, metric_table
from runner.rundir.paths import RunPaths

N = 600
DATES = pd.date_range("2015-01-01", periods=N, freq="B")


def made(run, strengths: dict[str, list[float]], seed: int = 0) -> tuple[Collected, RunPaths]:
    cells = [run.cell(budget, seed=s) for budget, known in strengths.items() for s in range(len(known))]
    paths = run(cells)
    random = np.random.default_rng(seed)
    paths.predictions.mkdir()
    splits = []
    for split in ("validation", "test"):
        signal = random.normal(size=N)
        label = (random.random(N) < 1 / (1 + np.exp(-signal))).astype("float32")
        splits.append((split, signal, label))
    for cell in cells:
        tables = [
            pd.DataFrame({"date": DATES, "asset": "x", "split": split, "label": label, "logit": logit})
            for split, signal, label in splits
            for logit in [strengths[cell.budget][cell.seed] * signal + 0.8 * random.normal(size=N)]
        ]
        pd.concat(tables).to_parquet(paths.prediction(cell.key))
    return collect(paths), paths


def differences(collected: Collected, paths: RunPaths):
    config = {"metrics": [{"name": "lift", "top": 0.1, "label": "lift10"}, "ece"]}
    collected.view.sweeps[-1] = collected.view.sweeps[-1].model_copy(update={"config": config})
    return metric_differences(paths, collected.view, collected.trials, ())


def test_a_clear_difference_has_the_value_of_the_predictions_and_its_way(run) -> None:
    collected, paths = made(run, {"50k": [0.2, 0.25, 0.15], "1m": [0.9, 1.0, 1.1]})
    found = differences(collected, paths)
    assert {one.metric for one in found} == {"auc", "ap", "brier", "lift10", "ece"}
    [auc] = [one for one in found if (one.metric, one.split) == ("auc", "test")]
    areas: dict[str, list[float]] = {"50k": [], "1m": []}
    for trial in collected.trials:
        table = pd.read_parquet(paths.prediction(trial.key)).query("split == 'test'")
        areas[trial.budget].append(roc_auc_score(table["label"], table["logit"]))
    assert (auc.first, auc.second) == ("1m", "50k")
    assert auc.value == pytest.approx(np.mean(areas["1m"]) - np.mean(areas["50k"]))
    assert 0 < auc.low <= auc.alone[0] < auc.value
    assert auc.better
    [brier] = [one for one in found if (one.metric, one.split) == ("brier", "test")]
    assert brier.value < 0
    assert brier.better, "lower is better"
    assert len(metric_table(found).rows) == len(found)


def test_a_single_seed_decides_nothing(run) -> None:
    found = differences(*made(run, {"50k": [0.0], "1m": [2.0]}))
    assert found
    assert all(one.better is None and not one.enough_seeds for one in found)
    assert all(row[-1].endswith("(one seed)") for row in metric_table(found).rows)


def test_equal_sizes_are_seldom_told_apart(run) -> None:
    wrong = total = 0
    for seed in range(12):
        run.folder = run.folder / str(seed)
        found = differences(*made(run, {"50k": [0.6, 0.6, 0.6], "1m": [0.6, 0.6, 0.6]}, seed=seed))
        told = [one.alone[0] > 0 or one.alone[1] < 0 for one in found if one.metric == "auc"]
        wrong, total = wrong + sum(told), total + len(told)
    assert total == 24
    assert wrong <= 4
