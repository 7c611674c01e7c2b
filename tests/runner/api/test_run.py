"""A run opened in Python: what the ledger of an earlier version holds, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import isotherm
from runner import scaling
from runner.rundir import ledger
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.errors import CheckpointError, DataError
from trainables.models.registry import build

LEDGER = Path(__file__).parents[1] / "format1.jsonl"


@pytest.fixture
def run(folder: Path) -> isotherm.Run:
    (folder / "runs" / "old").mkdir(parents=True)
    shutil.copy(LEDGER, folder / "runs" / "old" / "ledger.jsonl")
    return isotherm.open_run("old")


def first(run: isotherm.Run) -> str:
    return str(run.results().query("kind == 'model'")["key"].iloc[0])


def test_results_histories_and_verdicts_are_the_ledgers(run: isotherm.Run) -> None:
    results = run.results().set_index("key")
    key = first(run)
    history = run.history(key)
    assert history.index.name == "step"
    assert history.index.is_monotonic_increasing
    assert np.isclose(history["val_loss"], results.loc[key, "val_loss"]).any()
    assert {one.horizon for one in run.verdicts()} <= set(results["horizon"].dropna())
    assert len(run.verdicts()) > 0
    assert run.exit_code == 0


def test_the_model_has_the_kept_weights_and_is_in_eval_mode(run: isotherm.Run) -> None:
    key = first(run)
    trial = run.trial(key)
    with pytest.raises(CheckpointError, match="no weights can be read"):
        trial.model()
    kept = build(trial.spec.model)
    store = FileCheckpointStore(run.paths.checkpoint(key), 1, key)
    store.keep_best(kept.state_dict(), step=1, spec=trial.spec)
    state = torch.random.get_rng_state()
    model = trial.model()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(tensor, kept.state_dict()[name]) for name, tensor in model.state_dict().items())
    weights = run.paths.checkpoint(key) / "best" / "state.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="does not have the bytes"):
        trial.model()


def test_weights_of_another_model_are_refused(run: isotherm.Run) -> None:
    key = first(run)
    trial = run.trial(key)
    weights = {"other": torch.zeros(1)}
    FileCheckpointStore(run.paths.checkpoint(key), 1, key).keep_best(weights, step=1, spec=trial.spec)
    with pytest.raises(CheckpointError, match="not those of the model"):
        trial.model()


def test_what_is_not_there_is_refused_in_one_message(run: isotherm.Run, folder: Path) -> None:
    with pytest.raises(isotherm.ConfigError, match="runs here: old"):
        isotherm.open_run("odl")
    key = first(run)
    with pytest.raises(isotherm.ConfigError, match=key):
        run.history(key[:-1] + "x")
    with pytest.raises(DataError, match="no predictions"):
        run.predictions(key)
    run.paths.predictions.mkdir()
    run.paths.prediction(key).write_bytes(b"PAR1")
    with pytest.raises(DataError):
        run.predictions(key)
    (folder / "runs" / "old" / "results.csv").symlink_to(folder)
    with pytest.raises(isotherm.ConfigError, match="link"):
        isotherm.open_run("old")


def test_a_baseline_has_no_model(run: isotherm.Run) -> None:
    view = ledger.read(run.paths.ledger)
    cell = next(iter(view.current.values())).cell
    baseline = cell.model_copy(update={"key": "b" * 12, "name": "prior", "cell_kind": "baseline"})
    written = ledger.Ledger(run.paths.ledger)
    written.append(baseline)
    written.close()
    with pytest.raises(isotherm.ConfigError, match="is the baseline 'prior'"):
        run.trial("b" * 12)


def test_fit_takes_a_frame_as_the_command_takes_a_file(tmp_path: Path) -> None:
    sizes = np.array([1e5, 3e5, 1e6, 3e6, 1e7, 3e7])
    frame = pd.DataFrame({"n_params": sizes, "loss": 0.5 + 20 * sizes**-0.4}, index=list("abcdef"))
    frame.to_csv(tmp_path / "table.csv", index=False)
    options = isotherm.FitOptions(bootstraps=20)
    of_file = scaling.fit(scaling.read_csv(tmp_path / "table.csv"), options)
    assert isotherm.fit(frame, options=options).as_dict() == of_file.as_dict()
    with pytest.raises(DataError, match=r"frame: row 2: n_params is '<NA>'"):
        isotherm.fit(frame.assign(n_params=pd.array([1, None, 3, 4, 5, 6], dtype="Int64")))
    with pytest.raises(DataError, match="column 'loss' is missing"):
        isotherm.fit(frame[["n_params"]])


def test_tune_callbacks_have_a_public_home() -> None:
    from isotherm.tune import MlflowCallback, WandbCallback
    from runner.tracking import callbacks

    assert (MlflowCallback, WandbCallback) == (callbacks.MlflowCallback, callbacks.WandbCallback)
