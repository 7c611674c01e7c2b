"""A finished trial in use: predictions are the ledger's, other data are refused, and an export needs torch alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import isotherm
from runner.cli import app
from runner.serving.export import FORMULAS
from tests.finished import SWEEP, finished_run
from trainables.data import sources
from trainables.data.tier_registry import Kind
from trainables.errors import DataError


def merged(run: isotherm.Run, key: str, table: pd.DataFrame) -> pd.DataFrame:
    """Predictions of a trial's own windows, its own and those of the table next to each other."""
    own = run.predictions(key)
    both = own.merge(table.drop(columns="asset"), on="date", suffixes=("_own", ""))
    assert len(both) == len(own) > 1000
    return both


def test_predictions_of_known_bars_are_the_ledgers(place: Path) -> None:
    run = isotherm.open_run("tiny")
    trial = run.best()
    table = trial.predict("new.csv")
    both = merged(run, trial.state.cell.key, table)
    assert np.allclose(both["logit"], both["logit_own"], rtol=0, atol=1e-6)
    assert both["logit"].std() > 0.01
    assert np.allclose(table["probability"], 1 / (1 + np.exp(-table["logit"])))
    assert table["date"].max() == pd.Timestamp("2018-12-31"), "the last bar has a prediction, and no label yet"


def test_later_bars_change_no_prediction(place: Path, tmp_path: Path) -> None:
    trial = isotherm.open_run("tiny").best()
    frame = pd.read_csv("new.csv")
    frame.iloc[:-300].to_csv(tmp_path / "cut.csv", index=False)
    whole, cut = (trial.predict(path).set_index("date")["logit"] for path in ("new.csv", tmp_path / "cut.csv"))
    assert len(cut) == len(whole) - 300
    assert np.allclose(cut, whole[cut.index], rtol=0, atol=1e-6)


def test_the_best_trial_has_the_lowest_loss(place: Path) -> None:
    run = isotherm.open_run("tiny")
    models = run.results().query("kind == 'model'").set_index("key")
    assert run.best().state.cell.key == models["val_loss"].idxmin()


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.scaling=revin", "data.representation=raw", "model.name=patchtst", "model.patch=5"),
        ("task.kind=regression", "training.loss=squared_error", "model.name=lstm", "grid.budget=[30660]"),
        ("task.kind=bands", "data.scaling=revin", "model.name=itransformer"),
        ("data.scaling=none", "model.name=tsmixer"),
    ],
    ids=["raw-revin-patchtst", "values-lstm", "classes-revin-itransformer", "unscaled-tsmixer"],
)
def test_every_scaling_outcome_and_architecture_predicts_and_exports(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path, *overrides, text=SWEEP.replace("[0, 1]", "[0]").replace("context: 20", "context: 30"))
    monkeypatch.chdir(tmp_path)
    run = isotherm.open_run("tiny")
    [key] = run.results().query("kind == 'model'")["key"]
    trial = run.trial(key)
    table = trial.predict("sp500")
    own = run.predictions(key)
    both = own.merge(table.drop(columns="asset"), on="date", suffixes=("_own", ""))
    assert len(both) == len(own)
    pairs = [(name, f"{name}_own") for name in table if name.startswith("logit")] or [("predicted", "logit")]
    for new, known in pairs:
        assert np.allclose(both[new], both[known], rtol=0, atol=1e-6)
    folder = trial.export(tmp_path / "model")
    example = json.loads((folder / "example.json").read_text())
    program = torch.export.load(folder / "model.pt2").module()
    inputs = [torch.tensor(one, dtype=torch.float64) for one in example["inputs"]]
    last = torch.from_numpy(np.squeeze(table[[new for new, _ in pairs]].tail(4).to_numpy().copy()))
    assert torch.allclose(program(*inputs).double(), last, atol=1e-4)
    assert torch.allclose(program(*(one[:1] for one in inputs)).double(), last[:1], atol=1e-4), "any number of windows"


ONE = SWEEP.replace("[0, 1]", "[0]")


def test_assets_are_compared_with_those_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path, "data.scaling=rank", text=ONE.replace("source: sp500", "source: [sp500, nasdaq]"))
    monkeypatch.chdir(tmp_path)
    run = isotherm.open_run("tiny")
    trial = run.best()
    both = run.predictions(trial.state.cell.key).merge(trial.predict(["sp500", "nasdaq"]), on=["date", "asset"])
    assert len(both) > 2000
    assert both["logit_y"].std() > 0.01
    assert np.allclose(both["logit_x"], both["logit_y"], rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="not those of the trial"):
        trial.predict("sp500")


def test_the_kind_of_an_own_column_is_that_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = sources.read("sp500").frame
    frame = frame.assign(score=np.random.default_rng(0).uniform(0, 1, len(frame)))
    frame.to_csv(tmp_path / "own.csv", index=False)
    own = "{source: own.csv, tier: ohlcv, features: {columns: score}}"
    finished_run(tmp_path, text=ONE.replace("{source: sp500, tier: ohlcv}", own))
    monkeypatch.chdir(tmp_path)
    trial = isotherm.open_run("tiny").best()
    frame.assign(score=[*frame["score"][:-1], 2.0]).to_csv("new.csv", index=False)  # alone it would be a percent
    known, new = (trial.predict(path)["logit"] for path in ("own.csv", "new.csv"))
    assert np.allclose(known[:-1], new[:-1], rtol=0, atol=1e-6)
    assert known.iloc[-1] != new.iloc[-1]


def test_an_export_says_how_a_feature_of_each_kind_is_presented() -> None:
    assert set(FORMULAS) == {str(kind) for kind in Kind}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="Volume"), "volume"),
        (lambda frame: frame.iloc[::5], "5 days apart|7 days apart"),
        (lambda frame: frame.iloc[:15], "at least 100 are needed"),
    ],
    ids=["column", "timescale", "short"],
)
def test_data_of_another_meaning_is_refused(place: Path, tmp_path: Path, change, message: str) -> None:
    change(pd.read_csv("new.csv")).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match=message):
        isotherm.open_run("tiny").best().predict(tmp_path / "other.csv")


def test_an_evaluation_leaves_the_training_period_out_and_sees_drift(place: Path, tmp_path: Path) -> None:
    run = isotherm.open_run("tiny")
    trial = run.best()
    found = trial.evaluate("new.csv")
    table = run.results().set_index("key").loc[trial.state.cell.key]
    sizes = trial.state.cell.sizes
    assert found.trained == sizes["n_train"] + 1, "and the window between training and validation"
    assert sizes["n_val"] + sizes["n_test"] <= found.windows <= sizes["n_val"] + sizes["n_test"] + 40
    loss, low, high = found.numbers["loss"]
    assert min(table["val_loss"], table["test_loss"]) <= loss <= max(table["val_loss"], table["test_loss"])
    assert low < loss < high
    assert not any(one.beyond for one in found.drift)
    frame = pd.read_csv("new.csv")
    frame["High"] = frame[["High"]].mul(1.05)  # of another market: ranges five times as wide
    frame.to_csv(tmp_path / "wide.csv", index=False)
    assert next(one for one in trial.evaluate(tmp_path / "wide.csv").drift if one.feature == "high").beyond
    frame.iloc[:2000].to_csv(tmp_path / "past.csv", index=False)
    with pytest.raises(DataError, match="later than the training period"):
        trial.evaluate(tmp_path / "past.csv")


def test_an_export_loads_with_torch_alone(place: Path, tmp_path: Path) -> None:
    trial = isotherm.open_run("tiny").best()
    folder = trial.export(tmp_path / "model")
    with pytest.raises(isotherm.ConfigError, match="not empty"):
        trial.export(folder)
    assert trial.state.cell.key in (folder / "README.md").read_text()
    blocked = "import sys\nfor name in ('isotherm', 'runner', 'trainables', 'pandas', 'sklearn', 'ray'):\n"
    script = f"{blocked}    sys.modules[name] = None\n{(folder / 'example.py').read_text()}"
    (folder / "blocked.py").write_text(script)
    done = subprocess.run([sys.executable, "-P", "blocked.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("probabilities [0.")


def test_the_commands_print_what_the_api_gives(place: Path, tmp_path: Path) -> None:
    trial = isotherm.open_run("tiny").best()
    key, runner = trial.state.cell.key, CliRunner()

    def document(*arguments: str):
        done = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    out = tmp_path / "all.csv"
    found = document("predict", "tiny", "--best", "--data", "new.csv", "--out", str(out))
    assert found["key"] == key
    assert len(found["predictions"]) == len(pd.read_csv(out))
    assert document("evaluate", "tiny", "--key", key, "--data", "new.csv")["numbers"]["loss"]["low"] is not None
    assert Path(document("export", "tiny", "--to", str(tmp_path / "m"))["folder"]).is_dir()
    for arguments in (
        ("predict", "tiny", "--data", "new.csv", "--key", key, "--best"),
        ("predict", "tiny", "--data", "new.csv", "--out", "x.xls"),
    ):
        with pytest.raises(isotherm.ConfigError):
            runner.invoke(app, arguments, catch_exceptions=False)
