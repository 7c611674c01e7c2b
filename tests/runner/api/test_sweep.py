"""A sweep of keywords: the same rules, problems and precedence as of a sweep file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import isotherm
from runner.config import sweep_file
from runner.config.settings import SweepSettings
from trainables.schema import DataSpec, SplitSpec, TrainingSpec

GRID: dict[str, list[Any]] = {"budget": ["20k"]}


def problems(**blocks: Any) -> dict[str, str]:
    with pytest.raises(isotherm.ConfigError) as raised:
        isotherm.Sweep(**blocks)
    return {problem.place: f"{problem.message} {problem.fix}" for problem in raised.value.problems}


def test_settings_honour_their_keywords(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTHERM_NAME", "of_the_environment")
    settings = SweepSettings(name="mine", grid=GRID, training=TrainingSpec(epochs=3))
    assert (settings.name, settings.grid, settings.training.epochs) == ("mine", GRID, 3)
    with pytest.raises(ValueError, match="_env_file"):
        SweepSettings(name="mine", grid=GRID, _env_file="other")


def test_keywords_mean_what_the_same_file_means(sweep_file: Callable[..., Path]) -> None:
    of_file = isotherm.Sweep.from_file(sweep_file())
    made = isotherm.Sweep(
        name="tiny",
        data={"source": "sp500", "tier": "a20"},
        task={"kind": "threshold", "context": 60},
        model={"name": "patchtst", "patch": 10},
        training={"epochs": 1, "global_batch": 128, "lr": 1e-3},
        grid={"budget": ["20k"], "horizon": [1], "seed": [0]},
        execution={"device": "cpu"},
        thermal={"require_sensors": False},
    )
    assert made.settings == of_file.settings
    assert made._asked.variants == of_file._asked.variants


def test_the_text_kept_in_the_run_directory_gives_the_same_sweep(folder: Path) -> None:
    bounds = SplitSpec(train="2008-12-31", validation="2012-12-31", test="2018-12-31")  # type: ignore[arg-type]
    data = DataSpec(source=("sp500", "nasdaq"), splits=bounds)
    training = {"epochs": 2, "lr": {"base": 1e-5, "at": "2m", "exponent": -0.15}}
    made = isotherm.Sweep(name="x", data=data, training=training, grid={"budget": ("20k", "2m"), "seed": range(3)})
    (folder / "kept.yaml").write_text(made._asked.file.text)
    kept = sweep_file.load(folder / "kept.yaml")
    assert kept.settings == made.settings
    assert kept.settings.grid["seed"] == [0, 1, 2]
    assert kept.settings.data == data


def test_all_problems_come_together_each_with_its_keyword(folder: Path) -> None:
    found = problems(name="a/b", trainin={}, training={"lr": -1, "epoch": 2}, data={"tier": "b20"}, grid={"budget": []})
    assert set(found) == {"name", "trainin", "training.lr", "training.epoch", "data.tier.name", "grid"}
    assert "did you mean 'training'?" in found["trainin"]
    assert "epochs" in found["training.epoch"]
    assert problems(grid=GRID) == {"name": "the key 'name' is missing add it"}
    assert list(problems(name="x", grid={"budget": ["20k"], "seeed": [1]})) == ["grid.seeed"]
    assert list(problems(name="x", task={"horizon": 5}, grid={"budget": ["20k"], "horizon": [1]})) == ["keywords"]


def test_what_a_file_may_not_hold_keywords_may_not_hold(folder: Path) -> None:
    uri = {"mlflow": {"uri": "http://me:pass@host"}}
    assert list(problems(name="x", grid=GRID, tracking=uri)) == ["tracking.mlflow.uri"]
    assert list(problems(name="x", grid=GRID, wandb_api_key="abc")) == ["wandb_api_key"]
    assert "'object'" in problems(name="x", grid={"budget": [object()]})["keywords"]
    endless: dict[str, Any] = {}
    endless["again"] = endless
    assert "too deeply" in problems(name="x", grid=GRID, data=endless)["keywords"]


def test_keywords_win_over_the_environment_which_fills_in_the_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOTHERM_TRAINING__EPOCHS", "7")
    monkeypatch.setenv("ISOTHERM_TRAINING__WARMUP", "0.5")
    settings = isotherm.Sweep(name="x", grid=GRID, training={"epochs": 2}).settings
    assert (settings.training.epochs, settings.training.warmup) == (2, 0.5)
    assert isotherm.Sweep(name="x", grid=GRID, training=TrainingSpec(clip=2)).settings.training.epochs == 7


def test_overrides_of_a_file_are_named_by_their_key(sweep_file: Callable[..., Path]) -> None:
    path = sweep_file()
    sweep = isotherm.Sweep.from_file(path, {"training.epochs": 4, "data": {"fraction": 0.5}, "task.horizon": 5})
    assert (sweep.settings.training.epochs, sweep.settings.data.fraction) == (4, 0.5)
    assert sweep.settings.grid["horizon"] == [5]
    assert "task.horizon from overrides replaces" in sweep.notices[0]
    assert isotherm.Sweep.from_file(path, {"grid.training.lr": [0.1, 0.2]}).settings.grid["training.lr"] == [0.1, 0.2]
    with pytest.raises(isotherm.ConfigError) as raised:
        isotherm.Sweep.from_file(path, {"training.epochs": 0})
    assert [problem.place for problem in raised.value.problems] == ["overrides: training.epochs"]
    for twice in ({"training": 1, "training.epochs": 2}, {"training.epochs": 2, "training": {"lr": 0.1}}):
        with pytest.raises(isotherm.ConfigError, match="contradicts another override"):
            isotherm.Sweep.from_file(path, twice)
