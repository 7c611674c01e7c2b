"""A run directory, opened for reading: results, histories, predictions, verdicts and models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from runner.config import parts
from runner.report.analysis import trials as analysed
from runner.report.analysis.verdict import SeriesVerdict, verdicts
from runner.rundir import ledger, results
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import DATA, RunPaths, existing_run
from runner.rundir.predictions import read_predictions
from runner.serving.choice import chosen
from trainables.errors import ConfigError, Problem, nearest
from trainables.schema import TrialSpec

if TYPE_CHECKING:
    from torch import nn

    from runner.serving.evaluate import Evaluation


def open_run(path: str | Path, *, plugins: Sequence[str | Path] = ()) -> "Run":
    """Open a run that exists, also one that is still running.

    Example: ``isotherm.open_run("quickstart").results()``

    Args:
        path: the run's name, for ``runs/<name>``, or its folder.
        plugins: Python files with parts of your own; only `Trial.model` needs them. The copies in the run directory are
            not loaded by themselves, since a run directory may be somebody else's.

    Raises:
        ConfigError: there is no ledger, the run directory holds links, or a plugin fails.
    """
    parts.load_plugins([Path(one) for one in plugins])
    return Run(existing_run(path))


@dataclass(frozen=True)
class Run:
    """A run directory. Every method reads the ledger as it is now.

    Methods that take a key accept that of a trial, a baseline or an ensemble, and raise ConfigError where the run has
    none such. LedgerError means that the ledger is damaged.
    """

    paths: RunPaths

    @property
    def name(self) -> str:
        """The run's name."""
        return self.paths.name

    @property
    def exit_code(self) -> int | None:
        """How the latest sweep ended: 0 done, 1 a trial failed, 3 stopped early; None where no end is recorded."""
        ended = self._view().ended
        return ended.exit_code if ended is not None else None

    def results(self) -> pd.DataFrame:
        """One row per trial that was started, a baseline or an ensemble, as in ``results.parquet``.

        Example: ``run.results().query("kind == 'model'")[["key", "n_params", "val_loss"]]``
        """
        return results.frame(self._view())

    def history(self, key: str) -> pd.DataFrame:
        """The recorded metrics of a trial, by optimizer step: ``epoch``, and a column a metric (NaN = not recorded)."""
        state = self._state(key)
        steps = sorted(state.metrics)
        rows = [{"epoch": state.epochs[step], **state.metrics[step]} for step in steps]
        table = pd.DataFrame(rows, index=pd.Index(steps, name="step", dtype="int64"))
        return table if rows else table.assign(epoch=pd.Series(dtype="int64"))

    def predictions(self, key: str) -> pd.DataFrame:
        """Date, asset, split, label and logit (or a logit a class) of the windows that an ended trial is judged by.

        Raises:
            DataError: there are none, or the file is damaged.
        """
        self._state(key)
        return read_predictions(self.paths, key)

    def verdicts(self) -> tuple[SeriesVerdict, ...]:
        """Whether the loss falls with size and by which law, for each horizon and group of comparable trials.

        Example: ``[(one.horizon, one.verdict, one.reason) for one in run.verdicts()]``
        """
        view = self._view()
        return verdicts(self.paths, view, analysed.trials_of(view), analysed.baselines_of(view))

    def trial(self, key: str) -> "Trial":
        """One trial of the run.

        Raises:
            ConfigError: no such key, or it is that of a baseline or an ensemble.
        """
        state = self._state(key)
        if state.cell.cell_kind != "model":
            message = f"{key} is the {state.cell.cell_kind} {state.cell.name!r}, which has no model of its own"
            raise ConfigError(Problem(place=f"run {self.name!r}", message=message, fix="give the key of a trial"))
        return Trial(self.paths, state)

    def best(self) -> "Trial":
        """The finished trial with the lowest validation loss, collapsed ones left out; of a search a confirmed one.

        Searched trials are chosen from where no confirmed one has finished.

        Raises:
            ConfigError: none has finished; or trials are of several data sets or tasks, whose best ones are named.
        """
        return Trial(self.paths, chosen(self._view(), self.name, None))

    def _view(self) -> LedgerView:
        return ledger.read(self.paths.ledger)

    def _state(self, key: str) -> CellState:
        cells = self._view().cells
        if key not in cells:
            message, fix = f"no trial has the key {key!r}", nearest(key, cells)
            raise ConfigError(Problem(place=f"run {self.name!r}", message=message, fix=fix))
        return cells[key]


@dataclass(frozen=True)
class Trial:
    """One trial of a run, as it was when `Run.trial` was called."""

    paths: RunPaths
    state: CellState

    @property
    def spec(self) -> TrialSpec:
        """Everything that defines its result.

        Raises:
            ConfigError: the ledger's specification is none that this version reads.
        """
        from runner.serving.weights import spec_of

        return spec_of(self.paths, self.state)

    def model(self) -> "nn.Module":
        """The model with the weights that were judged, on the CPU and in eval mode.

        Example: ``model(torch.zeros(1, context, n_features))``

        Raises:
            ConfigError: its architecture is not registered here in this version: name its file with `plugins`.
            CheckpointError: no weights are kept, or they are damaged or of another model.
        """
        from runner.serving.weights import load

        return load(self.spec, self.paths.checkpoint(self.state.cell.key), self.state.cell.key)

    def predict(self, data: str | Path | Sequence[str | Path], *, data_root: Path = DATA) -> pd.DataFrame:
        """Predictions for new bars: date of a window's last bar, asset, logit and probability (or predicted value).

        Example: ``run.best().predict("new.csv")``

        Args:
            data: a file of bars, FILE#SYMBOL, a name as in ``data.source``, or several of these.
            data_root: the folder of the data that the trial was trained on, from which its scaling is taken.

        Raises:
            DataError: the bars cannot be read or are of another meaning; or the trial's own data are missing.
            ConfigError, CheckpointError: as of `model`.
        """
        from runner.serving.predictor import open_predictor

        predictor = open_predictor(self.paths, ledger.read(self.paths.ledger), self.state, data_root)
        return predictor.predict(_sources(data))

    def evaluate(self, data: str | Path | Sequence[str | Path], *, data_root: Path = DATA) -> "Evaluation":
        """Loss, skill, AUC and the sweep's metrics on new bars later than the training, with intervals and drift.

        Args and errors are those of `predict`.
        """
        from runner.serving.evaluate import of_run

        return of_run(self.paths, ledger.read(self.paths.ledger), self.state, _sources(data), data_root)

    def export(self, folder: str | Path, *, data_root: Path = DATA) -> Path:
        """Write a folder that torch alone can load: a `torch.export` program, scaling, features, model card, example.

        Raises:
            ConfigError: the folder is not empty, or the model is no program for `torch.export`; and as of `model`.
            CheckpointError: as of `model`.
        """
        from runner.serving.export import of_run

        return of_run(self.paths, ledger.read(self.paths.ledger), self.state, Path(folder), data_root)


def _sources(data: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    return (str(data),) if isinstance(data, str | Path) else tuple(map(str, data))
