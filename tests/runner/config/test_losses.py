"""Losses in a sweep file: two forms, keys of their own, their place in a trial's key, and the keys of before."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.planning import grid
from trainables.errors import ConfigError
from trainables.parts import plugins
from trainables.schema import ResolvedLoss, ResolvedTraining
from trainables.training.loss_registry import LOSSES
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "my_loss.py"
# The first key of the quickstart with one setting, from before losses were registered; tests/contracts/test_keys.py
# holds those of all shipped sweeps as they are.
KEYS_WITH = {
    "training.loss=focal": "e3a642b2af10",
    "training.class_weight=balanced": "60a6522d99d4",
    "task.kind=regression": "057d335213c2",
    "task.kind=direction": "65669549ecea",
    "data.tier=ohlcv": "71b8081d34d9",
}


@pytest.fixture
def plugin() -> Iterator[Path]:
    known, loaded = dict(LOSSES._parts), dict(plugins._loaded)
    yield EXAMPLE
    LOSSES._parts.clear()
    LOSSES._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


def training_of(path: Path, *overrides: str, plugin: Path | None = None) -> list[ResolvedTraining]:
    sweep = sweepfile.load(path, overrides, plugins=[plugin] if plugin else [])
    return [grid.resolved_training(variant.training, 20_000, 1000, lambda: None)[0] for variant in sweep.variants]


def test_keys_of_a_changed_quickstart_are_those_of_before(folder: Path) -> None:
    def first_key(*overrides: str) -> str:
        path = ROOT / "configs" / "sweeps" / "quickstart.yaml"
        sweep = sweepfile.load(path, ["execution.device=cpu", f"model.shapes={ROOT}/configs/budgets", *overrides])
        return grid.expand(sweep).cells[0].key

    for override, key in KEYS_WITH.items():
        assert first_key(override) == key, override
    for form in (
        ["training.loss=focal", "training.focal_gamma=3.0"],
        ["training.loss={name: focal, focal_gamma: 3.0}"],
        ["training.loss.name=focal", "training.loss.focal_gamma=3.0"],
    ):
        assert first_key(*form) == "45c67bed26b5", form


def test_a_loss_has_keys_of_its_own_and_its_name_alone_is_the_default(sweep_file: Write) -> None:
    path = sweep_file(("epochs: 1", "epochs: 1\n  loss: {name: asymmetric_focal, gamma_negative: 3}"))
    [training] = training_of(path)
    config = {"gamma_positive": 0.0, "gamma_negative": 3.0}
    assert training.loss == ResolvedLoss(name="asymmetric_focal", version=1, config=config)
    assert ResolvedTraining.model_validate_json(training.model_dump_json()) == training
    [named] = training_of(path, "training.loss=asymmetric_focal")
    assert named.loss == training.loss.model_copy(update={"config": config | {"gamma_negative": 4.0}})
    [changed] = training_of(path, "training.loss.gamma_positive=1")
    assert changed.loss.config == {"gamma_positive": 1.0, "gamma_negative": 3.0}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("fokal", ["sweep.yaml:13: training.loss", "no loss 'fokal' is registered", "did you mean 'focal'"]),
        ("{name: asymmetric_focal, gama_negative: 3}", ["loss.gama_negative: ", "did you mean 'gamma_negative'"]),
        ("{name: label_smoothing, smoothing: 1}", ["loss.smoothing: ", "must be below 1", "such as smoothing: 0.1"]),
        ("{name: focal, focal_gamma: -1}", ["must be at least 0"]),
        ("{name: focal, focal_gamma: 1}\n  focal_gamma: 2", ["focal_gamma has two values"]),
        ("squared_error", ["the loss 'squared_error' is for value outcomes, the task's is binary", "grid"]),
        ("7", ["training.loss"]),
    ],
)  # fmt: skip
def test_a_wrong_loss_is_placed_and_explained(sweep_file: Write, loss: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(sweep_file(("epochs: 1", f"epochs: 1\n  loss: {loss}")))
    assert all(text in str(caught.value) for text in expected), str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_loss_that_does_not_suit_the_task_is_refused_before_anything_runs(sweep_file: Write) -> None:
    with pytest.raises(ConfigError, match="the loss 'focal' is for binary and classes outcomes, the task's is value"):
        sweepfile.load(sweep_file(), ["training.loss=focal", "task.kind=regression"])
    with pytest.raises(ConfigError, match="no classes that could be weighted"):
        sweepfile.load(sweep_file(), ["training.class_weight=balanced", "task.kind=regression"])


def test_losses_and_their_keys_are_axes(sweep_file: Write) -> None:
    found = training_of(sweep_file(), "grid.training.loss=[bce, focal, weighted]")
    assert [one.loss for one in found[:2]] == ["bce", "focal"]
    assert found[2].loss.config == {"positive": 2.0}
    found = training_of(sweep_file(), "training.loss=weighted", "grid.training.loss.positive=[1.5, 3.0]")
    assert [one.loss.config["positive"] for one in found] == [1.5, 3.0]
    for axis, expected in {
        "grid.training.loss=[{name: focal}]": "not the name of a loss",
        "grid.training.loss=[bce, fokal]": "no loss 'fokal' is registered",
        "grid.training.loss.positiv=[1]": "no axis 'training.loss.positiv'",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            sweepfile.load(sweep_file(), ["training.loss=weighted" if "positiv" in axis else "name=tiny", axis])
    with pytest.raises(ConfigError, match=r"must be above 0 \(got -1\)"):
        sweepfile.load(sweep_file(), ["training.loss=weighted", "grid.training.loss.positive=[1, -1]"])


def test_a_loss_of_ones_own_is_in_key_ledger_and_step(sweep_file: Write, plugin: Path) -> None:
    path = sweep_file(("epochs: 1", "epochs: 1\n  loss: {name: robust, q: 0.5}"))
    with pytest.raises(ConfigError, match=r"no loss 'robust' is registered\n.*--plugin FILE"):
        sweepfile.load(path)
    one, other = (
        grid.expand(sweepfile.load(path, changes, plugins=[plugin])).cells[0] for changes in ([], ["training.loss.q=1"])
    )
    assert one.key != other.key
    assert [(part["kind"], part["name"], part["origin"]) for part in one.parts] == [
        ("architecture", "patchtst", "shipped"),
        ("loss", "robust", "plugin my_loss.py"),
        ("task", "threshold", "shipped"),
        ("feature tier", "a20", "shipped"),
        ("source", "sp500", "shipped"),
    ]
    assert make_loss(one.spec.training, "binary", Prior(0.5, 0.25)).config.model_dump() == {"q": 0.5}
    newer = one.spec.training.model_copy(update={"loss": one.spec.training.loss.model_copy(update={"version": 2})})
    with pytest.raises(ConfigError, match="the trial's loss is 'robust' version 2; registered is version 1"):
        make_loss(newer, "binary", Prior(0.5, 0.25))
