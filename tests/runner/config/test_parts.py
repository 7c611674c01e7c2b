"""Parts of one's own in a sweep: plugins, their keys in a sweep file, their place in keys and ledger."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner.cli import app
from runner.config import sweep_file as sweepfile
from runner.config.gates import GatesSpec
from runner.planning import checks, grid, plan
from runner.planning import record as planning_record
from runner.probe.child import Worker
from runner.probe.worker import Request
from runner.rundir.ledger import CellRecorded, LedgerView, fold
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.thermal.sensors import SENSORS
from runner.thermal.spec import ThermalSpec
from tests.waiting import PATIENCE_S
from trainables.errors import ConfigError
from trainables.models.registry import ARCHITECTURES
from trainables.parts import plugins
from trainables.schema import ModelSpec

Write = Callable[..., Path]

PLUGIN = '''\
import torch
from pydantic import Field
from torch import nn

import isotherm


class Net(nn.Module):
    def __init__(self, shape, config, data):
        super().__init__()
        self.embedding = nn.Linear(data.context * data.n_features, shape.width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(shape.width, inner), nn.ReLU(), nn.Linear(inner, shape.width))
            for inner in [shape.feed_forward] * (shape.depth * config.repeats)
        )
        self.head = nn.Linear(shape.width, 1)

    def forward(self, x_BLF, stats_BS=None):
        x_BD = self.embedding(x_BLF.flatten(1))
        for block in self.blocks:
            x_BD = x_BD + block(x_BD)
        return self.head(x_BD).squeeze(-1)


@isotherm.architecture("mine", version=1)
class Mine:
    """Mine."""

    class Config(isotherm.PartConfig):
        repeats: int = Field(1, ge=1, le=4, description="blocks for each level of depth")
        slope: float = 0.5

    Shape = isotherm.Blocks

    def build(self, shape, config, data):
        return Net(shape, config, data)
'''


@pytest.fixture
def plugin(folder: Path) -> Iterator[Path]:
    """A plugin file with the architecture `mine`; what was registered is forgotten afterwards."""
    path = folder / "my_model.py"
    path.write_text(PLUGIN)
    known, loaded = {part.name: part for part in ARCHITECTURES}, dict(plugins._loaded)
    yield path
    ARCHITECTURES._parts.clear()
    ARCHITECTURES._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


def cells(path: Path, plugin: Path, *overrides: str) -> tuple[grid.Cell, ...]:
    return grid.expand(sweepfile.load(path, overrides, plugins=[plugin])).cells


def mine(sweep_file: Write, keys: str = "repeats: 2") -> Path:
    return sweep_file(("name: patchtst\n  patch: 10", f"name: mine\n  {keys}"))


def test_a_plugin_is_chosen_by_name_and_has_keys_of_its_own(sweep_file: Write, plugin: Path) -> None:
    [cell] = cells(mine(sweep_file), plugin)
    model = cell.spec.model
    assert (model.name, model.version, model.config) == ("mine", 1, {"repeats": 2, "slope": 0.5})
    assert abs(model.n_params / 20_000 - 1) <= 0.02
    assert cell.labels["model"] == "mine"
    part = cell.parts[0]
    assert part == {
        "kind": "architecture",
        "name": "mine",
        "version": 1,
        "origin": "plugin my_model.py",
        "sha256": plugins.read(plugin).sha256,
    }


def test_name_version_and_config_are_in_the_key_and_the_file_is_not(sweep_file: Write, plugin: Path) -> None:
    path = mine(sweep_file)
    keys = [cells(path, plugin)[0].key, cells(path, plugin, "model.repeats=1")[0].key]
    plugin.write_text(PLUGIN + "# a comment\n")
    keys += [cells(path, plugin)[0].key]
    plugin.write_text(PLUGIN.replace("version=1", "version=2"))
    keys += [cells(path, plugin)[0].key]
    assert keys[0] == keys[2], "the source stands in the ledger, not in the key"
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("repeat: 2", ["sweep.yaml:10: model.repeat: unknown key 'repeat'", "did you mean 'repeats'"]),
        (
            "repeats: many",
            ["sweep.yaml:10: model.repeats: ", "whole number", "'many'", "from 1 to 4, such as repeats: 1"],
        ),
        ("repeats: 9", ["sweep.yaml:10: model.repeats: ", "must be at most 4"]),
        ("plugin: my_model.py", ["unknown key 'plugin'"]),
    ],
)
def test_a_wrong_key_is_placed_and_explained(sweep_file: Write, plugin: Path, keys: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(mine(sweep_file, keys), plugins=[plugin])
    assert all(text in str(caught.value) for text in expected), str(caught.value)
    assert len(caught.value.problems) == 1


def test_problems_of_parts_are_reported_with_all_others(sweep_file: Write, plugin: Path) -> None:
    path = sweep_file(("name: patchtst\n  patch: 10", "name: mine\n  repeat: 2"), ("epochs: 1", "epoch: 1"))
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(path, plugins=[plugin])
    assert [problem.message for problem in caught.value.problems] == ["unknown key 'repeat'", "unknown key 'epoch'"]


def test_without_the_plugin_its_name_is_unknown_and_the_way_is_shown(sweep_file: Write, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.name: no architecture 'mine' is registered\n.*--plugin FILE"):
        sweepfile.load(mine(sweep_file))


def test_a_grid_over_architectures_gives_each_its_own_keys(sweep_file: Write, plugin: Path) -> None:
    path = sweep_file(("patch: 10", "patch: 10\n  repeats: 2"))
    found = cells(path, plugin, "grid.model.name=[patchtst, mine, mlp]", "grid.model.dropout=[0.0, 0.2]")
    configs = [(cell.spec.model.name, cell.spec.model.config) for cell in found]
    assert configs[1] == ("patchtst", {"patch": 10, "stride": 10, "channels": "mixed", "dropout": 0.2})
    assert configs[2] == ("mine", {"repeats": 2, "slope": 0.5})
    assert configs[5] == ("mlp", {"dropout": 0.2})


def test_values_on_an_axis_are_checked_by_the_part(sweep_file: Write, plugin: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(mine(sweep_file), plugin, "grid.model.repeats=[1, 9]")
    assert "grid.model.repeats" in str(caught.value)
    assert "must be at most 4 (got 9)" in str(caught.value)
    with pytest.raises(ConfigError, match=r"no axis 'model\.repeat'\n.*did you mean 'model\.repeats'"):
        cells(mine(sweep_file), plugin, "grid.model.repeat=[1]")


def test_keys_of_another_architecture_are_ignored_with_a_warning(
    sweep_file: Write, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        sweep = sweepfile.load(sweep_file(), ["model.name=mlp"])
    assert sweep.variants[0].model.name == "mlp"
    assert "sweep.yaml:10: model.patch: mlp has no such key; it is ignored" in caplog.text


# ---- plugin files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("absent.py", None, "absent.py: cannot be read: No such file"),
        ("notes.txt", "x = 1", "notes.txt: a plugin is a Python file"),
        ("broken.py", "x = 1\ndef f(:\n", "broken.py:2: SyntaxError"),
        ("fails.py", "x = 1\n\nraise RuntimeError('no luck')\n", "fails.py:3: RuntimeError: no luck"),
        ("quits.py", "raise SystemExit(0)\n", "quits.py:1: SystemExit"),
        ("taken.py", PLUGIN.replace('"mine"', '"mlp"'), "the architecture 'mlp' is registered by"),
        ("named.py", PLUGIN.replace('"mine"', '"My Model"'), "a name is lower-case letters"),
        ("zero.py", PLUGIN.replace("version=1", "version=0"), "its version is 0"),
        ("key.py", PLUGIN.replace("slope: float", "aspect: float"), "its Config must not have the key aspect"),
        ("bare.py", PLUGIN.replace("def build", "def make"), "not a class with a method build"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_with_its_place(
    sweep_file: Write, plugin: Path, name: str, text: str | None, expected: str
) -> None:
    path = plugin.with_name(name)
    if text is not None:
        path.write_text(text)
    done = CliRunner().invoke(app, ["plan", str(sweep_file()), "--plugin", str(path)])
    assert isinstance(done.exception, ConfigError)
    assert expected in str(done.exception), str(done.exception)
    assert not (plugin.parent / "runs").exists()


def test_one_name_from_two_sources_is_refused_and_from_one_file_it_is_replaced(plugin: Path) -> None:
    other = plugin.with_name("other.py")
    other.write_text(PLUGIN + "# another\n")
    plugins.load([plugins.read(plugin)])
    with pytest.raises(
        ConfigError, match=r"other\.py: the architecture 'mine' is registered by .*my_model\.py already"
    ):
        plugins.load([plugins.read(other)])
    plugin.write_text(PLUGIN.replace("version=1", "version=3"))
    plugins.load([plugins.read(plugin)])
    assert ARCHITECTURES.get("mine").version == 3
    assert [one.path for one in plugins.loaded() if one.path == str(plugin)] == [str(plugin)], "once, as it is now"


def test_the_environment_can_name_plugins_and_a_dotenv_cannot(
    sweep_file: Write, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mine(sweep_file)
    (plugin.parent / ".env").write_text(f"ISOTHERM_PLUGINS={plugin}\n")
    with pytest.raises(ConfigError, match="no architecture 'mine'"):
        sweepfile.load(path)
    monkeypatch.setenv("ISOTHERM_PLUGINS", str(plugin))
    assert sweepfile.load(path).variants[0].model.name == "mine"


def test_keys_of_a_part_come_from_the_environment_like_any_other(
    sweep_file: Write, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOTHERM_MODEL__REPEATS", "3")
    assert cells(mine(sweep_file), plugin)[0].spec.model.config["repeats"] == 3
    monkeypatch.setenv("ISOTHERM_MODEL__REPEATS", "many")
    with pytest.raises(ConfigError, match="environment: ISOTHERM_MODEL__REPEATS"):
        cells(mine(sweep_file), plugin)


def test_a_copy_from_a_run_directory_keeps_its_name(plugin: Path, folder: Path) -> None:
    one = plugins.read(plugin)
    copy = folder / one.file_name
    copy.write_text(one.text)
    assert copy.name == f"{one.sha256[:12]}_my_model.py"
    assert plugins.read(copy).file_name == copy.name


# ---- ledger, probe, list -------------------------------------------------------------------------------------------


def recorded(cell: grid.Cell, **changes: object) -> LedgerView:
    part = cell.parts[0]
    record = CellRecorded(
        key="0" * 12,
        name="one",
        labels={},
        sizes={},
        spec={},
        parts=({**part, **changes},),  # type: ignore[arg-type]
    )
    return fold([record])


def test_a_changed_source_under_the_same_version_is_an_error_before_anything_runs(
    sweep_file: Write, plugin: Path
) -> None:
    path = mine(sweep_file)
    [cell] = cells(path, plugin)
    plugin.write_text(PLUGIN.replace("nn.ReLU", "nn.GELU"))
    found = cells(path, plugin)

    def check(view: LedgerView) -> list[checks.CheckFinding]:
        findings = checks.check(found, view, GatesSpec(), ThermalSpec(require_sensors=False))
        return [finding for finding in findings if finding.gate == "changed part"]

    [finding] = check(recorded(cell))
    assert finding.level == "error"
    assert "the architecture 'mine' (plugin my_model.py) was changed under version 1" in finding.message
    assert finding.fix.startswith("raise its version above 1")
    assert not check(recorded(cell, version=2))
    assert not check(recorded(found[0]))


def test_a_changed_sensor_is_a_warning_before_anything_runs(
    sweep_file: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded with the start of a sweep, and held against the ledger by the next plan."""
    monkeypatch.setattr(SENSORS, "_parts", {part.name: part for part in SENSORS})
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
    example = Path(__file__).parents[3] / "examples" / "my_sensor.py"
    own = folder / "my_sensor.py"
    own.write_text(example.read_text())
    (folder / "celsius").write_text("40")

    def built() -> tuple[sweepfile.Sweep, plan.Plan, list[checks.CheckFinding]]:
        sensor = ("thermal.sensor={name: file, path: celsius}", "thermal.require_sensors=true")
        sweep = sweepfile.load(sweep_file(), sensor, plugins=[own])
        found = plan.build(sweep)
        return sweep, found, [one for one in found.findings if one.gate == "changed part"]

    sweep, first, none = built()
    assert not none
    with closing(Recorder(first.paths)) as recorder:
        planning_record.record_start(sweep, first, recorder)
    assert not built()[2]
    own.write_text(own.read_text() + "# changed\n")
    [finding] = built()[2]
    assert finding.level == "warn"
    assert "the sensor 'file' (plugin my_sensor.py) was changed under version 1" in finding.message


def test_what_ships_may_change_with_a_release(sweep_file: Write, folder: Path) -> None:
    [cell] = grid.expand(sweepfile.load(sweep_file())).cells
    view = recorded(cell, sha256="0" * 64)
    findings = checks.check((cell,), view, GatesSpec(), ThermalSpec(require_sensors=False))
    assert not [finding for finding in findings if finding.gate == "changed part"]


def test_the_probe_gets_the_part_by_content(sweep_file: Write, plugin: Path) -> None:
    [cell] = cells(mine(sweep_file), plugin)
    request = Request(
        spec=cell.spec, record=cell.record, n_rows=500, n_windows=300, measure_s=0.01, plugins=plugins.loaded(),
    )  # fmt: skip
    plugin.unlink()
    with Worker() as worker:
        assert worker.ask(request, timeout_s=PATIENCE_S).ok


def test_what_is_registered_is_listed_with_origin_version_and_keys(plugin: Path) -> None:
    done = CliRunner().invoke(app, ["parts", "--plugin", str(plugin), "--json"], catch_exceptions=False)
    parts = {part["name"]: part for part in json.loads(done.stdout)["parts"]}
    assert parts["patchtst"]["origin"] == "shipped"
    assert parts["mine"]["origin"] == "plugin my_model.py"
    assert parts["mine"]["summary"] == "Mine."
    assert parts["mine"]["keys"][0] == {
        "name": "repeats",
        "takes": "a whole number from 1 to 4",
        "default": "1",
        "meaning": "blocks for each level of depth",
    }
    shown = CliRunner().invoke(app, ["parts", "lstm"], catch_exceptions=False).stdout
    assert "architecture lstm, version 1: Recurrent layers" in shown
    assert "LSTMs on top of each other" in shown
    with pytest.raises(ConfigError, match=r"no part 'lsmt' is registered\n.*did you mean 'lstm'"):
        CliRunner().invoke(app, ["parts", "lsmt"], catch_exceptions=False)


def test_an_unknown_part_never_stops_a_report(tmp_path: Path) -> None:
    from runner.report.build import build

    lines = (Path(__file__).parents[1] / "format1.jsonl").read_text().replace('"patchtst"', '"gone"')
    paths = RunPaths(tmp_path / "small")
    paths.root.mkdir()
    paths.ledger.write_text(lines)
    build(paths)
    assert "gone" in paths.report_html.read_text()


def test_every_key_of_the_plan_is_there_for_a_part_of_ones_own(sweep_file: Write, plugin: Path) -> None:
    sweep = sweepfile.load(mine(sweep_file), plugins=[plugin])
    built = plan.build(sweep)
    [cell] = built.as_dict()["cells"]
    assert set(cell["shape"]) == {"width", "depth", "feed_forward"}
    assert replace(built.grid.cells[0]).spec.model.name == ModelSpec(name="mine").name
