"""Paired differences: intervals that cover what they say, on the windows that all trials share."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from runner.report.analysis.against import comparison_sentences
from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.compare import compare as compare_runs
from runner.report.analysis.contrasts import contrasts, sizes_of
from runner.report.analysis.folds import FOLD
from runner.report.analysis.paired import Entry, Family, Source, compare, compare_folds
from runner.rundir.paths import RunPaths
from runner.terminal.compare import show
from runner.terminal.console import Console

N = 500
DATES = pd.date_range("2015-01-01", periods=N, freq="B")


def predict(paths: RunPaths, key: str, logits: np.ndarray, labels: np.ndarray, dates: pd.DatetimeIndex = DATES) -> None:
    paths.predictions.mkdir(exist_ok=True)
    one = pd.DataFrame({"date": dates, "asset": "x", "label": labels.astype("float32"), "logit": logits})
    pd.concat([one.assign(split=split) for split in ("validation", "test")]).to_parquet(paths.prediction(key))


def world(seed: int = 0) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    signal = random.normal(size=N)
    return random, signal, (random.random(N) < 1 / (1 + np.exp(-signal))).astype(float)


@pytest.fixture
def two_sizes(run) -> Callable[..., tuple[Collected, RunPaths]]:
    """A run of two sizes with predictions of the given strengths, by budget and seed."""

    def make(strengths: dict[str, Sequence[float]], seed: int = 0, **same: object) -> tuple[Collected, RunPaths]:
        cells = [run.cell(budget, seed=s, **same) for budget, known in strengths.items() for s in range(len(known))]
        paths = run(cells)
        _, signal, labels = world(seed)
        for cell in cells:
            predict(paths, cell.key, strengths[cell.budget][cell.seed] * signal, labels)
        return collect(paths), paths

    return make


def entries(collected: Collected, paths: RunPaths) -> list[Entry]:
    return sizes_of(collected.trials, Source(paths, collected.view))


def family(collected: Collected, paths: RunPaths, pairs: Sequence[tuple[str, str]]) -> Family:
    (found,) = compare(entries(collected, paths), [pairs], "validation")
    return found


def test_a_clear_difference_is_told_and_its_value_is_that_of_the_losses(two_sizes) -> None:
    collected, paths = two_sizes({"50k": [0.1, 0.15], "1m": [0.9, 1.0]})
    found = family(collected, paths, [("1m", "50k")])
    (one,) = found.differences
    _, signal, labels = world()
    losses = {s: np.mean(np.log1p(np.exp(s * signal)) - s * signal * labels) for s in (0.1, 0.15, 0.9, 1.0)}
    assert one.value == pytest.approx(np.mean([losses[0.9], losses[1.0]]) - np.mean([losses[0.1], losses[0.15]]))
    assert one.lower
    assert found.windows == N
    assert one.low <= one.alone[0] + 0.01
    assert one.high < 0


def test_seeds_widen_the_interval_and_one_seed_never_tells(two_sizes) -> None:
    narrow, paths = two_sizes({"50k": [0.5, 0.5], "1m": [0.8, 0.8]})
    (equal,) = family(narrow, paths, [("1m", "50k")]).differences
    far, paths = two_sizes({"50k": [0.2, 0.8], "1m": [0.4, 1.2]})
    (apart,) = family(far, paths, [("1m", "50k")]).differences
    assert apart.high - apart.low > 1.5 * (equal.high - equal.low)
    single, paths = two_sizes({"50k": [0.1], "1m": [1.0]})
    (one,) = family(single, paths, [("1m", "50k")]).differences
    assert one.high < 0
    assert not one.lower


def test_the_best_of_many_equal_predictors_is_seldom_said_to_beat_another(run) -> None:
    """Noise of its own in each of 8 predictors: the best against the worst, chosen after looking."""
    cells = [run.cell(f"{size}k") for size in range(1, 9)]
    paths = run(cells)
    collected = collect(paths)
    found, naive, worlds = 0, 0, 30
    for seed in range(worlds):
        random, signal, labels = world(seed)
        for cell in cells:
            predict(paths, cell.key, 0.8 * signal + 0.5 * random.normal(size=N), labels)
        names = [cell.budget for cell in cells]
        pairs = [(b, a) for i, a in enumerate(names) for b in names[i + 1 :]]
        known = family(collected, paths, pairs).differences
        found += any(one.high < 0 or one.low > 0 for one in known)
        naive += any(one.alone[1] < 0 or one.alone[0] > 0 for one in known)
    assert found <= 5  # nominal 1.5 of 30; above 5 with a probability of 0.3 %
    assert naive >= 9  # what 28 single intervals do


def test_trials_are_compared_on_the_windows_that_they_share(run) -> None:
    cells = [run.cell(b, seed=s, axes={"task.context": c}) for b in ("50k", "1m") for s in (0, 1) for c in (30, 60)]
    paths = run(cells)
    _, signal, labels = world()
    for cell in cells:
        begin = 90 if cell.axes["task.context"] == 60 else 0
        logits = (0.5 + 0.05 * cell.seed) * signal
        logits[:90] = 9.0  # what only one context was judged on must not count
        predict(paths, cell.key, logits[begin:], labels[begin:], DATES[begin:])
    collected = collect(paths)
    (axis,) = [one for one in contrasts(paths, collected.view, collected.trials, ()) if one.kind == "axis"]
    found = axis.families["validation"]
    assert (found.windows, found.of) == (410, (410, 500))
    assert axis.sizes == ("50k", "1m")
    assert [(one.first, one.second) for one in found.differences] == [("task.context 60", "task.context 30")]
    assert found.differences[0].value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("missing", "predictions of 1 of 4 trials are missing or damaged"),
        ("labels", "different labels"),
        ("windows", "they share 60 windows"),
        ("twice", "hold a window twice"),
        ("nan", "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(two_sizes, change: str, reason: str) -> None:
    collected, paths = two_sizes({"50k": [0.4, 0.5], "1m": [0.8, 0.8]})
    key = collected.trials[0].key
    _, signal, labels = world()
    if change == "missing":
        paths.prediction(key).unlink()
    elif change == "labels":
        predict(paths, key, signal, 1 - labels)
    elif change == "windows":
        predict(paths, key, signal[:60], labels[:60], DATES[:60])
    elif change == "twice":
        predict(paths, key, signal, labels, DATES[:250].append(DATES[:250]))
    else:
        predict(paths, key, np.where(np.arange(N) == 7, np.nan, signal), labels)
    found = family(collected, paths, [("1m", "50k")])
    assert found.differences == ()
    assert reason in found.reason


def test_groups_that_ask_different_questions_are_not_compared(run) -> None:
    cells = [run.cell(b, threshold=t, axes={"task.threshold": t}) for b in ("50k", "1m") for t in (0.01, 0.02)]
    collected = collect(run(cells))
    kinds = [
        one.kind for one in contrasts(RunPaths(run.folder / "runs" / "made"), collected.view, collected.trials, ())
    ]
    assert kinds == ["sizes", "sizes"]


def test_sizes_are_compared_where_a_baseline_has_no_predictions(two_sizes) -> None:
    collected, paths = two_sizes({"50k": [0.4, 0.5], "1m": [0.8, 0.8]})
    near = collected.trials[0]
    other = replace(near, key="0" * 12, kind="baseline", group=replace(near.group, model="linear"))
    collected.view.cells[other.key] = collected.view.cells[near.key]
    about, sizes = contrasts(paths, collected.view, collected.trials, [other])
    assert "predictions of 1 of 5 trials" in about.families["validation"].reason
    assert [one.value < 0 for one in sizes.families["validation"].differences] == [True]


def test_regression_is_compared_by_its_likelihood(two_sizes) -> None:
    collected, paths = two_sizes({"50k": [0.4, 0.5], "1m": [0.8, 0.8]})
    for key, state in collected.view.cells.items():
        state.cell.spec["task"]["kind"] = "regression"
        assert state.ended is not None
        variance = 0.25 if key == collected.trials[0].key else 0.16
        state.ended = state.ended.model_copy(
            update={"result": {**state.ended.result, "train_residual_variance": variance}}
        )
    (one,) = family(collected, paths, [("1m", "50k")]).differences
    _, signal, labels = world()

    def loss(strength: float, variance: float) -> float:
        return float(np.mean(0.5 * (np.log(variance) + (strength * signal - labels) ** 2 / variance)))

    expected = loss(0.8, 0.16) - (loss(0.4, 0.25) + loss(0.5, 0.16)) / 2
    assert one.value == pytest.approx(expected)


# ---- of two runs -------------------------------------------------------------------------------------------------


def two_runs(run, strengths: dict[str, float], label: float = 0.0, **other: object) -> list[RunPaths]:
    """Runs a and b of two sizes and seeds, whose predictions are as strong as given."""
    found = []
    for name, strength in strengths.items():
        cells = run.grid(["50k", "1m"], seeds=[0, 1], **(other if name == "b" else {}))
        found.append(run.at(name, cells))
        _, signal, labels = world()
        for cell in cells:
            labels_N = np.abs(labels - (label if name == "b" else 0))
            predict(found[-1], cell.key, (strength + 0.05 * cell.seed) * signal, labels_N)
    return found


def test_two_runs_are_paired_by_metric_and_size(run) -> None:
    """The same trials' keys in both runs are told apart by their runs."""
    found = compare_runs(two_runs(run, {"a": 0.2, "b": 0.9})).paired
    assert {(one.first, one.second, one.windows) for one in found} == {("b", "a", N)}
    assert [one.size for one in found if (one.split, one.metric) == ("test", "loss")] == ["50k", "1m", "mean of 2"]
    assert {one.metric for one in found} == {"loss", "auc", "ap", "brier"}
    says = {(one.metric, one.says) for one in found if one.size != "mean of 2"}
    assert ("loss", "b is better") in says
    assert ("brier", "b is better") in says
    assert ("auc", "cannot be distinguished") in says  # a multiple of the same logits ranks alike
    _, signal, labels = world()
    loss = {s: np.mean(np.log1p(np.exp(s * signal)) - s * signal * labels) for s in (0.2, 0.25, 0.9, 0.95)}
    expected = (loss[0.9] + loss[0.95] - loss[0.2] - loss[0.25]) / 2
    assert all(one.value.value == pytest.approx(expected) for one in found if one.metric == "loss")


def test_a_better_ranking_is_a_higher_auc(run) -> None:
    paths = two_runs(run, {"a": 0.8, "b": 0.8})
    random = np.random.default_rng(1)
    for cell in run.grid(["50k", "1m"], seeds=[0, 1]):
        _, signal, labels = world()
        predict(paths[1], cell.key, 0.8 * (signal + 2 * random.normal(size=N)), labels)
    found = [one for one in compare_runs(paths).paired if one.metric == "auc"]
    assert {one.says for one in found} == {"a is better"}
    assert all(one.value.high is not None and one.value.high < 0 for one in found)


@pytest.mark.parametrize(
    ("other", "label", "reason"),
    [
        ({"threshold": 0.02}, 0, "no data, splits and task are common to both"),
        ({"axes": {"training.lr": 0.1}}, 0, "no finished cell has the same size, horizon and axes in both"),
        ({"fate": "failed"}, 0, "no trial has finished in one of them"),
        ({}, 1, "they were judged by different labels"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused_with_the_reason(run, other: dict, label: float, reason: str) -> None:
    paths = two_runs(run, {"a": 0.5, "b": 0.6}, label, **other)
    compared = compare_runs(paths)
    assert {one.says for one in compared.paired} == {reason}
    text = io.StringIO()
    show(compared, Console(file=text, width=200))
    assert "b and a cannot be paired" in text.getvalue()
    assert reason in text.getvalue()
    assert {one["says"] for one in json.loads(json.dumps(compared.as_dict()))["paired"]} == {reason}


def test_sizes_are_compared_over_folds_as_one(run) -> None:
    known = {"50k": 0.1, "1m": 0.4}
    cells = [run.cell(b, seed=s, axes={FOLD: fold}) for b in known for s in (0, 1) for fold in (0, 1, 2)]
    paths = run(cells)
    for cell in cells:
        fold = cell.axes[FOLD]
        _, signal, labels = world(fold)
        predict(paths, cell.key, known[cell.budget] * signal, labels, DATES + pd.DateOffset(years=3 * fold))
    collected = collect(paths)
    *each, pooled = [
        one for one in contrasts(paths, collected.view, collected.trials, collected.baselines) if one.kind == "sizes"
    ]
    assert pooled.place == "horizon 1, 3 folds as one"
    single = [one.families["validation"].between("1m", "50k") for one in each]
    (found,) = pooled.families["validation"].differences
    assert found.value == pytest.approx(np.mean([one.value for one in single]))
    widths = [one.high - one.low for one in single]
    assert found.high - found.low == pytest.approx(np.sqrt(np.sum(np.square(widths))) / 3, rel=0.15)
    assert pooled.families["validation"].windows == 3 * N
    (sentence,) = comparison_sentences([pooled])
    assert "training spans overlap" in sentence
    source = Source(paths, collected.view)
    first, second, third = (
        sizes_of([trial for trial in collected.trials if dict(trial.group.axes)[FOLD] == fold], source)
        for fold in ("0", "1", "2")
    )
    pairs = [[("1m", "50k")]]
    (in_other_order,) = compare_folds([first, second[::-1], third], pairs, "validation")
    assert in_other_order == pooled.families["validation"], "entries of folds are matched by name"
