"""Metrics as parts: the conformance kit on what ships and on the example, intervals, and what a broken one costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from isotherm.testing import check_metric
from trainables.parts import plugins
from trainables.schema import MetricSpec, ResolvedTask
from trainables.training import batches
from trainables.training.metric_registry import (
    METRICS,
    OF_EVERY_TRIAL,
    MetricWindows,
    columns,
    lower_is_better,
    metric,
    of_table,
)
from trainables.training.metrics import Prior, Scorer

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "my_metric.py"
DATES = np.datetime64("2020-01-01", "ns") + np.arange(160) * np.timedelta64(1, "D")
WINDOWS = MetricWindows(DATES, np.full(160, "asset"))


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    known, loaded = {part.name: part for part in METRICS}, dict(plugins._loaded)
    yield
    METRICS._parts.clear()
    METRICS._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


def specs(*asked: Any) -> list[MetricSpec]:
    return [MetricSpec.model_validate(one) for one in asked]


@pytest.mark.parametrize("name", [part.name for part in METRICS])
def test_what_ships_keeps_the_contract(name: str) -> None:
    of_both = name.startswith("rank_") or name in ("hit_rate", "loss", "skill")
    for values in (False, True) if of_both else (name in ("r2", "directional_accuracy"),):
        check_metric(name, values=values)


def test_what_every_trial_has_and_any_other_metric_come_from_one_place() -> None:
    random = np.random.default_rng(1)
    outputs = random.normal(size=160)
    labels = (outputs + random.normal(size=160) > 0).astype(float)
    scorer = Scorer(labels, DATES, task=ResolvedTask(), prior=Prior.of(labels, ResolvedTask()))
    scores, intervals = scorer.scores(outputs), scorer.intervals(outputs)
    assert set(OF_EVERY_TRIAL) < {part.name for part in METRICS}
    assert {name: scorer.value(MetricSpec(name=name), outputs) for name in OF_EVERY_TRIAL} == {
        name: getattr(scores, name) for name in OF_EVERY_TRIAL
    }
    windows = MetricWindows(DATES, WINDOWS.assets_N, prior=Prior.of(labels, ResolvedTask()))
    row = columns(specs("auc"), "validation", labels, outputs, windows)
    assert list(row.values()) == [scores.auc, intervals.auc_low, intervals.auc_high]
    assert scorer.value(specs("hit_rate")[0], outputs) == np.mean((outputs > 0) == (labels > 0))
    assert [one for one in OF_EVERY_TRIAL if lower_is_better(METRICS.get(one))] == ["loss", "brier"]


def test_the_example_keeps_the_contract() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    plugins.load([plugins.read(EXAMPLE)])
    check_metric("top_precision", share=0.2)


def test_a_metric_has_the_intervals_of_all_numbers() -> None:
    random = np.random.default_rng(0)
    outputs = random.normal(size=160)
    labels = (outputs + random.normal(size=160) > 0).astype(float)
    row = columns(specs("hit_rate"), "validation", labels, outputs, WINDOWS)
    assert row["metric:val_hit_rate"] == pytest.approx(np.mean((outputs > 0) == (labels > 0)))
    right = ((outputs > 0) == (labels > 0)).astype(float)
    weights = batches.leave_one_out(DATES)
    expected = batches.interval(weights @ right / weights.sum(axis=1))
    assert (row["metric:val_hit_rate_low"], row["metric:val_hit_rate_high"]) == pytest.approx(expected)


def test_a_table_of_predictions_gives_validation_and_test_of_one_or_several_outputs() -> None:
    frame = pd.DataFrame({"date": DATES, "split": ["train"] * 40 + ["validation"] * 60 + ["test"] * 60})
    frame = frame.assign(label=np.arange(160) % 3, logit_0=0.0, logit_1=np.arange(160) % 3 == 1, logit_2=-1.0)
    row = of_table(specs("hit_rate"), frame)
    assert set(row) == {f"metric:{split}_hit_rate{end}" for split in ("val", "test") for end in ("", "_low", "_high")}
    assert row["metric:val_hit_rate"] == pytest.approx(np.mean(frame["label"][40:100] < 2))
    assert of_table([], frame) == {}


def test_a_metric_that_fails_costs_no_trial(caplog: pytest.LogCaptureFixture) -> None:
    metric("broken")(lambda labels, outputs, config: 1 // 0)
    row = columns(specs("broken", "hit_rate"), "test", np.ones(160), np.ones(160), WINDOWS)
    assert row["metric:test_broken"] is None
    assert row["metric:test_hit_rate"] == 1.0
    assert "the metric 'broken' has no value for test" in caplog.text


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda labels, outputs, config: np.nan, "one finite number"),
        (lambda labels, outputs, config: labels[0] * outputs[0] + outputs[1], "same windows must give the same"),
        (lambda labels, outputs, config: float(np.mean(outputs.sort() or outputs)), "must not change the outputs"),
        (lambda labels, outputs, config: 1.0 if len(labels) == 240 else None, "no interval"),
    ],
)
def test_the_kit_finds_what_is_wrong(function: Any, message: str) -> None:
    metric("tried")(function)
    with pytest.raises(AssertionError, match=message):
        check_metric("tried")
