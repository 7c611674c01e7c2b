"""Metrics by name: numbers that a sweep reports in addition to loss, skill, AUC, average precision and Brier score.

A metric is a function of a split's labels, of the outputs for them and of its config, that returns one number; None or
NaN where it has no value. Outputs are logits [N], of several classes [N, K], of values predicted means in label units.
Intervals are formed as for all numbers (`batches`): the metric is computed anew without each batch of dates.

A metric is no part of a trial: its key does not change, and a trial that was judged before has none.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from trainables.parts import Part, PartConfig, Registry
from trainables.schema import MetricSpec

Floats = npt.NDArray[np.float64]
PREFIX = "metric:"  # of its columns in results: metric:val_NAME, metric:val_NAME_low, ..., metric:test_NAME
PREFIXES = {"validation": "val", "test": "test"}

log = logging.getLogger(__name__)


class Metric(Protocol):
    """A metric."""

    def __call__(self, labels_N: Floats, outputs: Floats, config: Any) -> float | None:
        """Its value for these windows."""


Function = TypeVar("Function", bound=Callable[..., Any])

METRICS: Registry[Metric] = Registry(
    "metric",
    group="isotherm.metrics",
    shipped=("trainables.training.own_metrics",),
    reserved=tuple(MetricSpec.model_fields),
    check=lambda target: "" if callable(target) and not isinstance(target, type) else "not a function",
)


def metric(name: str, *, version: int = 1, config: type[PartConfig] | None = None) -> Callable[[Function], Function]:
    """Register a function as a metric, to be chosen as ``metrics: [NAME]``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: raise it when a value changes.
        config: the metric's own keys; default: none.
    """
    return cast("Callable[[Function], Function]", METRICS.register(name, version=version, config=config))


def columns(
    specs: Sequence[MetricSpec],
    split: str,
    labels_N: npt.ArrayLike,
    outputs: npt.ArrayLike,
    dates_N: npt.NDArray[np.datetime64],
) -> dict[str, float | None]:
    """Columns of the results table for one split. A metric that fails has no value, and the log says why."""
    from trainables.training import batches  # here: looking a metric up needs no scipy

    labels_N, outputs = np.asarray(labels_N, dtype=np.float64), np.asarray(outputs, dtype=np.float64)
    found: dict[str, float | None] = {}
    for spec in specs:
        name = f"{PREFIX}{PREFIXES[split]}_{spec.name}"
        try:
            part = METRICS.get(spec.name, "metrics")
            config = part.configure(part.own(spec.config), "metrics")
            kept_RN = batches.leave_one_out(dates_N) > 0
            values_R = np.array([value_of(part, config, labels_N[kept_N], outputs[kept_N]) for kept_N in kept_RN])
        except Exception:  # code of somebody else must not cost a trial that is trained
            log.exception("the metric %r has no value for %s", spec.name, split)
            found |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
            continue
        found[name] = float(values_R[0]) if math.isfinite(values_R[0]) else None
        found[f"{name}_low"], found[f"{name}_high"] = batches.interval(values_R)
    return found


def value_of(part: Part[Metric], config: PartConfig, labels_N: Floats, outputs: Floats) -> float:
    """A metric's value; NaN where it has none."""
    value = part.target(labels_N, outputs, config)
    return math.nan if value is None else float(value)


def of_table(specs: Sequence[MetricSpec], table: Mapping[str, Any]) -> dict[str, float | None]:
    """Columns of the results table from a table of predictions: date, split, label, and one column an output."""
    found: dict[str, float | None] = {}
    names = [name for name in table if name.startswith("logit")]
    for split in PREFIXES:
        rows = np.flatnonzero(np.asarray(table["split"]) == split)
        if len(rows) and specs:
            outputs = np.column_stack([np.asarray(table[name], dtype=np.float64)[rows] for name in names])
            one = outputs[:, 0] if len(names) == 1 else outputs
            dates_N = np.asarray(table["date"], dtype="datetime64[ns]")[rows]
            found |= columns(specs, split, np.asarray(table["label"])[rows], one, dates_N)
    return found
