"""How long trials train: measures, rules of the size, keys, the axis `compute`."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.planning import grid, plan
from runner.planning.length import Length, of
from runner.terminal import plan as terminal
from runner.terminal.console import Console
from trainables.errors import ConfigError
from trainables.models.flops import training_flop_per_window
from trainables.schema import TrainingSpec

Write = Callable[..., Path]
BATCH, WINDOWS = 100, 1050  # 10 steps an epoch


def length_of(asked: object, flop: float | None = 1e6, target: int = 20_000) -> Length:
    spec = TrainingSpec.model_validate({"length": asked} if isinstance(asked, dict) else {"epochs": asked})
    return of(spec, target, global_batch=BATCH, n_train=WINDOWS, flop_per_window=lambda: flop)


@pytest.mark.parametrize(
    ("asked", "length"),
    [
        (3, Length(3)),
        ({"epochs": 3}, Length(3)),
        ({"steps": 30}, Length(3)),
        ({"samples": 3000}, Length(3)),
        ({"flops": 3000e6}, Length(3)),
        ({"steps": 31}, Length(4, 31)),
        ({"steps": 4}, Length(1, 4)),
        ({"samples": 12_360}, Length(13, 124)),
    ],
    ids=str,
)
def test_equal_lengths_are_equal_whatever_they_are_given_in(asked: object, length: Length) -> None:
    assert length_of(asked) == length


def test_a_length_is_a_rule_of_the_size() -> None:
    rule = {"base": 10, "at": "20k", "exponent": 0.5}
    assert length_of({"epochs": rule}, target=80_000) == Length(20)
    assert length_of({"steps": rule}, target=80_000) == Length(2)
    assert length_of({"flops": {**rule, "base": 1e9, "exponent": 1}}, target=80_000) == Length(4)


def test_lengths_that_cannot_be_had_are_said() -> None:
    assert "less than one step of 100 windows" in length_of({"samples": 99}).infeasible
    assert "over 1,000,000 epochs" in length_of({"flops": 1e30}).infeasible
    with pytest.raises(ConfigError, match="give steps or samples"):
        length_of({"flops": 1e9}, flop=None)


def test_keys_of_whole_epochs_stay_and_equal_trials_have_equal_keys(sweep_file: Write) -> None:
    def keys(*overrides: str) -> list[str]:
        return [cell.key for cell in grid.expand(sweepfile.load(sweep_file(), overrides)).cells]

    [key], [cell] = keys(), grid.expand(sweepfile.load(sweep_file())).cells
    assert cell.sizes["n_train"] is not None
    per_epoch = cell.sizes["n_train"] // cell.spec.training.global_batch
    text = cell.spec.canonical()
    assert not any(f'"{name}"' in text for name in ("steps", "schedule", "cooldown", "length"))
    assert keys("training.schedule=cosine", "training.cooldown=0.3") == [key]
    changed = [keys(f"training.schedule={name}")[0] for name in ("constant", "wsd")]
    changed += [keys("training.schedule=wsd", "training.cooldown=0.3")[0]]
    path = sweep_file(("  epochs: 1\n", ""))
    [same] = grid.expand(sweepfile.load(path, [f"training.length.steps={per_epoch}"])).cells
    assert same.key == key
    [shorter] = grid.expand(sweepfile.load(path, [f"training.length.steps={per_epoch - 1}"])).cells
    assert len({key, shorter.key, *changed}) == 5


def test_the_plan_shows_lengths_where_they_vary(sweep_file: Write) -> None:
    plain = plan.build(sweepfile.load(sweep_file()))
    varied = plan.build(sweepfile.load(sweep_file(("  epochs: 1\n", ""), ("horizon: [1]", "compute: [1e11, 4e11]"))))
    steps = [cell["steps"] for cell in varied.as_dict()["cells"]]
    assert len(steps) == 2
    assert abs(steps[1] - 4 * steps[0]) <= 3
    shown = []
    for one in (plain, varied):
        console = Console(file=io.StringIO(), width=160)
        terminal.show(one, console)
        shown.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert "steps" not in shown[0]
    assert f"{min(steps):,} to {max(steps):,}" in shown[1]


def test_a_compute_budget_gives_each_size_its_length(sweep_file: Write) -> None:
    path = sweep_file(("  epochs: 1\n", ""), ("horizon: [1]", "compute: [1e11, 4e11]"), ("20k", "20k, 80k"))
    cells = grid.expand(sweepfile.load(path)).cells
    assert cells[0].name == "20k-h1-s0-compute=1e11"
    for cell in cells:
        training, n_train = cell.spec.training, cell.sizes["n_train"]
        asked = float(cell.axes["training.length.flops"])
        per_step = (training_flop_per_window(cell.spec.model) or 0) * training.global_batch
        assert abs(training.total_steps(n_train or 1) * per_step - asked) <= per_step / 2
    assert len({cell.key for cell in cells}) == 4
    short = grid.expand(sweepfile.load(path, ["grid.compute=[1e6]"])).cells
    assert all("less than one step" in cell.infeasible for cell in short)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.length.steps=3", "training.epochs and training.length both say"),
        ("grid.compute=[1e12]", "training.epochs and grid.compute both say"),
        ("training={length: {steps: 3, flops: 1e9}}", "exactly one of epochs, steps, samples, flops"),
        ("training.epochs={base: 1e9, at: 20k, exponent: 0}", "a rule of the size gives 1e+09"),
    ],
)
def test_two_lengths_and_wrong_ones_are_refused(sweep_file: Write, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"length|rule") as raised:
        sweepfile.load(sweep_file(), [override])
    assert message in str(raised.value)
