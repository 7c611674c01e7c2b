"""Ledgers of format 1, in which a model's sizes lay flat beside its options, are read as those of today."""

from pathlib import Path

import pytest

from runner.report.analysis.flops import training_flop
from runner.report.build import build
from runner.rundir import ledger, results, status
from runner.rundir.ledger.upgrade import upgraded
from runner.rundir.paths import RunPaths
from trainables.models import registry
from trainables.models.param_count import built
from trainables.schema import ResolvedModel

KEY = "b417dfa8ee3d"


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    run = RunPaths(tmp_path / "small")
    run.root.mkdir()
    run.ledger.write_text((Path(__file__).parent / "format1.jsonl").read_text())
    return run


def test_an_old_model_can_be_built_as_it_was(paths: RunPaths) -> None:
    spec = ledger.read(paths.ledger).cells[KEY].cell.spec
    model = ResolvedModel.model_validate(spec["model"])
    assert model.config == {"patch": 10, "stride": 10, "channels": "mixed", "dropout": 0.1}
    assert model.shape == {"width": 32, "depth": 1, "heads": 2, "feed_forward": 134}
    assert built(registry.build(model)).total == model.n_params == 19975
    assert spec["format"] == 1, "its key was made from what was written then"


def test_an_old_perceptron_has_no_heads_and_no_patches() -> None:
    flat = {"name": "mlp", "width": 8, "depth": 1, "heads": 1, "feed_forward": 4, "n_features": 2, "n_window_stats": 0}
    model = upgraded({"model": {**flat, "context": 9, "patch": 1, "channels": "mixed", "dropout": 0.0}}, 1)["model"]
    assert model["shape"] == {"width": 8, "depth": 1, "feed_forward": 4}
    assert model["config"] == {"dropout": 0.0}


def test_a_specification_of_today_stays_as_it_is() -> None:
    spec = {"format": 2, "model": {"name": "mine", "shape": {"width": 3}}}
    assert upgraded(spec, 7) is spec
    assert upgraded({}, None) == {}


def test_results_status_and_report_read_it(paths: RunPaths) -> None:
    view = ledger.read(paths.ledger)
    table = results.write(view, paths)
    assert list(table["key"]) == [KEY]
    assert list(table["n_params"]) == [19975]
    assert status.collect(paths)["counts"] == {"finished": 1}
    build(paths)
    assert KEY in paths.report_html.read_text()


def test_its_compute_is_that_of_then(paths: RunPaths) -> None:
    state = ledger.read(paths.ledger).cells[KEY]
    assert training_flop(state) == 6 * 13351 * 6 * 50 * 128  # weights, patches, steps, windows in a step
