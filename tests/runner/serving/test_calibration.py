"""`task.calibrate`: fitted on validation, reported before and after, and in what predict, evaluate and export give."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

import isotherm
from runner.config import sweep_file
from runner.config.yaml_lines import parse
from tests.finished import SWEEP, finished_run
from trainables.errors import ConfigError


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    finished_run(folder, "task.calibrate=isotonic", text=SWEEP.replace("[0, 1]", "[0]"))
    return folder


def test_results_have_both_and_the_key_is_that_without(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(calibrated)
    table = isotherm.open_run("tiny").results()
    for split in ("val", "test"):
        for name in ("ece", "brier_reliability", "brier_resolution"):
            assert table[[f"metric:{split}_{name}", f"metric:{split}_{name}_isotonic"]].notna().all(axis=None)
        assert table[f"metric:{split}_brier_uncertainty"].notna().all()
    models = table[table["kind"] == "model"]
    after, before = (models[f"metric:val_ece{end}"].item() for end in ("_isotonic", ""))
    assert after < before, "on the windows that it was fitted on"
    assert models["metric:val_loss_isotonic"].item() < models["val_loss"].item()
    sweep = sweep_file.load(Path("sweep.yaml"))
    assert sweep.settings.all_metrics == sweep.settings.metrics == ()


@pytest.mark.parametrize("how", ["isotonic", "platt"])
def test_predict_evaluate_and_export_use_it(
    how: str, calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(calibrated)
    resolved = Path("runs/tiny/resolved.json")
    document = json.loads(resolved.read_text())
    document["task"]["calibrate"] = how  # nothing but what is asked for afterwards depends on it
    resolved.write_text(json.dumps(document))
    run = isotherm.open_run("tiny")
    trial = run.best()
    own = run.predictions(trial.state.cell.key)
    table = trial.predict("sp500")
    both = own.merge(table, on=["date", "asset"], suffixes=("_own", ""))
    assert np.allclose(both["logit"], both["logit_own"], rtol=0, atol=1e-6), "the logit stays the ledger's"
    known = own[own["split"] == "validation"]
    x, y = known["logit"].to_numpy(), known["label"].to_numpy()
    if how == "platt":
        fitted = LogisticRegression(C=np.inf).fit(x[:, None], y)
        expected = fitted.predict_proba(table[["logit"]].to_numpy())[:, 1]
    else:
        expected = (
            IsotonicRegression(y_min=1e-3, y_max=1 - 1e-3, out_of_bounds="clip").fit(x, y).predict(table["logit"])
        )
    np.testing.assert_allclose(table["probability"], expected, atol=1e-4 if how == "platt" else 1e-6)
    assert np.abs(table["probability"] - expit(table["logit"])).max() > 0.01
    assert f"ece_{how}" in trial.evaluate("sp500").numbers
    folder = trial.export(tmp_path / "model")
    example = json.loads((folder / "example.json").read_text())
    program = torch.export.load(folder / "model.pt2").module()
    outputs = program(torch.tensor(example["inputs"][0], dtype=torch.float64)).detach().numpy()
    np.testing.assert_allclose(outputs, logit(table["probability"].tail(4)), atol=1e-3)
    assert f"calibration by {how}" in (folder / "README.md").read_text()


def test_it_is_for_labels_0_and_1() -> None:
    text = SWEEP.replace("kind: threshold", "kind: regression, calibrate: platt").replace(
        "lr:", "loss: squared_error, lr:"
    )
    with pytest.raises(
        ConfigError, match="calibrate: platt is for labels 0 and 1, and the task 'regression' has others"
    ):
        sweep_file.understand(parse(text, None), {})
