"""A conformance kit: holds a metric against what results rely on."""

import math
from typing import Any

import numpy as np

from trainables.schema import MetricSpec
from trainables.training.metric_registry import METRICS, Metric, MetricWindows, columns, value_of

WINDOWS, ASSETS = 240, 4


def check_metric(part: str | Metric, *, values: bool = False, **config: Any) -> None:
    """Return if a metric keeps its contract, on generated labels and outputs.

    Checked: one finite number; the same when computed again and for windows in another order; arguments that stay as
    they are; an interval; and no failure where all labels are equal.

    Args:
        part: the registered function, or its name.
        values: predicted values instead of a class's logits.
        config: keys of the metric that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
    """
    found = METRICS.find(part)
    chosen = found.configure(config)
    random = np.random.default_rng(0)
    outputs_N = random.normal(size=WINDOWS)
    noisy_N = outputs_N + random.normal(size=WINDOWS)
    labels_N = noisy_N if values else (noisy_N > 0).astype(np.float64)
    kept = labels_N.copy(), outputs_N.copy()
    dates_N = np.datetime64("2020-01-01", "ns") + np.arange(WINDOWS) // ASSETS * np.timedelta64(1, "D")
    windows = MetricWindows(dates_N, np.array([f"asset{number % ASSETS}" for number in range(WINDOWS)]))
    value = value_of(found, chosen, labels_N, outputs_N, windows)
    assert math.isfinite(value), f"one finite number is expected, not {value}"
    assert np.array_equal(kept[0], labels_N), "a metric must not change the labels"
    assert np.array_equal(kept[1], outputs_N), "a metric must not change the outputs"
    order = random.permutation(WINDOWS)
    for again in (
        value_of(found, chosen, labels_N, outputs_N, windows),
        value_of(found, chosen, labels_N[order], outputs_N[order], windows.where(order)),  # type: ignore[arg-type]
    ):
        assert math.isclose(value, again, rel_tol=1e-9, abs_tol=1e-12), "the same windows must give the same number"
    spec = MetricSpec.model_validate({"name": found.name, **config})
    row = columns([spec], "validation", labels_N, outputs_N, windows)
    assert None not in row.values(), "the metric has no interval: it must have a value without each batch of dates, too"
    value_of(
        found, chosen, np.ones(WINDOWS), outputs_N, windows
    )  # raises where a split of one class is not provided for
