"""Specifications in full, and links to trackers' runs that cannot act."""

import json
from typing import Any

import pytest

from runner.report.analysis.collect import collect
from runner.report.analysis.specs import Link
from runner.report.build import build
from runner.rundir.paths import RunPaths


def note(paths: RunPaths, tracker: str, content: Any) -> None:
    path = paths.tracker_runs(tracker)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_what_is_shared_and_what_is_a_trials_own_are_the_whole_specification(run) -> None:
    cells = run.grid(["50k", "1m"], [1, 5])
    collected = collect(run(cells))
    assert 'data.tier = "a20"' in collected.specs.shared
    assert not any(line.startswith("task.horizon") for line in collected.specs.shared)
    for cell, spec in zip(cells, collected.specs.trials, strict=True):
        assert (spec.key, spec.name) == (cell.key, f"{cell.budget}-h{cell.horizon}-s0")
        assert f"task.horizon = {cell.horizon}" in spec.lines
        whole = {line.split(" = ")[0] for line in (*collected.specs.shared, *spec.lines)}
        assert {"data.splits.train", "task.threshold", "training.lr", "execution.micro_batch"} <= whole


def test_runs_of_trackers_are_named_with_their_address(run) -> None:
    cells = run.grid(["50k", "1m"])
    paths = run(cells)
    address = "https://wandb.example/me/isotherm/runs/abc?a=b&c=d|e"
    note(paths, "wandb", {cells[0].key: {"run": "abc", "url": address}})
    note(paths, "mlflow", {cells[0].key: {"run": "f00", "url": None}})
    assert collect(paths).specs.trials[0].links == (Link("MLflow", "f00", ""), Link("W&B", "abc", address))
    report = build(paths)
    html, markdown = report.html.read_text(), report.markdown.read_text()
    assert f'href="{address.replace("&", "&amp;")}"' in html
    assert "[W&B `abc`](<https://wandb.example/me/isotherm/runs/abc?a=b&c=d%7Ce>)" in markdown
    assert "MLflow `f00`" in markdown


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//x.y/z", "https://", "https://a@b/c",
        "https://x y", "https://x\u202ey", "http://[", 7, None, ["https://x.y"],
    ],
)  # fmt: skip
def test_an_address_that_is_no_plain_web_address_is_no_link(run, address: Any) -> None:
    cells = run.grid(["50k"])
    paths = run(cells)
    note(paths, "wandb", {cells[0].key: {"run": "abc", "url": address}})
    assert collect(paths).specs.trials[0].links == (Link("W&B", "abc", ""),)


@pytest.mark.parametrize("content", ["torn {", "[1]", "null", {"other": {"run": "x"}}, {"KEY": 3}, {"KEY": {}}])
def test_a_damaged_note_costs_the_link_and_nothing_else(run, content: Any) -> None:
    cells = run.grid(["50k"])
    paths = run(cells)
    if isinstance(content, dict):
        content = {name.replace("KEY", cells[0].key): value for name, value in content.items()}
    note(paths, "mlflow", content)
    assert collect(paths).specs.trials[0].links == ()
