"""The sentence on models and baselines."""

import dataclasses

import pytest

from runner.report.against import baseline_sentences
from runner.report.collect import collect
from runner.report.trials import Estimate, Trial


def baseline(near: Trial, model: str, loss: float) -> Trial:
    group = dataclasses.replace(near.group, model=model)
    return dataclasses.replace(near, key=model, kind="baseline", group=group, val_loss=Estimate(loss))


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (0.50, "Horizon 5: the baseline 'linear' is not beaten by any size: 0.5000 against 0.5300 nats"),
        (0.60, "Horizon 5: the best size beats every baseline, the best of which is 'linear': 0.5300 against 0.6000"),
    ],
)  # fmt: skip
def test_the_best_size_is_held_against_the_best_baseline(run, best: float, said: str) -> None:
    cells = [run.cell("50k", 5, 0, loss=0.51), run.cell("50k", 5, 1, loss=0.57), run.cell("1m", 5, 0, loss=0.53)]
    trials = collect(run([*cells, run.cell("2m", 5, fate="diverged")])).trials
    baselines = [
        baseline(trials[0], "linear", best),
        baseline(trials[0], "boosted_trees", 0.65),
        baseline(trials[0], "prior", 0.1),
    ]
    (sentence,) = baseline_sentences(trials, baselines)
    assert sentence.startswith(said)
    assert "at 1m, the best size" in sentence


def test_without_baselines_nothing_is_said(run) -> None:
    assert list(baseline_sentences(collect(run(run.grid(["50k"]))).trials, ())) == []
