"""A conformance kit: holds a metric against what results rely on."""

import math
from typing import Any

import numpy as np

from trainables.schema import MetricSpec
from trainables.training.likelihood import Prior
from trainables.training.metric_registry import METRICS, Metric, MetricWindows, value_of, with_interval

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
    found.configure(config)
    spec = MetricSpec.model_validate({"name": found.name, **config})
    random = np.random.default_rng(0)
    outputs_N = random.normal(size=WINDOWS)
    noisy_N = outputs_N + random.normal(size=WINDOWS)
    labels_N = noisy_N if values else (noisy_N > 0).astype(np.float64)
    kept = labels_N.copy(), outputs_N.copy()
    dates_N = np.datetime64("2020-01-01", "ns") + np.arange(WINDOWS) // ASSETS * np.timedelta64(1, "D")
    windows = MetricWindows(
        dates_N,
        np.array([f"asset{number % ASSETS}" for number in range(WINDOWS)]),
        outcome="value" if values else "binary",
        prior=Prior(0.0, 2.0) if values else Prior(0.5, 0.25, (0.5, 0.5)),
        residual_variance=1.0,
    )
    value = value_of(spec, labels_N, outputs_N, windows)
    assert math.isfinite(value), f"one finite number is expected, not {value}"
    assert np.array_equal(kept[0], labels_N), "a metric must not change the labels"
    assert np.array_equal(kept[1], outputs_N), "a metric must not change the outputs"
    order = random.permutation(WINDOWS)
    for again in (
        value_of(spec, labels_N, outputs_N, windows),
        value_of(spec, labels_N[order], outputs_N[order], windows.where(order)),  # type: ignore[arg-type]
    ):
        assert math.isclose(value, again, rel_tol=1e-9, abs_tol=1e-12), "the same windows must give the same number"
    assert None not in with_interval(spec, labels_N, outputs_N, windows), (
        "the metric has no interval: it must have a value without each batch of dates, too"
    )
    value_of(spec, np.ones(WINDOWS), outputs_N, windows)  # raises where a split of one class is not provided for
