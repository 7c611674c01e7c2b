"""Paired differences: intervals that cover what they say, on the windows that all trials share."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.contrasts import contrasts
from runner.report.analysis.paired import Entry, Family, compare
from runner.rundir.paths import RunPaths

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


def entries(collected: Collected) -> list[Entry]:
    budgets = dict.fromkeys(trial.budget for trial in collected.trials)
    return [Entry(b, (tuple(t for t in collected.trials if t.budget == b),)) for b in budgets]


def family(collected: Collected, paths: RunPaths, pairs: Sequence[tuple[str, str]]) -> Family:
    (found,) = compare(paths, collected.view, entries(collected), [pairs], "validation")
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
