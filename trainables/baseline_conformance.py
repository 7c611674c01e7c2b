"""A conformance kit: holds a baseline against what a sweep relies on."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from trainables import baselines
from trainables.baseline_registry import BASELINES
from trainables.baselines import Prediction
from trainables.data import features
from trainables.data.conformance import random_bars
from trainables.data.dataset import CatalogEntry, Dataset
from trainables.data.window_index import WindowIndex, index_windows
from trainables.errors import DataError
from trainables.schema import BaselineSpec, DataSpec, TaskSpec
from trainables.tasks.registry import resolved

BARS = 1500


def check_baseline(part: str | type[Any], **config: Any) -> None:
    """Return if a baseline keeps its contract, on generated bars, for classes and for values.

    Checked: one finite output for each window of every split; the same when fitted again; outputs for validation that
    do not depend on the labels of validation.

    Args:
        part: the registered class, or its name.
        config: keys of the baseline that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
    """
    found = BASELINES.find(part)
    found.configure(config)
    spec = BaselineSpec.model_validate({"name": found.name, **config})
    dataset = _dataset()
    data = DataSpec.model_validate({"source": "generated", "tier": "ohlcv"})
    for kind in ("direction", "regression"):
        task = resolved(TaskSpec.model_validate({"kind": kind, "context": 10, "horizon": 1}))
        index, other = (index_windows(rows, data, task) for rows in (dataset, _dataset()))
        held_out_N = other.splits["validation"].labels_N
        held_out_N[:] = held_out_N[::-1].copy()
        first, again, blind = (_predicted(dataset, one, spec) for one in (index, index, other))
        for split, outputs_N in first.outputs.items():
            assert np.array_equal(outputs_N, again.outputs[split]), "fitted again, it must give the same outputs"
            assert np.array_equal(outputs_N, blind.outputs[split]), "outputs must not depend on validation's labels"


def _predicted(dataset: Dataset, index: WindowIndex, spec: BaselineSpec) -> Prediction:
    try:
        [prediction] = baselines.predict(dataset, index, [spec])
    except DataError as error:
        raise AssertionError(str(error)) from error
    return prediction


def _dataset() -> Dataset:
    frame = random_bars(BARS).reset_index().assign(asset="generated")
    names = tuple(features.OHLCV)
    entry = CatalogEntry(
        name="generated",
        path="generated.parquet",
        sources=("generated",),
        source_sha256={},
        columns={},
        sort=False,
        assets=("generated",),
        timescale="daily",
        tier="ohlcv",
        features=names,
        features_version=1,
        rows=BARS,
        first_date=frame["date"].min().date(),
        last_date=frame["date"].max().date(),
        content_sha256="0" * 64,
        file_sha256="0" * 64,
        created_at=datetime.now(UTC),
    )
    return Dataset(frame, names, entry)
