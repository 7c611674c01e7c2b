"""The directions of import in the design, checked on the syntax tree with function bodies included."""

import ast
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from make_architecture import arrows, imported, modules

ROOT = Path(__file__).resolve().parents[2]

_HIGHER = ("runner.planning", "runner.tune", "runner.report", "runner.tracking", "runner.storage")
# Place in the code -> what it must not import. The longest matching place applies, so exceptions are entries, too.
MUST_NOT: dict[str, tuple[str, ...]] = {
    "isotherm": ("ray", "torch", "pandas"),  # it names things; whose home is heavy is fetched by name
    "trainables": ("runner", "ray"),
    "trainables.parts": (
        *("runner", "ray", "torch", "pandas"),
        *("trainables.data", "trainables.models", "trainables.training", "trainables.baselines"),
    ),
    "trainables.tasks": ("runner", "ray", "torch", "trainables.data", "trainables.models", "trainables.training"),
    "trainables.tune_trainable": ("runner",),
    "trainables.data": ("runner", "ray", "trainables.models", "trainables.training", "trainables.baselines"),
    "trainables.models": ("runner", "ray", "trainables.data", "trainables.training", "trainables.baselines"),
    "trainables.training": ("runner", "ray", "trainables.baselines", "trainables.tune_trainable"),
    "trainables.baselines": ("runner", "ray", "trainables.models", "trainables.training"),
    "trainables.errors": ("runner", "ray", "torch", "pandas"),
    "trainables.schema": ("runner", "ray", "torch", "pandas"),
    "trainables.checkpoints": ("runner", "ray", "trainables.training"),
    "trainables.checkpoints.object_store": ("runner", "ray", "torch", "pandas"),
    "trainables.files": ("runner", "ray", "torch", "pandas"),
    "runner.cli": (),  # everything, lazily: see the tests on a fresh interpreter
    "runner.__main__": (),
    "runner.config": ("ray", "torch", "pandas", *_HIGHER),
    "runner.host": ("ray", *_HIGHER, "runner.rundir", "runner.config"),
    "runner.rundir": ("ray", "torch", "runner.config", *_HIGHER),
    "runner.search": ("ray", "torch", "pandas", *_HIGHER),
    "runner.planning": ("ray", "runner.tune", "runner.report", "runner.tracking"),
    "runner.planning.data_checks": ("ray", "torch", "runner.tune", "runner.report", "runner.tracking"),
    "runner.planning.data_rules": ("ray", "torch", "runner.tune", "runner.report", "runner.tracking"),
    "runner.planning.data_facts": ("ray", "torch", "runner.tune", "runner.report", "runner.tracking"),
    "runner.planning.data_statistics": ("ray", "torch", "runner", "trainables"),
    "runner.api": ("ray", "runner.cli"),  # what is heavy is imported by the method that needs it
    "runner.api.sweep": ("ray", "torch", "pandas", "runner.cli"),
    "runner.api.probe": ("ray", "pandas", "runner.cli"),
    "runner.api.thermal": ("ray", "pandas", "runner.cli"),
    "isotherm.tune": ("torch", "pandas"),
    "runner.terminal": ("ray", "torch", "runner.tune"),
    "runner.terminal.console": ("ray", "torch", "pandas", "runner"),
    "runner.debug": ("ray", "runner.tune", "trainables.tune_trainable"),
    "runner.doctor": ("ray", "runner.tune", "trainables.tune_trainable"),
    "runner.probe": ("ray", "runner.thermal", "runner.tune"),
    "runner.thermal": ("ray", "runner.probe", "runner.tune"),
    "runner.thermal.governor": ("runner.probe", "runner.tune"),
    "runner.thermal.ray_gate": ("runner.probe", "runner.tune"),
    "runner.tracking": ("runner.thermal", "runner.probe", "runner.tune"),
    "runner.backtest": ("ray", "torch", "runner.tune", "runner.tracking", "runner.cli"),
    "runner.serving": ("ray", "runner.tune", "runner.tracking", "runner.thermal", "runner.probe", "runner.cli"),
    "runner.storage": ("ray", "runner.tune", "runner.report", "runner.tracking", "runner.thermal", "runner.probe"),
    "runner.scaling": ("ray", "torch", "runner.tune", "runner.report", "runner.tracking", "runner.planning"),
    "runner.baselines": ("ray", "runner.tune", "runner.report", "runner.tracking"),
    "runner.ensembles": ("ray", "runner.tune", "runner.tracking"),
    "runner.report": ("ray", "torch", "runner.tune", "runner.tracking", "runner.planning", "runner.config"),
    "runner.report.analysis": (
        *("ray", "torch", "matplotlib", "jinja2", "runner.report.figures", "runner.report.page"),
        *("runner.tune", "runner.tracking", "runner.planning", "runner.config"),
    ),
    "runner.tune": ("runner.report", "runner.cli"),
    "runner": ("ray",),
    "runner.sweep": ("ray",),
}


def rule_for(module: str) -> tuple[str, ...]:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        place = ".".join(parts[:length])
        if place in MUST_NOT:
            return MUST_NOT[place]
    raise AssertionError(f"no rule for {module}")


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


ALL = dict(modules())


@pytest.mark.parametrize("module", ALL)
def test_module_keeps_the_directions_of_import(module: str) -> None:
    broken = [
        f"{ALL[module].relative_to(ROOT)}:{line} imports {name}"
        for name, line in imported(ALL[module])
        for forbidden in rule_for(module)
        if within(name, forbidden) and not within(module, forbidden)
    ]
    assert not broken, "\n".join(broken)


def test_no_rooms_and_no_modules_import_each_other() -> None:
    assert cycle(arrows(left_out=())) == []
    # Without a module's own packages: `from a.b import c` names a.b, too.
    found = {
        name: {other for other, _ in imported(path) if other in ALL and not within(name, other)}
        for name, path in ALL.items()
    }
    assert cycle(found) == []


def cycle(arrows: Mapping[str, Collection[str]]) -> list[str]:
    """The names in a circle of arrows; empty where there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


def test_the_rules_find_a_forbidden_import(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from ray import tune\n    import runner.planning.grid\n")
    names = {name for name, _ in imported(source)}
    assert {"ray", "ray.tune", "runner.planning.grid"} <= names
    assert any(within(name, forbidden) for name in names for forbidden in rule_for("trainables.training.step"))


# These only write it, for a library that takes its settings from nowhere else.
WRITERS = ("runner.tune.environment", "runner.tracking.worker", "runner.tracking.mlflow_store")


def test_only_three_modules_read_the_environment() -> None:
    readers = []
    for module, path in ALL.items():
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if text in ("os.environ", "os.getenv") and module not in (
                "runner.config.settings",
                "runner.config.layers",
                "runner.host.cuda",
                *WRITERS,
            ):
                readers.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not readers, readers


def test_only_one_module_makes_a_console_and_none_reads_markup() -> None:
    """`runner.terminal.console` shows text as it is; rich by itself would take `[/data/x]` for a tag."""
    forbidden = (
        *("rich.console.Console", "rich.console.RichConsole", "rich.markup", "rich.print", "rich.inspect"),
        *("rich.get_console", "rich.logging", "rich.prompt", "rich.progress", "rich.status", "rich.traceback"),
    )
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for module, path in ALL.items()
        if module != "runner.terminal.console"
        for name, line in imported(path)
        for one in forbidden
        if within(name, one) or name == "rich"
    ]
    for module, path in ALL.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("from_markup", "from_ansi"):
                broken.append(f"{module}:{node.lineno} {node.attr}")
            if isinstance(node, ast.keyword) and node.arg in ("markup", "emoji") and not _is_false(node.value):
                broken.append(f"{module}:{node.value.lineno} {node.arg}")
    assert not broken, broken


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def loaded_after(statement: str, *, whole: bool = False) -> set[str]:
    """Top-level names, or whole ones, of what is loaded then."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name if whole else name.split(".")[0] for name in answer.stdout.splitlines()[-1].split()}


def test_help_loads_neither_torch_nor_ray() -> None:
    script = (
        "from typer.testing import CliRunner\nfrom runner.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert not {"torch", "ray", "pandas", "mlflow", "wandb"} & loaded_after(script)


def test_the_public_package_loads_neither_torch_nor_ray() -> None:
    names = "PartConfig", "architecture", "Sweep", "Probe", "Governor", "thermal_gate"
    loaded = loaded_after("import isotherm" + "".join(f"; isotherm.{name}" for name in names))
    assert "isotherm" in loaded
    assert not {"torch", "ray", "pandas", "mlflow", "wandb"} & loaded


def test_every_public_name_is_there() -> None:
    import isotherm

    assert all(getattr(isotherm, name) is not None for name in isotherm.__all__)


def test_a_trial_loads_no_ray() -> None:
    assert "ray" not in loaded_after("import trainables.training.loop, runner.debug")


def test_a_sweep_and_its_report_load_neither_distributions_nor_classifiers_nor_trackers() -> None:
    loaded = loaded_after("import runner.sweep, runner.tune.launch, runner.report.build", whole=True)
    assert not {"scipy.stats", "sklearn", "optuna", "mlflow", "wandb", "statsmodels"} & loaded


PLANNED = """\
name: small
data: {source: sp500}
task: {kind: threshold, context: 60}
training: {epochs: 2, global_batch: 128}
grid: {budget: [50k], horizon: [1], seed: [0]}
execution: {device: cpu, threads: 1}
thermal: {require_sensors: false}
"""


def test_a_plan_loads_nothing_that_takes_longer_than_the_plan_itself(tmp_path: Path) -> None:
    """Each of these takes about a second: a compiler, distributions, classifiers, figures, trackers, Ray."""
    (tmp_path / "sweep.yaml").write_text(PLANNED)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from runner.config.sweep_file import load\n"
        "from runner.planning import plan\n"
        "built = plan.build(load(Path('sweep.yaml')), prober=None)\n"
        "assert built.grid.cells[0].counts.total > 49_000\n"
        "heavy = 'torch._dynamo scipy.stats scipy.optimize sklearn matplotlib mlflow wandb ray optuna statsmodels'\n"
        "print('loaded:', *(name for name in heavy.split() if name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert answer.stdout.splitlines()[-1:] == ["loaded:"], answer.stdout + answer.stderr
