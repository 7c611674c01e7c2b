"""Metrics by name: those that every trial has (`OF_EVERY_TRIAL`), and those that a sweep reports in addition.

A metric is a function of a split's labels, of the outputs for them and of its config, that returns one number; None or
NaN where it has no value. Outputs are logits [N], of several classes [N, K], of values predicted means in label units.
One that has a fourth argument gets the windows' dates and assets, the validation split to choose a threshold or a
calibration on, and what is known from training (`MetricWindows`).
Intervals are formed as for all numbers (`batches`): the metric is computed anew without each batch of dates.

A metric of a sweep is no part of a trial: its key does not change, and a trial that was judged before has none.
"""

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from trainables.parts import Part, PartConfig, Registry
from trainables.schema import MetricSpec, Outcome

if TYPE_CHECKING:
    from trainables.training.likelihood import Prior

Floats = npt.NDArray[np.float64]
PREFIX = "metric:"  # of its columns in results: metric:val_NAME, metric:val_NAME_low, ..., metric:test_NAME
PREFIXES = {"validation": "val", "test": "test"}
OF_EVERY_TRIAL = ("loss", "skill", "auc", "ap", "brier")  # in columns of their own: val_loss, val_auc, ...

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MetricWindows:
    """What else is known of the windows that a metric is computed for.

    Attributes:
        dates_N: of each window's last bar.
        assets_N: asset of each window.
        validation: labels and outputs of the validation split, on which thresholds and calibrations are chosen; of
            validation itself the windows that the metric is computed for. None where there are none.
        outcome: what labels and outputs are, where it is known.
        prior: rates, or mean and variance, of the labels of training. None where a table of predictions is all there
            is.
        residual_variance: of values, mean squared error on training, in label units squared.
    """

    dates_N: npt.NDArray[np.datetime64]
    assets_N: npt.NDArray[Any]
    validation: tuple[Floats, Floats] | None = None
    outcome: Outcome = "binary"
    prior: "Prior | None" = None
    residual_variance: float | None = None

    def where(self, kept_N: npt.NDArray[np.bool_]) -> "MetricWindows":
        """Some of the windows."""
        return replace(self, dates_N=self.dates_N[kept_N], assets_N=self.assets_N[kept_N])


class Metric(Protocol):
    """A metric; a fourth argument, `windows`, is optional."""

    def __call__(self, labels_N: Floats, outputs: Floats, config: Any) -> float | None:
        """Its value for these windows."""


Function = TypeVar("Function", bound=Callable[..., Any])

METRICS: Registry[Metric] = Registry(
    "metric",
    group="isotherm.metrics",
    shipped=(
        "trainables.training.likelihood_metrics",
        "trainables.training.own_metrics",
        "trainables.training.signal_metrics",
    ),
    reserved=tuple(MetricSpec.model_fields),
    check=lambda target: "" if callable(target) and not isinstance(target, type) else "not a function",
)


def metric(
    name: str,
    *,
    version: int = 1,
    config: type[PartConfig] | None = None,
    lower_is_better: bool = False,
    within: Mapping[Outcome, tuple[float, float]] | None = None,
) -> Callable[[Function], Function]:
    """Register a function as a metric, to be chosen as ``metrics: [NAME]``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: raise it when a value changes.
        config: the metric's own keys; default: none.
        lower_is_better: which way a search and early stopping go that follow it.
        within: smallest and largest possible value for each outcome that has one; intervals end there.
    """
    register = METRICS.register(name, version=version, config=config)

    def decorate(function: Function) -> Function:
        if lower_is_better:
            function.lower_is_better = True  # type: ignore[attr-defined]
        if within:
            function.within = within  # type: ignore[attr-defined]
        return cast("Function", register(cast("Metric", function)))

    return decorate


def lower_is_better(part: Part[Metric]) -> bool:
    """Whether a smaller value of a metric is the better one."""
    return bool(getattr(part.target, "lower_is_better", False))


def columns(
    specs: Sequence[MetricSpec],
    split: str,
    labels_N: npt.ArrayLike,
    outputs: npt.ArrayLike,
    windows: MetricWindows,
) -> dict[str, float | None]:
    """Columns of the results table for one split. A metric that fails has no value, and the log says why.

    Where the split is validation, what is chosen is chosen anew without each batch of dates, so that the interval
    covers the choice, too; on test the choice stays.
    """
    labels_N, outputs = np.asarray(labels_N, dtype=np.float64), np.asarray(outputs, dtype=np.float64)
    found: dict[str, float | None] = {}
    for spec in specs:
        numbers: tuple[float | None, ...] = (None, None, None)
        try:
            numbers = with_interval(spec, labels_N, outputs, windows)
        except Exception:  # code of somebody else must not cost a trial that is trained
            log.exception("the metric %r has no value for %s", spec.column, split)
        name = f"{PREFIX}{PREFIXES[split]}_{spec.column}"
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
    return found


def with_interval(
    spec: MetricSpec, labels_N: Floats, outputs: Floats, windows: MetricWindows
) -> tuple[float | None, float | None, float | None]:
    """A metric's value with its 95 % interval, each None where it has none."""
    from trainables.training import batches  # here: looking a metric up needs no scipy

    values_R = np.array(
        [
            value_of(spec, labels_N[kept_N], outputs[kept_N], windows.where(kept_N))
            for kept_N in batches.leave_one_out(windows.dates_N) > 0
        ]
    )
    within: Mapping[str, tuple[float, float]] = getattr(METRICS.get(spec.name).target, "within", {})
    low, high = batches.interval(values_R, within.get(windows.outcome, (-math.inf, math.inf)))
    return (float(values_R[0]) if math.isfinite(values_R[0]) else None), low, high


def value_of(spec: MetricSpec, labels_N: Floats, outputs: Floats, windows: MetricWindows) -> float:
    """A metric's value; NaN where it has none. Without a validation split of its own, it is that split itself.

    Raises:
        ConfigError: no such metric, or no such keys.
    """
    part = METRICS.get(spec.name, "metrics")
    config = part.configure(part.own(spec.config), "metrics")
    if windows.validation is None:
        windows = replace(windows, validation=(labels_N, outputs))
    more = (windows,) if _takes_windows(part.target) else ()
    value = part.target(labels_N, outputs, config, *more)
    return math.nan if value is None else float(value)


def _takes_windows(function: Callable[..., Any]) -> bool:
    return len(inspect.signature(function).parameters) > 3


def of_table(specs: Sequence[MetricSpec], table: Mapping[str, Any]) -> dict[str, float | None]:
    """Columns of the results table from a table of predictions: date, asset, split, label, and one column an output."""
    found: dict[str, float | None] = {}
    names = [name for name in table if name.startswith("logit")]
    validation: tuple[Floats, Floats] | None = None
    for split in PREFIXES:
        rows = np.flatnonzero(np.asarray(table["split"]) == split)
        if len(rows) and specs:
            outputs = np.column_stack([np.asarray(table[name], dtype=np.float64)[rows] for name in names])
            one = outputs[:, 0] if len(names) == 1 else outputs
            labels_N = np.asarray(table["label"], dtype=np.float64)[rows]
            dates_N = np.asarray(table["date"], dtype="datetime64[ns]")[rows]
            assets_N = np.asarray(table["asset"])[rows] if "asset" in table else np.full(len(rows), "")
            windows = MetricWindows(dates_N, assets_N, validation)
            found |= columns(specs, split, labels_N, one, windows)
            if split == "validation":
                validation = labels_N, one
    return found
