"""A trial's numbers on bars that it was not trained on, and how far these bars are from its training windows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.config.gates import CheckLimits
from runner.planning import data_statistics as statistics
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import RunPaths
from runner.serving.predictor import Predictor, open_predictor
from trainables.data import new_bars
from trainables.data.window_index import SplitIndex
from trainables.errors import DataError, Problem
from trainables.files import read_json
from trainables.schema import MetricSpec, with_calibration
from trainables.training import metric_registry
from trainables.training import predictions as prediction_tables
from trainables.training.metrics import Prior, Scorer

USUAL = CheckLimits()
NUMBERS = ("loss", "prior_loss", "skill", "auc", "ap", "brier")


@dataclass(frozen=True)
class Drift:
    """How far one feature of the windows' last bars is from training.

    Attributes:
        shift: difference of the means in standard deviations of the training windows.
        stability: population stability index (`runner.planning.data_statistics.population_stability`).
    """

    feature: str
    shift: float
    stability: float

    @property
    def beyond(self) -> bool:
        """Whether it is more than the checks before a sweep accept between splits."""
        return abs(self.shift) > USUAL.mean_drift or self.stability > USUAL.distribution_drift


@dataclass(frozen=True)
class Evaluation:
    """A trial on new bars.

    Attributes:
        windows: that were judged; `trained` windows end or have labels in the training period, and were left out.
        effective: independent samples among them.
        first, last: days of the first and the last window's last bar.
        numbers: by name: value, low and high of the 95 % interval, each None where unknown.
        drift: of each feature, the largest stability index first.
    """

    key: str
    windows: int
    trained: int
    effective: int
    first: str
    last: str
    numbers: dict[str, tuple[float | None, float | None, float | None]]
    drift: tuple[Drift, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        numbers = {name: dict(zip(("value", "low", "high"), one, strict=True)) for name, one in self.numbers.items()}
        return {**asdict(self), "numbers": numbers, "drift": [asdict(one) for one in self.drift]}


def evaluate(
    predictor: Predictor,
    sources: Sequence[str],
    metrics: Sequence[MetricSpec] = (),
    residual_variance: float | None = None,
) -> Evaluation:
    """Judge a trial by the windows of new bars whose labels are known and that are later than its training.

    Args:
        predictor: the trial.
        sources: files of bars, or names, as in ``data.source``.
        metrics: in addition to loss, skill and so on.
        residual_variance: of values the trial's own, in label units squared.

    Raises:
        DataError: the bars are of another meaning, or no window is left.
    """
    spec, fitted = predictor.spec, predictor.fitted
    found = new_bars.windows_of(predictor.dataset(sources), spec.data, spec.task, fitted)
    known_N = np.isfinite(found.index.labels_N)
    later_N = found.index.dates_N > fitted.last
    kept_N = known_N & later_N
    if not kept_N.any():
        message = f"no window with a known label is later than the training period, which ends at {_day(fitted.last)}"
        fix = "give later bars; predictions of the training period say nothing about a model"
        raise DataError(Problem(place=", ".join(sources), message=message, fix=fix))
    outputs = predictor.outputs(found)[kept_N]
    index = found.index.where(kept_N)
    prior = Prior(fitted.label_mean, fitted.label_variance, fitted.label_shares)
    scorer = Scorer(index.labels_N, index.dates_N, task=spec.task, prior=prior)
    scores = asdict(scorer.scores(outputs, residual_variance))
    bounds = asdict(scorer.intervals(outputs, residual_variance))
    numbers = {
        name: (scores[name], bounds.get(f"{name}_low"), bounds.get(f"{name}_high"))
        for name in NUMBERS
        if scores[name] is not None
    }
    size = index.effective(spec.task)
    return Evaluation(
        key=predictor.key,
        windows=len(index),
        trained=int((known_N & ~later_N).sum()),
        effective=size.total,
        first=_day(index.dates_N.min()),
        last=_day(index.dates_N.max()),
        numbers=numbers | _own(predictor, metrics, index, outputs),
        drift=_drift(predictor, found.data.values_TF[index.ends_N].astype(np.float64)),
    )


def of_run(paths: RunPaths, view: LedgerView, state: CellState, sources: Sequence[str], data_root: Path) -> Evaluation:
    """Evaluate a finished trial of a run, with its sweep's metrics; see `evaluate` and `predictor.open_predictor`."""
    predictor = open_predictor(paths, view, state, data_root)
    asked = read_json(paths.resolved).get("metrics", ())
    metrics = with_calibration(tuple(MetricSpec.model_validate(one) for one in asked), predictor.calibrate)
    variance = state.ended.result.get("train_residual_variance") if state.ended else None
    return evaluate(predictor, sources, metrics, variance)


def _own(
    predictor: Predictor, metrics: Sequence[MetricSpec], index: SplitIndex, outputs: np.ndarray[Any, Any]
) -> dict[str, tuple[float | None, float | None, float | None]]:
    """The sweep's metrics; what they choose (a threshold, say) is chosen on the trial's validation windows."""
    if not metrics:
        return {}
    table = prediction_tables.table(index.dates_N, index.assets_N, "test", index.labels_N.astype(np.float32), outputs)
    both = pd.concat([predictor.validation, table], ignore_index=True)
    columns = metric_registry.of_table(metrics, {str(name): both[name] for name in both})
    head = f"{metric_registry.PREFIX}{metric_registry.PREFIXES['test']}_"
    return {
        spec.column: tuple(columns[f"{head}{spec.column}{end}"] for end in ("", "_low", "_high"))  # type: ignore[misc]
        for spec in metrics
    }


def _drift(predictor: Predictor, values_NF: np.ndarray[Any, Any]) -> tuple[Drift, ...]:
    train_NF = predictor.fitted.sample_NF
    shifts_F = statistics.mean_shift(train_NF, values_NF)
    stability_F = statistics.population_stability(train_NF, values_NF)
    found = [
        Drift(name, float(shift), float(stability))
        for name, shift, stability in zip(predictor.spec.data.features, shifts_F, stability_F, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: -one.stability))


def _day(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[D]"))
