"""Tasks in a sweep file: keys of their own, their place in a trial's key and in what depends on their outcome."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.planning import grid
from runner.terminal import parts
from trainables.errors import ConfigError
from trainables.parts import plugins
from trainables.tasks.registry import TASKS

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "my_task.py"
BANDS = "task={kind: bands, context: 20, loss: -0.003, gain: 0.004}"


@pytest.fixture
def plugin() -> Iterator[Path]:
    known, loaded = {part.name: part for part in TASKS}, dict(plugins._loaded)
    yield EXAMPLE
    TASKS._parts.clear()
    TASKS._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


def cell(path: Path, *overrides: str, plugin: Path | None = None) -> grid.Cell:
    sweep = sweepfile.load(path, overrides, plugins=[plugin] if plugin else [])
    return grid.expand(sweep).cells[0]


def test_classes_decide_outputs_sizes_and_losses(sweep_file: Write) -> None:
    path = sweep_file()
    one = cell(path, BANDS)
    assert one.spec.model.data.n_outputs == 3
    assert one.spec.task.classes == ("loss", "neutral", "gain")
    assert len(one.facts.splits["train"].shares) == 3
    assert one.infeasible == ""
    assert cell(path, "task={kind: bands, context: 20, loss: -0.003, gain: 0.005}").key != one.key
    with pytest.raises(ConfigError, match="the loss 'weighted' is for binary outcomes, the task's is classes"):
        sweepfile.load(path, [BANDS, "training.loss=weighted"])
    with pytest.raises(ConfigError, match=r"the loss 'soft_auc' is for binary outcomes.*"):
        sweepfile.load(path, [BANDS, "training.loss=soft_auc"])


def test_keys_of_a_task_are_axes_and_every_kind_may_be_one(sweep_file: Write) -> None:
    sweep = sweepfile.load(sweep_file(), ["task.threshold=0.03", "grid.task.kind=[threshold, drawdown, direction]"])
    assert [variant.task.kind for variant in sweep.variants] == ["threshold", "drawdown", "direction"]
    sweep = sweepfile.load(sweep_file(), ["task.kind=bands", "grid.task.gain=[0.01, 0.02]"])
    assert [variant.task.config["gain"] for variant in sweep.variants] == [0.01, 0.02]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("{kind: drowdown}", ["task.kind", "no task 'drowdown' is registered", "did you mean 'drawdown'", "--plugin"]),
        ("{kind: drawdown, treshold: 0.1}", ["task.treshold", "unknown key 'treshold'", "did you mean 'threshold'"]),
        ("{kind: drawdown, threshold: 1.5}", ["task.threshold", "must be below 1", "such as threshold: 0.02"]),
        ("{kind: drawdown, price: high}", ["task.price", "'low' or 'close'"]),
        ("{kind: bands, loss: 0.02}", ["loss 0.02 must be below gain 0.01"]),
        ("{kind: threshold, horizon: 0}", ["task.horizon", "must be at least 1"]),
        ("{kind: 7}", ["task.kind", "must be text"]),
    ],
)  # fmt: skip
def test_a_wrong_task_is_placed_and_explained(sweep_file: Write, task: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(sweep_file(), [f"task={task}"])
    assert all(text in str(caught.value) for text in expected), str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_task_of_ones_own_is_in_key_ledger_and_list(sweep_file: Write, plugin: Path) -> None:
    path = sweep_file()
    with pytest.raises(ConfigError, match=r"no task 'burst' is registered\n.*--plugin FILE"):
        sweepfile.load(path, ["task.kind=burst"])
    one, other = (
        cell(path, f"task={{kind: burst, context: 20, times: {times}}}", plugin=plugin) for times in (1.0, 0.8)
    )
    assert one.key != other.key
    assert one.spec.task.model_dump(mode="json") == {
        "kind": "burst", "context": 20, "horizon": 1, "times": 1.0, "memory": 60,
    }  # fmt: skip
    assert ("task", "burst", "plugin my_task.py") in [
        (part["kind"], part["name"], part["origin"]) for part in one.parts
    ]
    listed = {part["name"]: part for part in parts.as_dict(parts.find())["parts"] if part["kind"] == "task"}
    assert set(listed) == {"bands", "burst", "direction", "drawdown", "regression", "threshold"}
    assert [key["name"] for key in listed["burst"]["keys"]] == ["horizon", "times", "memory"]
