"""Ensembles of the seeds of one size: made from predictions, scored as trials are, apart from every law."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

import isotherm
from runner import ensembles
from runner.report.analysis.trials import ensembles_of, trials_of
from runner.rundir import ledger, results
from runner.rundir.paths import RunPaths
from runner.scaling import read_csv


def test_a_row_of_its_own_with_the_mean_probability(place) -> None:
    run = isotherm.open_run("tiny")
    table = run.results()
    [row] = table[table["kind"] == "ensemble"].to_dict("records")
    assert (row["name"], row["status"], row["budget"]) == ("20k-h1-ensemble2", "finished", "20k")
    assert pd.isna(row["seed"])
    members = table[table["kind"] == "model"]
    own, *seeds = (run.predictions(key) for key in (row["key"], *members["key"]))
    mean = np.mean([expit(one["logit"]) for one in seeds], axis=0)
    np.testing.assert_allclose(expit(own["logit"]), mean, atol=1e-12)
    validation = own[own["split"] == "validation"]
    p, y = expit(validation["logit"]), validation["label"]
    assert row["val_loss"] == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    assert row["val_loss_low"] < row["val_loss"] < row["val_loss_high"]
    assert row["val_loss"] < members["val_loss"].mean(), "the log loss is convex"


def test_no_law_and_no_verdict_holds_it_and_it_has_no_model(place) -> None:
    paths = RunPaths(place / "runs" / "tiny")
    view = ledger.read(paths.ledger)
    [one] = ensembles_of(view)
    assert one.key not in {trial.key for trial in trials_of(view)}
    assert len(read_csv(paths.results_csv)) == 2
    judged = isotherm.open_run("tiny").verdicts()
    assert one.key not in {trial.key for verdict in judged for trial in verdict.series.trials}
    with pytest.raises(isotherm.ConfigError, match="is the ensemble '20k-h1-ensemble2', which has no model"):
        isotherm.open_run("tiny").trial(one.key)


def test_of_one_size_the_ensemble_of_the_most_seeds_counts(place) -> None:
    view = ledger.read(RunPaths(place / "runs" / "tiny").ledger)
    [state] = results.ensemble_states(view)
    members = [view.cells[key] for key in results.members_of(state)]
    fewer = ensembles.recorded(members[:1])
    assert fewer.key != state.cell.key
    view.apply(fewer)
    assert results.ensemble_states(view) == [state]
    view.sweeps[-1] = view.sweeps[-1].model_copy(update={"keys": (members[0].cell.key,)})
    assert [one.cell.key for one in results.ensemble_states(view)] == [fewer.key], "a seed has left the grid"


def test_the_mean_of_every_outcome() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)) * 30
    found = ensembles.mean_outputs(logits, "classes")
    np.testing.assert_allclose(softmax(found, axis=1), softmax(logits, axis=2).mean(axis=0))
    np.testing.assert_allclose(ensembles.mean_outputs(logits[..., 0], "value"), logits[..., 0].mean(axis=0))
    extreme = ensembles.mean_outputs(np.array([[400.0, -400.0], [300.0, -300.0]]), "binary")
    assert np.isfinite(extreme).all(), "a probability next to 1 keeps its distance from it"
    assert extreme[0] == -extreme[1] > 290
