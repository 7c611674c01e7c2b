"""Writes docs/architecture.md from the import statements: ``python docs/make_architecture.py``.

A test compares the file with what this makes, so that the picture cannot fall behind the code.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(__file__).parent / "architecture.md"
PACKAGES = ("isotherm", "trainables", "runner")
# Every room may use these; arrows to them would hide the others.
COMMON = ("trainables.schema", "trainables.errors", "trainables.files", "trainables.tables")

HEAD = """\
# Architecture

Made from the code by `python docs/make_architecture.py`; a test keeps it current.

`trainables` is one trial, without grids or Ray. `runner` is a sweep: many trials, the ledger, trackers and the report.
`isotherm` names what users import. A *room* is a folder of these packages, or a module directly in one of them.
[CONTRIBUTING](../CONTRIBUTING.md#where-things-live) says what each room is for, and `tests/contracts/test_imports.py`
says what each may not import.

## The way of a trial

```mermaid
flowchart TD
  file[sweep file, environment, --set] -->|runner.config| settings[validated settings]
  settings -->|runner.planning| plan[plan: cells, keys, findings of the checks]
  plan -->|runner.probe| record[execution record: micro-batch, threads, trials at once]
  record -->|runner.tune| tune[Ray Tune: a round of trials]
  tune -->|trainables.tune_trainable| life[trial_life: wait at the gate, train in slices, save, end]
  life -->|trainables.data, models, training| step[steps of the trainer]
  governor[runner.thermal: governor of the node] -->|gate between steps| life
  life -->|reports| ledger[runner.rundir: ledger]
  life -->|trainables.checkpoints| store[checkpoints, storage]
  ledger -->|runner.tracking| trackers[MLflow, W&B]
  ledger -->|runner.report, runner.scaling| report[results, fits, verdicts, report]
```

1. `runner.config` reads and validates all settings; a problem ends the command with exit code 2 before anything starts.
2. `runner.planning` resolves each cell of the grid to a specification with its key, and runs the checks.
3. `runner.probe` measures the micro-batch in a child process. `runner.planning.execution` keeps what was found.
4. `runner.sweep` writes the start to the ledger, fits the baselines and hands the trials to `runner.tune`.
5. In a Ray worker `trainables.trial_life` waits at the gate, restores the newest checkpoint, and trains in slices.
6. Each report goes to the driver, which appends it to the ledger before anything else learns of it.
7. `runner.tracking` delivers from the ledger's file, in processes of its own. `runner.report` reads the ledger alone.

## Imports between rooms

An arrow means that a module of the first room imports from the second, function bodies included. {common} are imported
almost everywhere and left out.

```mermaid
flowchart LR
"""


def room(module: str) -> str:
    """The folder of a module in its package, or the module itself where it lies directly in the package."""
    parts = module.split(".")
    return ".".join(parts[:2])


def modules() -> Iterator[tuple[str, Path]]:
    """Every module with its file."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, with the line; ``from a import b`` counts as both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide directions"
            yield from (
                (name, node.lineno)
                for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
            )


def arrows(left_out: Iterable[str] = COMMON) -> dict[str, set[str]]:
    """For every room the rooms that it imports from, without `left_out`."""
    rooms = {room(name) for name, _ in modules()}
    found: dict[str, set[str]] = {name: set() for name in sorted(rooms) if name not in (*left_out, *PACKAGES)}
    for name, path in modules():
        for other in (room(one) for one, _ in imported(path)):
            if room(name) in found and other in found and other != room(name):
                found[room(name)].add(other)
    return found


def drawing(found: dict[str, set[str]]) -> Iterator[str]:
    """The lines of a Mermaid flow chart, packages as frames."""
    by_package: dict[str, list[str]] = defaultdict(list)
    for name in found:
        by_package[name.split(".")[0]].append(name)
    for package, names in sorted(by_package.items()):
        yield f"  subgraph {package}"
        yield from (f"    {_id(name)}[{name.split('.')[1]}]" for name in names)
        yield "  end"
    for name, others in found.items():
        yield from (f"  {_id(name)} --> {_id(other)}" for other in sorted(others))


def table(found: dict[str, set[str]]) -> Iterator[str]:
    """One row a room: what it imports from, and which rooms import from it."""
    yield "| room | imports from | imported by |"
    yield "|---|---|---|"
    for name, others in found.items():
        yield f"| `{name}` | {_listed(others)} | {_listed(one for one, into in found.items() if name in into)} |"


def _id(name: str) -> str:
    return name.replace(".", "_")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def document() -> str:
    """The whole page."""
    found = arrows()
    head = HEAD.format(common=_listed(COMMON))
    return head + "\n".join([*drawing(found), "```", "", *table(found)]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
