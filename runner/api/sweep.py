"""A sweep described in Python: planned and run as the commands `plan` and `sweep` do it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import yaml
from pydantic import BaseModel

from runner.config import parts, sweep_file, yaml_lines
from runner.config.gates import GatesSpec
from runner.config.settings import ProbeSpec, SweepSettings, TrackingSpec
from runner.config.yaml_lines import ConfigFile
from runner.rundir.paths import DATA, RUNS
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError, Problem
from trainables.schema import DataSpec, ExecutionSpec, ModelSpec, TaskSpec, TrainingSpec

if TYPE_CHECKING:
    from runner.api.run import Run
    from runner.planning.plan import Plan

Values = Mapping[str, Any]


class Blocks(TypedDict, total=False):
    """The blocks of a sweep file; `name` and `grid` are required. See ``docs/configuration.md`` for their keys."""

    name: str
    grid: Mapping[str, Sequence[Any]]
    data: DataSpec | Values
    task: TaskSpec | Values
    model: ModelSpec | Values
    training: TrainingSpec | Values
    execution: ExecutionSpec | Values
    gates: GatesSpec | Values
    probe: ProbeSpec | Values
    thermal: ThermalSpec | Values
    tracking: TrackingSpec | Values
    storage_path: str | None


class Sweep:
    """A grid of trials, validated as a sweep file is.

    What is given here wins over ``ISOTHERM_*`` variables and ``.env``, which fill in what is not given.

    Example::

        sweep = isotherm.Sweep(
            name="first",
            data={"source": "sp500"},
            training={"epochs": 3},
            grid={"budget": ["20k", "60k"], "seed": range(3)},
        )
        run = sweep.run()
    """

    def __init__(self, *, plugins: Sequence[str | Path] = (), **blocks: Unpack[Blocks]) -> None:
        """Describe a sweep; nothing is read from disk or started.

        Args:
            plugins: Python files with parts of your own, which workers need as files.
            blocks: the blocks of a sweep file, each a mapping or a specification object.

        Raises:
            ConfigError: all problems, each with its keyword's path, such as ``training.lr``.
        """
        parts.load_plugins([Path(one) for one in plugins])
        asked = _parsed(blocks, "keywords")
        file = ConfigFile(path=None, text=asked.text, values={}, lines={}, overrides="")
        self._asked = sweep_file.understand(file, asked.values)

    @classmethod
    def from_file(
        cls, path: str | Path, overrides: Values | None = None, *, plugins: Sequence[str | Path] = ()
    ) -> Self:
        """The sweep of a file.

        Args:
            path: of the sweep file.
            overrides: values over the file's, by dotted key or nested: ``{"training.epochs": 3}``.
            plugins: as of `Sweep`.

        Raises:
            ConfigError: all problems, each with file, line and key, or with the override's key.
        """
        parts.load_plugins([Path(one) for one in plugins])
        given = _parsed(_nested(overrides or {}), "overrides").values
        read = yaml_lines.read(Path(path))
        file = ConfigFile(path=read.path, text=read.text, values=read.values, lines=read.lines, overrides="overrides: ")
        made = cls.__new__(cls)
        made._asked = sweep_file.understand(file, given)
        return made

    @property
    def settings(self) -> SweepSettings:
        """All settings, defaults included."""
        return self._asked.settings

    @property
    def notices(self) -> tuple[str, ...]:
        """Which given values replace an axis of the grid or have no effect."""
        return self._asked.notices

    def plan(self) -> "Plan":
        """The grid as it would run: parameters, micro-batches (measured here), what is new, done or infeasible.

        Example: ``[cell.counts.total for cell in sweep.plan().grid.cells]``

        Raises:
            InputError: bad data or budgets.
        """
        from runner.planning import execution
        from runner.planning import plan as planning
        from runner.storage import restore
        from runner.terminal.console import Console

        restore.bring(self.settings, RUNS, DATA, Console(stderr=True))
        with execution.make_prober(self.settings, cache_folder=execution.cache_folder(), say=_silent) as prober:
            return planning.build(self._asked, prober=prober)

    def run(self, *, address: str | None = None) -> "Run":
        """Run the sweep to its end, or resume it; progress goes to stdout. Call it from the main thread.

        A trial that fails raises nothing: see `Run.exit_code` and the column ``status`` of `Run.results`.

        Args:
            address: of the Ray cluster that this host is a node of; None = a Ray of this host and this sweep alone.

        Raises:
            InputError: bad input, or a check that stops the sweep; nothing was started.
        """
        from runner import sweep as sweeping
        from runner.api.run import Run
        from runner.rundir.paths import existing_run
        from runner.terminal.console import Console

        sweeping.run(self._asked, Console(), address=address)
        return Run(existing_run(RUNS / self.settings.name))


def _silent(text: str) -> None:
    """The probe's progress, which a program does not show."""


def _nested(values: Values) -> dict[str, Any]:
    """Dotted keys as nested dictionaries; what follows ``grid.`` is the name of an axis."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *blocks, name = key.split(".", 1) if key.startswith("grid.") else key.split(".")
        target = nested
        for block in blocks:
            target = target.setdefault(block, {})
            if not isinstance(target, dict):
                break
        if not isinstance(target, dict) or name in target:
            message, fix = "contradicts another override", "give each value once"
            raise ConfigError(Problem(place=f"overrides: {key}", message=message, fix=fix))
        target[name] = dict(value) if isinstance(value, Mapping) else value
    return nested


class _Dumper(yaml.SafeDumper):
    """Writes a value out wherever it is used: a sweep file has no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """No value is named."""
        return True


def _parsed(values: Values, place: str) -> ConfigFile:
    """Values as the text of a sweep file holds them, under its rules: plain, not nested too deeply, without secrets."""
    try:
        text = yaml.dump(_plain(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        kind = type(error.args[-1]).__name__
        message = f"a value of the type {kind!r} cannot be written to a sweep file"
        raise ConfigError(Problem(place=place, message=message, fix="give numbers, texts, lists, mappings")) from error
    except RecursionError as error:
        raise ConfigError(Problem(place=place, message="a value is nested too deeply")) from error
    return yaml_lines.parse(text, None)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
