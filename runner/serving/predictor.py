"""Predictions of a finished trial for new bars: the same features, representation and scaling as in its training.

Array names: N windows, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import DATA, RunPaths
from runner.serving import weights
from trainables.data import build, catalog, new_bars, tier_registry
from trainables.data.dataset import CatalogEntry, Dataset
from trainables.data.new_bars import Fitted, NewWindows
from trainables.errors import ConfigError, DataError, Problem
from trainables.files import read_json
from trainables.schema import Calibration, DataSpec, ResolvedData, SampleSpec, TaskSpec, TrialSpec
from trainables.training import predictions
from trainables.training.bootstrap import Floats
from trainables.training.calibration import Calibrator, calibrator
from trainables.training.evaluation import EvaluationPass

MICRO_BATCH = 256  # windows in memory at once; outputs do not depend on it but for rounding
SPACING_FACTOR = 1.5  # bars whose median spacing is off by more are of another timescale


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trial's model with all that its inputs are made of.

    Attributes:
        key: of the trial.
        spec: its specification.
        model: on the CPU, in eval mode.
        trained_on: the data that it was trained on.
        fitted: what was taken from its training windows.
        reading: how its sweep reads bars; the source is replaced.
        validation: its own predictions of the validation split, which thresholds and calibration are chosen on.
        calibrate: as its sweep asks (`task.calibrate`).
    """

    key: str
    spec: TrialSpec
    model: nn.Module
    trained_on: Dataset
    fitted: Fitted
    reading: DataSpec
    validation: pd.DataFrame
    calibrate: Calibration = "none"

    @property
    def calibrated(self) -> Calibrator:
        """From logits of a binary task to calibrated ones, fitted on the validation split."""
        if self.calibrate == "none":
            return Calibrator()
        labels_N = self.validation["label"].to_numpy(dtype=np.float64)
        return calibrator(self.calibrate, predictions.outputs(self.validation), labels_N)

    def dataset(self, sources: Sequence[str]) -> Dataset:
        """Bars and features of new sources.

        Raises:
            DataError: they cannot be read, or are of another meaning than what the trial was trained on.
            ConfigError: the trial's feature tier is not registered here, in its version.
        """
        data = self.spec.data
        spec = self.reading.model_copy(update={"source": tuple(sources), "sample": SampleSpec()})
        with TemporaryDirectory() as folder:
            entry = build.build(spec, "new", Path(folder) / "new.parquet")
            frame = Dataset(Path(folder) / "new.parquet", entry.features, entry).frame
        place = ", ".join(sources)
        if entry.features != data.features:
            message = f"the tier gives {len(entry.features)} features that are not those of the trial"
            fix = f"the trial was trained on {', '.join(data.features[:8])}, ...: register the tier as it was then"
            raise DataError(Problem(place=place, message=message, fix=fix))
        known_assets = self.trained_on.entry.assets
        if data.scaling in ("rank", "by_date") and entry.assets != known_assets:
            message = f"scaling {data.scaling} compares the assets of a date, and these are not those of the trial"
            raise DataError(Problem(place=place, message=message, fix=f"give bars of {', '.join(known_assets)}"))
        # Kinds of own columns were found out from the values that the trial was trained on.
        dataset = Dataset(frame, entry.features, entry.model_copy(update={"kinds": self.trained_on.entry.kinds}))
        found, known = new_bars.spacing(dataset), self.fitted.spacing_ns
        if found and known and not 1 / SPACING_FACTOR <= found / known <= SPACING_FACTOR:
            message = f"bars are {_duration(found)} apart, those of the trial {_duration(known)} ({data.timescale})"
            raise DataError(
                Problem(place=place, message=message, fix="give bars of the trial's timescale, or finer ones")
            )
        return dataset

    def outputs(self, found: NewWindows) -> Floats:
        """Outputs [N] or [N, K]: logits, or predicted means in label units."""
        evaluation = EvaluationPass({"new": found.windows}, MICRO_BATCH)
        with torch.random.fork_rng(devices=[]):
            while not evaluation.done:
                evaluation.advance(self.model, self.spec.dtype)
        outputs = evaluation.outputs()["new"]
        if self.spec.task.outcome != "value":
            return outputs
        return outputs * float(np.sqrt(self.fitted.label_variance)) + self.fitted.label_mean

    def predict(self, sources: Sequence[str]) -> pd.DataFrame:
        """One row per window of new bars, by asset and date: date, asset, and the columns of `answers`.

        Args:
            sources: as in ``data.source``: files of bars, FILE#SYMBOL, or names.

        Raises:
            DataError: see `dataset`; or there are too few bars for one window.
        """
        found = new_bars.windows_of(self.dataset(sources), self.spec.data, self.spec.task, self.fitted)
        outputs, calibrated = self.outputs(found), None
        if self.calibrate != "none":
            calibrated = self.calibrated(outputs)
        return answers(self.spec, found, outputs, calibrated)


def answers(spec: TrialSpec, found: NewWindows, outputs: Floats, calibrated: Floats | None = None) -> pd.DataFrame:
    """A table of predictions.

    Columns: date (of the window's last bar), asset, then ``logit`` and ``probability`` of a binary task, ``logit_0``,
    ... and ``probability_NAME``, ... of classes, ``predicted`` of values. Probabilities are those of the calibrated
    logits where there are any; ``logit`` is as the model gives it.
    """
    place = {"date": found.index.dates_N, "asset": found.index.assets_N}
    if spec.task.outcome == "value":
        return pd.DataFrame({**place, "predicted": outputs})
    each = outputs[:, None] if outputs.ndim == 1 else outputs
    logits = dict(zip(predictions.columns(each.shape[1]), each.T, strict=True))
    return pd.DataFrame({**place, **logits, **probabilities(spec, outputs if calibrated is None else calibrated)})


def probabilities(spec: TrialSpec, logits: Floats) -> dict[str, Floats]:
    """Probabilities by column name, from logits [N] or [N, K]."""
    from scipy.special import expit, softmax

    if logits.ndim == 1:
        return {"probability": np.asarray(expit(logits))}
    names = [f"probability_{name}" for name in spec.task.classes]
    return dict(zip(names, np.asarray(softmax(logits, axis=1)).T, strict=True))


def open_predictor(paths: RunPaths, view: LedgerView, state: CellState, data_root: Path = DATA) -> Predictor:
    """A finished trial of a run, ready to predict.

    Args:
        paths: of the run.
        view: its ledger.
        state: the trial.
        data_root: the folder of datasets that it was trained from; scaling is taken from its training windows again.

    Raises:
        ConfigError: its specification, architecture or tier cannot be used by this version.
        CheckpointError: no weights are kept, or they are damaged.
        DataError: the data that it was trained on are not there any more.
    """
    spec = weights.spec_of(paths, state)
    dataset = catalog.load(entry_of(paths, view, spec.data, data_root), data_root)
    return Predictor(
        key=state.cell.key,
        spec=spec,
        model=weights.load(spec, paths.checkpoint(state.cell.key), state.cell.key),
        trained_on=dataset,
        fitted=new_bars.fit(dataset, spec.data, spec.task),
        reading=_reading(paths, spec),
        validation=_validation(paths, state.cell.key),
        calibrate=asked_task(paths).calibrate,
    )


def _validation(paths: RunPaths, key: str) -> pd.DataFrame:
    from runner.rundir.predictions import read_predictions

    frame = read_predictions(paths, key)
    return frame[frame["split"] == "validation"]


def entry_of(paths: RunPaths, view: LedgerView, data: ResolvedData, data_root: Path) -> CatalogEntry:
    """The catalog entry of a trial's data, as the ledger or the data folder has it."""
    recorded = [one for sweep in view.sweeps for one in sweep.datasets]
    for one in reversed(recorded):
        entry = catalog.entry_of(one, str(paths.ledger))
        if (entry.content_sha256, entry.features) == (data.content_sha256, data.features):
            known = catalog.entries(data_root).get(entry.name, entry)  # built anew since: other bytes, equal content
            return known if known.content_sha256 == entry.content_sha256 else entry
    message = "the ledger does not name the data set that the trial was trained on"
    raise ConfigError(Problem(place=str(paths.ledger), message=message, fix="run the sweep again: it records that"))


def _reading(paths: RunPaths, spec: TrialSpec) -> DataSpec:
    """How the run's sweep reads bars, with the trial's own tier."""
    tier, known = spec.data.tier, tier_registry.of_dataset(spec.data.tier)[0]
    version, config = (1, {}) if isinstance(tier, str) else (tier.version, tier.config)
    if known.version != version:
        message = f"version {known.version} of the tier {known.name!r} is registered here, the trial's is {version}"
        raise ConfigError(Problem(place="data.tier", message=message, fix="register the version of the trial"))
    asked = _asked(paths, "data")
    try:
        return DataSpec.model_validate(
            asked | {"tier": {"name": known.name, **config}, "timescale": spec.data.timescale}
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(paths, error) from error


def asked_task(paths: RunPaths) -> TaskSpec:
    """The block `task` of the run's sweep.

    Raises:
        ConfigError: the settings that the run directory holds cannot be read.
    """
    try:
        return TaskSpec.model_validate(_asked(paths, "task"))
    except ValueError as error:
        raise _unreadable(paths, error) from error


def _asked(paths: RunPaths, block: str) -> Any:
    try:
        return read_json(paths.resolved)[block]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(paths, error) from error


def _unreadable(paths: RunPaths, error: Exception) -> ConfigError:
    message = f"cannot be read: {', '.join(str(error).splitlines()[:2])}"
    return ConfigError(Problem(place=str(paths.resolved), message=message, fix="run the sweep again"))


def _duration(nanoseconds: int) -> str:
    return str(pd.Timedelta(nanoseconds, "ns")).removesuffix(" 00:00:00")
