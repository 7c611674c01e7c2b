"""Trackers as parts: the conformance kit on what ships and on the example, and one of one's own in its process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isotherm.testing import check_tracker
from runner.config import sweep_file
from runner.config.settings import TrackingSpec
from runner.config.trackers import TRACKERS, tracker
from runner.rundir.paths import RunPaths
from runner.tracking import session
from trainables.errors import ConfigError, Problem
from trainables.parts import plugins

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "my_tracker.py"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    known, loaded = {part.name: part for part in TRACKERS}, dict(plugins._loaded)
    yield
    TRACKERS._parts.clear()
    TRACKERS._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.fixture
def example() -> Path:
    plugins.load([plugins.read(EXAMPLE)])
    return EXAMPLE


def table(paths: RunPaths) -> list[dict[str, Any]]:
    return json.loads((paths.root / "table.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_what_ships_keeps_the_contract(name: str, tmp_path: Path) -> None:
    check_tracker(name, tmp_path)


def test_the_example_is_under_60_lines_and_keeps_the_contract(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text().splitlines()) < 60
    check_tracker("table", tmp_path, shown=table)
    assert [row["val_loss"] for row in table(RunPaths(tmp_path / "once" / "run"))] == [0.6, 0.55]


def test_one_of_ones_own_is_delivered_to_from_its_own_process(example: Path, story: Any) -> None:
    story.whole()
    spec = TrackingSpec.model_validate({"mlflow": None, "wandb": None, "others": ["table"]})
    callbacks = session.make(spec, story.paths)
    session.start(callbacks)
    [report] = session.close(callbacks, 60.0)
    assert (report.name, report.pending, report.errors) == ("table", 0, ())
    assert [row["status"] for row in table(story.paths)] == ["finished", "infeasible"]


def test_one_that_fails_is_reported_in_its_own_words(example: Path, story: Any) -> None:
    story.whole()
    (story.paths.root / "table.json").mkdir()  # cannot be replaced by a file
    spec = TrackingSpec.model_validate({"mlflow": None, "wandb": None, "others": ["table"]})
    callbacks = session.make(spec, story.paths)
    session.start(callbacks)
    [report] = session.close(callbacks, 15.0)
    assert report.pending > 0
    assert any("check the disk" in error for error in report.errors)


def test_names_and_keys_are_checked_with_file_and_line(example: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: a\ngrid: {budget: [50k]}\ntracking:\n  others:\n  - tabel\n  - {name: table, fil: x}\n")
    with pytest.raises(ConfigError) as caught:
        sweep_file.load(path)
    first, second = sorted(str(problem.place) + " " + problem.message for problem in caught.value.problems)
    assert f"{path}:5" in first
    assert "no tracker 'tabel' is registered" in first
    assert f"{path}:6" in second
    assert "has no key 'fil'" in second


def test_a_run_of_somebody_with_an_unknown_tracker_is_refused(story: Any) -> None:
    with pytest.raises(ConfigError, match="no tracker 'theirs' is registered"):
        session.make(TrackingSpec.model_validate({"others": ["theirs"]}), story.paths)


class Good:
    name = "good"

    def __init__(self, config: Any, paths: RunPaths) -> None:
        self.file = paths.root / "count"

    def consume(self, records: Any, view: Any) -> None:
        self.file.write_text(str(len(view.cells)))

    def close(self, complete: bool) -> dict[str, Exception]:
        return {}

    def explain(self, error: Exception) -> Any:
        return Problem(place="good", message=str(error))


def _fails(self: Any, records: Any, view: Any) -> None:
    raise ValueError("full")


def _appends(self: Any, records: Any, view: Any) -> None:
    with self.file.open("a") as file:
        file.write("x" * len(records))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"name": 3}, "needs a name"),
        ({"consume": _fails}, "without an error: .*full"),
        ({"consume": _appends}, "twice must change nothing"),
        ({"explain": lambda self, error: "no"}, "explain returns an isotherm.Problem"),
        ({"close": lambda self, complete: {"a" * 12: ValueError("lost")}}, "did not arrive|without an error"),
    ],
)
def test_the_kit_finds_what_is_wrong(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tracker("tried")(type("Tried", (Good,), changes))
    shown = lambda paths: (paths.root / "count").read_text()  # noqa: E731
    if not message:
        check_tracker("tried", tmp_path, shown=shown)
        return
    with pytest.raises(AssertionError, match=message):
        check_tracker("tried", tmp_path, shown=shown)
