"""Losses by volatility: regimes are thirds of the training windows, kept in the run; losses are means over windows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from runner.report.analysis.collect import collect
from runner.report.analysis.regimes import REGIMES, WHOLE, regime_losses, regime_table
from runner.rundir import comparable
from runner.rundir.paths import RunPaths
from tests.finished import SWEEP, finished_run
from trainables.data import sources

CONTEXT = 20


def test_thirds_of_training_by_volatility_and_their_losses(finished: RunPaths) -> None:
    collected = collect(finished)
    rows = regime_losses(finished, collected.view, collected.trials, collected.baselines)
    spec = collected.view.cells[collected.trials[0].key].cell.spec
    kept = pd.read_parquet(finished.regime(comparable.identity(spec)))
    assert kept["split"].value_counts().to_dict() == {
        "validation": collected.trials[0].n_val, "test": collected.trials[0].n_test
    }  # fmt: skip
    bars = sources.read("sp500").frame
    named = {name.lower(): name for name in bars}
    close = pd.Series(bars[named["close"]].to_numpy(), pd.to_datetime(bars[named["date"]]))
    volatility = np.log(close).diff().rolling(CONTEXT).std(ddof=0)
    training = volatility[volatility.index < kept["date"].min()]
    limits = training.quantile([1 / 3, 2 / 3]).to_numpy()
    expected = np.searchsorted(limits, volatility[kept["date"]].to_numpy())
    assert np.mean(expected == kept["regime"]) > 0.98, "apart from the embargo's bars at the end of training"

    models = [trial.key for trial in collected.trials]
    tables = [pd.read_parquet(finished.prediction(key)) for key in models]
    for regime, number in [(WHOLE, None), *((name, number) for number, name in enumerate(REGIMES))]:
        chosen = kept[(kept["split"] == "test") & ((kept["regime"] == number) | (number is None))]
        [one] = [row for row in rows if (row.split, row.regime, row.name) == ("test", regime, "20k")]
        losses = []
        for table in tables:
            windows = table[table["split"] == "test"].merge(chosen[["date"]], on="date")
            p, y = expit(windows["logit"]), windows["label"]
            losses.append(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
        assert one.windows == len(chosen)
        assert one.loss.value == pytest.approx(np.mean(losses), rel=1e-6)
        [prior] = [row for row in rows if (row.split, row.regime, row.name) == ("test", regime, "prior")]
        assert one.skill == pytest.approx(1 - np.mean(losses) / prior.loss.value, rel=1e-6)
    assert len(regime_table(rows).rows) == len(rows) == 2 * 4 * 5, "splits, regimes, a size and four baselines"


def test_a_run_of_before_has_no_table(finished: RunPaths, tmp_path) -> None:
    collected = collect(finished)
    elsewhere = RunPaths(tmp_path / "tiny")
    assert not regime_losses(elsewhere, collected.view, collected.trials, collected.baselines)


def test_losses_and_skill_of_values_are_those_of_the_results(tmp_path: Path) -> None:
    text = SWEEP.replace("kind: threshold", "kind: regression").replace("lr:", "loss: squared_error, lr:")
    paths = finished_run(tmp_path, "baselines=[prior, linear]", text=text.replace("seed: [0, 1]", "seed: [0]"))
    collected = collect(paths)
    rows = regime_losses(paths, collected.view, collected.trials, collected.baselines)
    whole = {(row.split, row.name): row for row in rows if row.regime == WHOLE}
    (trial,) = collected.trials
    linear = next(one for one in collected.baselines if one.group.model == "linear")
    for name, key in [("20k", trial.key), ("linear", linear.key)]:
        ended = collected.view.cells[key].ended
        assert ended is not None
        for split, loss, skill in [("validation", "val_loss", "skill"), ("test", "test_loss", "test_skill")]:
            assert whole[split, name].loss.value == pytest.approx(ended.result[loss], rel=1e-5)
            assert whole[split, name].skill == pytest.approx(ended.result[skill], abs=1e-5)
    others = [one for one in collected.baselines if one.group.model != "prior"]
    assert not regime_losses(paths, collected.view, collected.trials, others), "the labels' deviation is not known"
