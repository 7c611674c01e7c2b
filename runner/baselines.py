"""Baselines of a sweep: fitted once for each data and task of the grid, scored as trials are, kept in the ledger."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.host.versions import code_version
from runner.planning.grid import Cell, name_parts
from runner.planning.plan import Plan
from runner.rundir import comparable
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from trainables import baselines
from trainables.baseline_registry import BASELINES
from trainables.baselines import Prediction, SplitWindows
from trainables.data import catalog
from trainables.data.dataset import Dataset
from trainables.data.splits import SplitName
from trainables.data.window_index import WindowIndex, index_windows
from trainables.files import replacing
from trainables.parts import Part
from trainables.schema import KEY_LENGTH, BaselineSpec, MetricSpec
from trainables.training import metric_registry
from trainables.training import predictions as prediction_tables
from trainables.training.metrics import Prior, Scorer, is_collapsed
from trainables.training.result import share_columns, split_columns

_PREFIXES: dict[SplitName, str] = {"validation": "val", "test": "test"}
_SHARED_LABELS = ("horizon", "tier", "timescale", "data_fraction")

log = logging.getLogger(__name__)


def key_of(spec: Mapping[str, Any]) -> str:
    """Identity of what is asked, as `TrialSpec.key` is a trial's."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class Baseline:
    """One baseline to be fitted, as asked; `cell` is a trial with the same data and task.

    `axes` are the grid's axes of data and task, the horizon apart, with their values: its name holds them.
    """

    asked: BaselineSpec
    cell: Cell
    axes: dict[str, Any]

    @property
    def name(self) -> str:
        """The baseline's name."""
        return self.asked.name

    @property
    def part(self) -> Part[Any]:
        """The registered class."""
        return BASELINES.get(self.name, "baselines")

    @property
    def spec(self) -> dict[str, Any]:
        """What is asked: no model shape, no training values, no seed."""
        spec = self.cell.spec.model_dump(mode="json", include={"data", "task"})
        config = self.part.configure(self.part.own(self.asked.config), "baselines").model_dump(mode="json")
        return {"baseline": self.name, "version": self.part.version, **({"config": config} if config else {}), **spec}

    @property
    def key(self) -> str:
        """Identity, as `TrialSpec.key` is a trial's."""
        return key_of(self.spec)

    def recorded(self) -> CellRecorded:
        """Its cell record."""
        labels = {name: self.cell.labels[name] for name in _SHARED_LABELS if name in self.cell.labels}
        axes = {name: value for name, value in self.axes.items() if "." in name}
        return CellRecorded(
            key=self.key,
            name="-".join([self.name, f"h{self.cell.spec.task.horizon}", *name_parts(self.axes)]),
            cell_kind="baseline",
            labels={**labels, "model": self.name, "axes": axes},
            sizes=self.cell.sizes,
            spec=self.spec,
            parts=(self.part.record(),),
        )


def of(plan: Plan, asked: Sequence[BaselineSpec] = baselines.DEFAULT) -> tuple[Baseline, ...]:
    """The baselines of a plan's grid: all that are asked for, for each data and task that can be run honestly."""
    places: dict[str, Cell] = {}
    for cell in plan.grid.cells:
        if cell.sizes["n_train"] and (not cell.infeasible or cell.short_of_memory):
            places.setdefault(comparable.identity(cell.spec.model_dump(mode="json")), cell)
    fractions = {cell.labels["data_fraction"] for cell in plan.grid.cells}
    found = []
    for cell in places.values():
        axes = {name: value for name, value in cell.axes.items() if name.split(".")[0] in comparable.BLOCKS}
        if len(fractions) > 1:
            axes["data_fraction"] = cell.labels["data_fraction"]
        found += [Baseline(one, cell, axes) for one in asked]
    return tuple(found)


def run(
    plan: Plan,
    recorder: Recorder,
    data_root: Path,
    metrics: Sequence[MetricSpec] = (),
    asked: Sequence[BaselineSpec] = baselines.DEFAULT,
) -> None:
    """Fit, score and record the baselines that the ledger does not hold yet.

    Raises:
        DataError: a dataset's bytes have changed since the plan, or a baseline fails.
        OSError: the ledger or a file of predictions cannot be written.
    """
    places: dict[int, tuple[Cell, list[Baseline]]] = {}
    for baseline in of(plan, asked):
        _, missing = places.setdefault(id(baseline.cell), (baseline.cell, []))
        known = recorder.view.cells.get(baseline.key)
        if known is None or not known.final:
            missing.append(baseline)
    for cell, missing in places.values():
        regimes = plan.paths.regime(comparable.identity(cell.spec.model_dump(mode="json")))
        if missing or not regimes.exists():
            _run_place(cell, missing, plan.paths, recorder, data_root, metrics, regimes)


def _run_place(
    cell: Cell,
    missing: list[Baseline],
    paths: RunPaths,
    recorder: Recorder,
    data_root: Path,
    metrics: Sequence[MetricSpec],
    regimes: Path,
) -> None:
    dataset = catalog.load(cell.entry, data_root)
    index = index_windows(dataset, cell.spec.data, cell.spec.task)
    _keep_regimes(paths.writable(regimes), dataset, index)
    started = time.perf_counter()
    predictions = {one.name: one for one in baselines.predict(dataset, index, [one.asked for one in missing])}
    seconds = (time.perf_counter() - started) / max(1, len(predictions))
    for baseline in missing:
        record_outputs(baseline.recorded(), predictions[baseline.name], index, paths, recorder, metrics, seconds)
    log.info("%d baselines of %s: %.1f s", len(missing), cell.name, time.perf_counter() - started)


def _keep_regimes(path: Path, dataset: Dataset, index: WindowIndex) -> None:
    """Which third of the training windows each window of validation and test falls in, by volatility over the context.

    The report is made from the run directory alone, which has no bars.
    """
    volatility = {name: SplitWindows(dataset, index, name).volatility_N2[:, 0] for name in ("train", *_PREFIXES)}
    limits = np.quantile(volatility["train"], (1 / 3, 2 / 3))
    tables = [
        pd.DataFrame({"date": part.dates_N, "asset": part.assets_N, "split": name, "regime": found_N})
        for name in _PREFIXES
        for part, found_N in [(index.splits[name], np.searchsorted(limits, volatility[name]))]
    ]
    with replacing(path) as aside:
        pd.concat(tables, ignore_index=True).to_parquet(aside, index=False)


def record_outputs(
    cell: CellRecorded,
    prediction: Prediction,
    index: WindowIndex,
    paths: RunPaths,
    recorder: Recorder,
    metrics: Sequence[MetricSpec],
    train_seconds: float,
) -> None:
    """Score outputs for every split as those of a trial are, keep them, and record their cell with its end.

    Raises:
        OSError: the ledger or the file of predictions cannot be written.
    """
    if cell.key not in recorder.view.cells:
        recorder.record(cell)
    attempt = len(recorder.view.cells[cell.key].attempts) + 1
    recorder.record(
        AttemptStarted(key=cell.key, attempt=attempt, execution={"device": "cpu"}, code_version=code_version())
    )
    outputs = _outputs(prediction, index)
    own = metric_registry.of_table(metrics, {str(name): outputs[name] for name in outputs})
    result = {**_scored(prediction, index), **own, "train_seconds": train_seconds}
    with replacing(paths.writable(paths.prediction(cell.key))) as aside:
        outputs.to_parquet(aside, index=False)
    recorder.record(CellEnded(key=cell.key, attempt=attempt, status="finished", result=result))


def _scored(prediction: Prediction, index: WindowIndex) -> dict[str, Any]:
    prior = Prior.of(index.splits["train"].labels_N, index.task)
    columns: dict[str, Any] = {"train_base_rate": prior.mean, "train_residual_variance": prediction.residual_variance}
    columns |= share_columns(prior)
    for split, prefix in _PREFIXES.items():
        part = index.splits[split]
        scorer = Scorer(part.labels_N, part.dates_N, task=index.task, prior=prior)
        outputs_N = prediction.outputs[split]
        scores = scorer.scores(outputs_N, prediction.residual_variance)
        intervals = scorer.intervals(outputs_N, prediction.residual_variance)
        columns |= split_columns(prefix, scores, intervals)
        if split == "validation":
            # the prior is one number by design; 'collapsed' is an alarm about methods that were to learn more
            columns["collapsed"] = prediction.name != "prior" and is_collapsed(scores, intervals)
    return columns


def _outputs(prediction: Prediction, index: WindowIndex) -> pd.DataFrame:
    """A table as trials write it."""
    return pd.concat(list(_parts(prediction, index)), ignore_index=True)


def _parts(prediction: Prediction, index: WindowIndex) -> Iterator[pd.DataFrame]:
    for split in _PREFIXES:
        part = index.splits[split]
        outputs = prediction.outputs[split]
        yield prediction_tables.table(part.dates_N, part.assets_N, split, part.labels_N.astype("float32"), outputs)
