"""Which source of settings decides a grid axis, and that nothing given is dropped without a word."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from runner.cli import app
from runner.cli.sweeps import debug
from runner.config import sweep_file as sweepfile
from trainables.errors import ConfigError

Write = Callable[..., Path]
TWO_HORIZONS = ("horizon: [1]", "horizon: [1, 5]")


def grid(path: Path, *overrides: str) -> dict[str, list[object]]:
    return sweepfile.load(path, overrides).settings.grid


@pytest.mark.parametrize(
    ("override", "axis", "value"),
    [("task.horizon=5", "horizon", 5), ("task={horizon: 5}", "horizon", 5), ("training.seed=1", "seed", 1)],
)
def test_a_setting_on_the_command_line_replaces_the_axis_of_the_file(
    sweep_file: Write, override: str, axis: str, value: int
) -> None:
    sweep = sweepfile.load(sweep_file(TWO_HORIZONS), [override])
    assert sweep.settings.grid[axis] == [value]
    assert {(v.task.horizon if axis == "horizon" else v.training.seed) for v in sweep.variants} == {value}
    (notice,) = sweep.notices
    assert "from --set replaces the grid's axis" in notice
    assert f"axis {axis} " in notice


def test_the_environment_and_dotenv_replace_it_too_each_by_its_rank(
    sweep_file: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(TWO_HORIZONS)
    (folder / ".env").write_text("ISOTHERM_TASK__HORIZON=7\n")
    assert grid(path)["horizon"] == [7]
    assert "from .env replaces" in sweepfile.load(path).notices[0]
    monkeypatch.setenv("ISOTHERM_TASK__HORIZON", "3")
    assert grid(path)["horizon"] == [3]
    assert "from the environment replaces" in sweepfile.load(path).notices[0]
    assert grid(path, "task.horizon=5")["horizon"] == [5]
    assert grid(path, "grid.horizon=[2, 4]")["horizon"] == [2, 4], "the command line is stronger than the environment"


def test_both_spellings_of_an_axis_are_one_axis(sweep_file: Write) -> None:
    assert grid(sweep_file(TWO_HORIZONS), "grid.task.horizon=[2]") == {"budget": ["20k"], "horizon": [2], "seed": [0]}
    path = sweep_file(("horizon: [1]", "task.horizon: [1, 2]"), ("seed: [0]", "training.seed: [0, 1]"))
    assert grid(path, "grid.seed=[4]") == {"budget": ["20k"], "horizon": [1, 2], "seed": [4]}
    assert [v.training.seed for v in sweepfile.load(path, ["training.seed=3"]).variants] == [3, 3]


def test_a_rule_and_a_whole_block_replace_the_axis_that_they_are_part_of(sweep_file: Write) -> None:
    path = sweep_file(("seed: [0]", "seed: [0]\n  training.lr: [0.1, 0.2]"))
    (variant,) = sweepfile.load(path, ["training.lr={base: 0.01, at: 2m, exponent: -1}"]).variants
    assert variant.training.lr.value(2_000_000) == pytest.approx(0.01)  # type: ignore[union-attr]
    path = sweep_file(("seed: [0]", "seed: [0]\n  data.splits: [{folds: 2}, {folds: 3}]"))
    (variant,) = sweepfile.load(path, ["data.splits.folds=4", "data.splits.fold=3"]).variants
    assert (variant.data.splits.folds, variant.data.splits.fold) == (4, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("task.horizon=5", "grid.horizon=[1, 2]"), "task.horizon and grid.horizon contradict each other"),
        (("training.seed=5", "grid.training.seed=[1]"), "training.seed and grid.seed contradict each other"),
        (("grid.seed=[1]", "grid.training.seed=[2]"), "the axis 'seed' is named twice"),
        (("grid.data.splits=[{}]", "grid.data.splits.fold=[0]"), "both set data.splits.fold"),
        (("grid.training.early_stopping.patience=[3]",), "training.early_stopping is not set"),
    ],
)
def test_a_contradiction_is_one_problem_and_not_a_choice(
    sweep_file: Write, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(sweep_file(), overrides)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_base_value_in_the_file_that_its_own_axis_hides_is_said(sweep_file: Write) -> None:
    path = sweep_file(("context: 60", "context: 60\n  horizon: 9"))
    sweep = sweepfile.load(path)
    assert sweep.settings.grid["horizon"] == [1]
    (notice,) = sweep.notices
    assert "task.horizon in" in notice
    assert "has no effect" in notice


def test_an_unknown_setting_in_dotenv_is_a_problem(sweep_file: Write, folder: Path) -> None:
    (folder / ".env").write_text("ISOTHERM_TRANING__SEED=7\nSOMEBODY_ELSES=1\n")
    with pytest.raises(ConfigError, match=r"\.env:1: ISOTHERM_TRANING__SEED: unknown setting"):
        sweepfile.load(sweep_file())


def test_the_example_of_debug_works_as_it_is_written(sweep_file: Write, folder: Path) -> None:
    example = next(line for line in (debug.__doc__ or "").splitlines() if "Example:" in line)
    command = shlex.split(example.partition("`")[2].rpartition("`")[0])
    configs = folder / "configs" / "sweeps"
    configs.mkdir(parents=True)
    source = Path(__file__).resolve().parents[3] / "configs" / "sweeps" / "quickstart.yaml"
    (configs / "quickstart.yaml").write_text(source.read_text())
    result: Result = CliRunner().invoke(app, [*command[1:], "--steps", "1"])  # one of its steps is enough
    assert result.exit_code == 0, result.output
    assert "2m-h5-s0" in result.output
    assert "task.horizon from --set replaces the grid's axis horizon [1, 5]" in result.stderr
