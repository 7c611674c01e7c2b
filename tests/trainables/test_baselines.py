from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from trainables import baselines
from trainables.data.dataset import CatalogEntry, Dataset
from trainables.data.window_index import WindowIndex, index_windows
from trainables.schema import BASELINE_NAMES, DataSpec, ResolvedTask
from trainables.training.metrics import Prior, Scorer


def generated(n: int = 1500, *, clustered: bool, seed: int = 0) -> Dataset:
    """Bars whose volatility comes in long calm and wild spells, or stays the same."""
    random = np.random.default_rng(seed)
    spell = np.repeat(random.permutation(np.tile([0.004, 0.02], n // 120 + 1)), 60)[:n]
    deviation = spell if clustered else np.full(n, 0.01)
    close = 100 * np.exp(np.cumsum(deviation * random.normal(size=n)))
    wick = np.exp(np.abs(deviation * random.normal(size=n)) / 2)
    frame = pd.DataFrame(
        {
            "date": pd.date_range("2000-01-03", periods=n, freq="B").astype("datetime64[ns]"),
            "open": close, "high": close * wick, "low": close / wick, "close": close,
            "volume": np.floor(random.lognormal(13, 0.4, n)), "asset": "x",
        }
    )  # fmt: skip
    names = ("open", "high", "low", "close", "volume")
    entry = CatalogEntry(
        name="generated", path="generated.parquet", sources=("x",), source_sha256={}, columns={}, sort=False,
        assets=("x",), timescale="daily", tier="ohlcv", features=names, features_version=1, rows=n,
        first_date=frame["date"].min().date(), last_date=frame["date"].max().date(),
        content_sha256="0" * 64, file_sha256="0" * 64,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    return Dataset(frame, names, entry)


def indexed(dataset: Dataset, kind: str = "threshold") -> WindowIndex:
    data = DataSpec(source="sp500", tier="ohlcv")
    return index_windows(dataset, data, ResolvedTask(kind=kind, context=20, horizon=1))  # type: ignore[arg-type]


def skills(dataset: Dataset, kind: str = "threshold") -> dict[str, float]:
    index = indexed(dataset, kind)
    train, part = index.splits["train"].labels_N, index.splits["validation"]
    scorer = Scorer(part.labels_N, part.dates_N, task=index.task, prior=Prior(train.mean(), train.var()))
    found = baselines.predict(dataset, index)
    assert tuple(one.name for one in found) == BASELINE_NAMES
    return {one.name: scorer.scores(one.outputs["validation"], one.residual_variance).skill for one in found}


def test_clustered_volatility_is_found_by_all_that_can_see_it() -> None:
    found = skills(generated(clustered=True))
    assert found["prior"] == pytest.approx(0, abs=1e-9)
    assert min(found["volatility"], found["linear"], found["boosted_trees"]) > 0.1


def test_noise_gives_no_baseline_skill() -> None:
    found = skills(generated(clustered=False))
    assert max(found.values()) < 0.02
    assert min(found.values()) > -0.1


def test_regression_predicts_means_with_a_residual_variance() -> None:
    dataset = generated(clustered=True)
    found = skills(dataset, "regression")
    assert found["prior"] == pytest.approx(0, abs=1e-3)
    for one in baselines.predict(dataset, indexed(dataset, "regression")):
        assert one.residual_variance is not None
        assert np.abs(one.outputs["test"]).max() < 0.1  # log returns, not logits


def test_equal_input_gives_equal_outputs() -> None:
    dataset = generated(clustered=True)
    for one, two in zip(*(baselines.predict(dataset, indexed(dataset)) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one.outputs["test"], two.outputs["test"])


def test_the_summary_is_that_of_each_window() -> None:
    index = indexed(generated(clustered=True))
    summary = baselines.SplitWindows(index.dataset, index, "test").summary_NS
    end = index.splits["test"].ends_N[7]
    window = index.data.values_TF[end - 19 : end + 1].astype(float)
    expected = np.concatenate([window[-1], window.mean(axis=0), window.std(axis=0)])
    np.testing.assert_allclose(summary[7], expected, atol=1e-9)


def test_outputs_do_not_depend_on_later_bars() -> None:
    dataset = generated(clustered=True)
    before = {one.name: one for one in baselines.predict(dataset, indexed(dataset))}
    frame = dataset.frame.copy()
    frame.loc[frame.index[-50:], ["open", "high", "low", "close"]] *= 1.7
    changed = Dataset(frame, dataset.features, dataset.entry)
    for one in baselines.predict(changed, indexed(changed)):
        same = len(before[one.name].outputs["test"]) - 60
        np.testing.assert_allclose(one.outputs["test"][:same], before[one.name].outputs["test"][:same], atol=1e-9)
