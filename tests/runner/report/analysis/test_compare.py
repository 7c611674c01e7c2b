"""Runs side by side: one column only for what answers one question."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runner.cli import app
from runner.report.analysis.compare import NOT_COMPARABLE, compare
from runner.rundir.paths import RunPaths
from runner.terminal.compare import show
from runner.terminal.console import Console
from trainables.errors import ConfigError


@pytest.fixture
def two(run) -> Any:
    """Makes runs from lists of cells, in folders a, b, ..."""

    def make(*grids: Any) -> list[RunPaths]:
        return [run.at(name, cells) for name, cells in zip("abc", grids, strict=False)]

    return make


def shown(paths: list[RunPaths]) -> str:
    text = io.StringIO()
    show(compare(paths), Console(file=text, width=160))
    return text.getvalue()


def test_losses_of_one_question_stand_side_by_side(run, two) -> None:
    found = compare(two(run.grid(["50k", "1m"], seeds=[0, 1], loss=0.5), run.grid(["1m", "2m"], loss=0.6)))
    assert found.comparable
    (question,) = found.questions
    assert question.runs == ("a", "b")
    cells = {row.size: {name: (cell.trials, round(cell.val_loss.value, 6)) for name, cell in row.cells.items()}
             for row in question.rows}  # fmt: skip
    assert cells == {"50k": {"a": (2, 0.5)}, "1m": {"a": (2, 0.5), "b": (1, 0.6)}, "2m": {"b": (1, 0.6)}}
    assert [row.size for row in question.rows] == ["50k", "1m", "2m"]


@pytest.mark.parametrize("changed", [{"timescale": "weekly"}, {"threshold": 0.02}])
def test_losses_on_other_data_or_another_task_stand_apart_and_that_is_said(run, two, changed: dict) -> None:
    """The timescale changes the data's hash in these runs."""
    paths = two(run.grid(["50k"], loss=0.5), run.grid(["50k"], loss=0.4, **changed))
    found = compare(paths)
    assert not found.comparable
    assert [question.runs for question in found.questions] == [("a",), ("b",)]
    assert found.as_dict()["note"] == NOT_COMPARABLE
    assert "Losses in different tables are not comparable" in " ".join(shown(paths).split())


def test_what_differs_is_named_and_what_is_equal_is_not(run, two) -> None:
    paths = two(run.grid(["50k"]), run.grid(["50k"], code_version="0.2.0"))
    differences = dict(compare(paths).differences)
    assert differences["code version"] == {"a": "0.1.0+g3f2a9c1", "b": "0.2.0"}
    assert set(differences) == {"code version"}


def test_odd_names_are_shown_as_they_are(run, two) -> None:
    text = shown(two(run.grid(["50k"], axes={"x": "[red]a[/]"}), run.grid(["50k"], axes={"x": "[/nothing]"})))
    assert "[red]a[/]" in text
    assert "[/nothing]" in text


def test_runs_of_one_name_are_told_apart_by_their_folders(run, tmp_path: Path) -> None:
    paths = [run.at(f"{name}/same", run.grid(["50k"])) for name in "ab"]
    assert [side.name for side in compare(paths).sides] == [str(one.root.resolve()) for one in paths]


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_is_not_compared_with_itself(run, count: int) -> None:
    with pytest.raises(ConfigError, match="1 different run"):
        compare([run(run.grid(["50k"]))] * count)


def test_runs_that_have_just_begun_are_compared(run, two) -> None:
    text = shown(two([run.cell("50k", fate="waiting")], run.grid(["50k"])))
    assert "no verdict: no trial has finished" in text


def test_the_command_prints_one_json_document(run, two) -> None:
    paths = two(run.grid(["50k"]), run.grid(["1m"]))
    answer = CliRunner().invoke(app, ["compare", *(str(one.root) for one in paths), "--json"])
    assert answer.exit_code == 0
    document = json.loads(answer.stdout)
    assert [one["name"] for one in document["runs"]] == ["a", "b"]
    assert document["questions"][0]["rows"][0]["cells"]["a"]["trials"] == 1
    assert CliRunner().invoke(app, ["compare", *(str(one.root) for one in paths)]).exit_code == 0


def test_runs_that_ask_the_same_several_questions_are_comparable_in_each(run, two) -> None:
    many = [run.cell("50k", threshold=t, axes={"task.threshold": t}, loss=t) for t in (0.01, 0.02)]
    found = compare(two(many, [*many, run.cell("1m", threshold=0.02, axes={"task.threshold": 0.02}, loss=0.5)]))
    assert found.comparable
    assert [question.runs for question in found.questions] == [("a", "b")] * 2
    assert [row.cells["a"].val_loss.value for question in found.questions for row in question.rows[:1]] == [0.01, 0.02]
    partly = compare([run.at("c", many), run.at("d", many[:1])])
    assert not partly.comparable
    assert [question.runs for question in partly.questions] == [("c", "d"), ("c",)]


def test_rows_on_different_windows_are_kept_apart(run, two) -> None:
    """How bars are presented may shorten a split: then the losses of one size are not of the same windows."""
    paths = two(run.grid(["50k"], loss=0.5), run.grid(["50k"], loss=0.4))
    text = paths[1].ledger.read_text(encoding="utf-8")
    assert text.count('"representation":"relative"') == 1
    changed = re.sub(',"chain":"[0-9a-f]+"', "", text)  # an edited line has no hash that fits
    changed = changed.replace('"representation":"relative"', '"representation":"raw"').replace(
        '"n_val":693', '"n_val":700'
    )
    paths[1].ledger.write_text(changed, encoding="utf-8")
    (question,) = compare(paths).questions
    assert [(row.group, list(row.cells)) for row in question.rows] == [("693 windows", ["a"]), ("700 windows", ["b"])]
