"""Differences of metrics other than the loss, paired on the same windows, with intervals as those of the loss.

A metric such as the AUC is no mean over windows: it is computed anew without each of eight batches of dates, the same
for both sides, which gives the error by the sampling of the period (`trainables.training.batches`). The spread between
seeds adds its own; Student's t has the degrees of freedom of Satterthwaite (1946). Of one metric the intervals of all
pairs hold together (Bonferroni).

Array names: N windows, R rows of a jackknife, M seeds.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError
from scipy.special import stdtrit

from runner.report.analysis.contrasts import SPLITS, place_of, series_of, sizes_of
from runner.report.analysis.paired import LEVEL, Entry, RefusedError, Source, aligned, frames_of
from runner.report.analysis.trials import Trial
from runner.report.analysis.verdict import beside
from runner.report.tables import Column, ReportTable
from runner.report.wording import number
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from trainables.errors import ConfigError
from trainables.schema import MetricSpec, ResolvedTask, TaskSpec, with_calibration
from trainables.training import batches
from trainables.training import predictions as prediction_tables
from trainables.training.bootstrap import Floats
from trainables.training.likelihood import Prior
from trainables.training.metric_registry import METRICS, MetricWindows, lower_is_better, value_of

OF_CLASSES = ("auc", "ap", "brier")  # of every trial; the loss is compared by `paired`, and skill follows from it

log = logging.getLogger(__name__)
_Key = tuple[Source, str]  # a trial: its run and its key


@dataclass(frozen=True)
class MetricDifference:
    """A metric of the first less that of the second.

    Attributes:
        alone: 95 % interval of this pair for itself.
        low, high: that holds for all pairs of the metric in this series and split together.
        better: whether the first is better beyond doubt; None where the two cannot be distinguished, or one side has a
            single seed.
    """

    place: str
    split: str
    metric: str
    first: str
    second: str
    value: float
    alone: tuple[float, float]
    low: float
    high: float
    better: bool | None
    enough_seeds: bool


def metric_differences(
    paths: RunPaths, view: LedgerView, trials: Sequence[Trial], baselines: Sequence[Trial]
) -> tuple[MetricDifference, ...]:
    """In each series: the largest size less the smallest, and the best size by validation loss less each baseline."""
    found: list[MetricDifference] = []
    source = Source(paths, view)
    groups = tuple(dict.fromkeys(trial.group for trial in trials))
    for (horizon, group), members in series_of(trials):
        sizes = sizes_of(members, source)
        best = min(sizes, key=_loss)
        others = beside(members[0], baselines)
        pairs = [(best, Entry(one.group.model.replace("_", " "), ((one,),), source)) for one in others]
        pairs = [(sizes[-1], sizes[0]), *pairs] if len(sizes) > 1 else pairs
        if pairs:
            place = place_of(horizon, group.differing(groups))
            found += of_pairs(place, pairs)
    return tuple(found)


def _loss(size: Entry) -> float:
    losses = [trial.val_loss.value for trial in size.trials]
    return sum(losses) / len(losses)  # type: ignore[arg-type] # those of a series are known


def of_pairs(place: str, pairs: Sequence[tuple[Entry, Entry]]) -> Iterator[MetricDifference]:
    """The first of each pair less the second, on the windows that all of them share; of several runs, too."""
    trials = list(dict.fromkeys((one.source, trial.key) for pair in pairs for one in pair for trial in one.trials))
    view = trials[0][0].view
    task = ResolvedTask.model_validate(view.cells[trials[0][1]].cell.spec["task"])
    known: dict[_Key, pd.DataFrame] = {}
    for split in SPLITS:
        try:
            frames = dict(zip(trials, aligned(frames_of(trials, split)), strict=True))
        except RefusedError:  # the comparison of losses says why
            return
        for spec in _metrics(view, task):
            try:
                values = {one: _values(spec, one, frames[one], known.get(one), task) for one in trials}
            except Exception:  # code of somebody else must not cost a report
                log.exception("the metric %r cannot be compared", spec.column)
                continue
            yield from _differences(place, split, spec, pairs, values)
        known = frames


def _metrics(view: LedgerView, task: ResolvedTask) -> Iterator[MetricSpec]:
    """Those of every trial, and those of the sweep that are registered here."""
    config = view.sweeps[-1].config if view.sweeps else {}
    try:
        asked = tuple(MetricSpec.model_validate(one) for one in config.get("metrics", ()))
        asked = with_calibration(asked, TaskSpec.model_validate(config.get("task", {})).calibrate)
    except (ValidationError, TypeError):
        asked = ()
    own = [MetricSpec(name=name) for name in (OF_CLASSES if task.outcome != "value" else ())]
    for spec in (*own, *asked):
        try:
            METRICS.get(spec.name)
        except ConfigError:
            log.warning("the metric %r is not registered here, and not compared", spec.name)
        else:
            yield spec


def _values(spec: MetricSpec, trial: _Key, frame: pd.DataFrame, validation: pd.DataFrame | None, task: Any) -> Floats:
    """The metric of one trial [R]; thresholds and calibrations are those of its own validation windows."""
    source, key = trial
    ended = source.view.cells[key].ended
    result = ended.result if ended else {}
    labels_N, outputs = _of(frame)
    windows = MetricWindows(
        dates_N=frame["date"].to_numpy().astype("datetime64[ns]"),
        assets_N=frame["asset"].to_numpy(),
        validation=_of(validation) if validation is not None else None,
        outcome=task.outcome,
        prior=_prior(result, task),
        residual_variance=result.get("train_residual_variance"),
    )
    kept_RN = batches.leave_one_out(windows.dates_N) > 0
    values = [value_of(spec, labels_N[kept_N], outputs[kept_N], windows.where(kept_N)) for kept_N in kept_RN]
    return np.array(values, dtype=np.float64)


def _of(frame: pd.DataFrame) -> tuple[Floats, Floats]:
    return frame["label"].to_numpy(dtype=np.float64), prediction_tables.outputs(frame)


def _prior(result: dict[str, Any], task: ResolvedTask) -> Prior:
    mean = float(result.get("train_base_rate") or 0.0)
    shares = tuple(float(result.get(f"train_share_{number}") or 0.0) for number in range(len(task.classes)))
    return Prior(mean, mean * (1 - mean), shares)


def _differences(
    place: str, split: str, spec: MetricSpec, pairs: Sequence[tuple[Entry, Entry]], values: dict[_Key, Floats]
) -> Iterator[MetricDifference]:
    lower = lower_is_better(METRICS.get(spec.name))
    for first, second in pairs:
        sides = [np.stack([values[one.source, trial.key] for trial in one.trials]) for one in (first, second)]
        mean_R = sides[0].mean(axis=0) - sides[1].mean(axis=0)
        count = len(mean_R) - 1
        if not np.isfinite(mean_R).all() or count < 2:
            continue
        variances = [((count - 1) / count * float(np.sum((mean_R[1:] - mean_R[1:].mean()) ** 2)), count - 1)]
        variances += [(float(side[:, 0].var(ddof=1)) / len(side), len(side) - 1) for side in sides if len(side) > 1]
        total = sum(variance for variance, _ in variances)
        freedom = total**2 / sum(v**2 / df for v, df in variances if v) if total else math.inf
        value = float(mean_R[0])
        half = [
            float(stdtrit(freedom, 1 - (1 - LEVEL) / 2 / tests)) * math.sqrt(total) if total else 0.0
            for tests in (1, len(pairs))
        ]
        enough, surely = first.enough_seeds and second.enough_seeds, abs(value) > half[1]
        yield MetricDifference(
            *(place, split, spec.column, first.name, second.name, value),
            *((value - half[0], value + half[0]), value - half[1], value + half[1]),
            better=(value < 0) == lower if enough and surely else None,
            enough_seeds=enough,
        )


def metric_table(differences: Sequence[MetricDifference]) -> ReportTable:
    """A row for each series, split, metric and pair."""
    columns = (
        Column("where"), Column("split"), Column("metric"), Column("of"), Column("less that of"),
        Column("difference", "number"), Column("95 %, all pairs together", "number"),
        Column("95 %, this pair alone", "number"), Column("says"),
    )  # fmt: skip
    return ReportTable("Paired differences of metrics", columns, tuple(_row(one) for one in differences))


def _row(one: MetricDifference) -> tuple[str, ...]:
    ends = [number(end, 4, signed=True) for end in (one.low, one.high, *one.alone)]
    word = "cannot be distinguished" if one.better is None else "better" if one.better else "worse"
    return (
        one.place,
        one.split,
        one.metric,
        one.first,
        one.second,
        number(one.value, 4, signed=True),
        f"[{ends[0]}, {ends[1]}]",
        f"[{ends[2]}, {ends[3]}]",
        word if one.enough_seeds else f"{word} (one seed)",
    )
