"""What the commands share: their common options, the exit codes, and how they print."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.terminal.console import Console
from trainables.errors import InfeasibleError, InputError, LedgerError
from trainables.files import is_storage_trouble

if TYPE_CHECKING:
    from runner.config.sweep_file import Sweep

FAILED, BAD_INPUT, STOPPED, INTERNAL_ERROR = 1, 2, 3, 4
PIPE_COLUMNS = 1000  # nothing that is printed is longer
QUICKSTART = Path("configs/sweeps/quickstart.yaml")

SweepFile = Annotated[
    Path, typer.Argument(metavar="SWEEP", help="a sweep file, such as configs/sweeps/quickstart.yaml")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name, or its folder")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a key of the sweep file")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="a Python file with parts of your own; may be repeated"),
]
NoTracking = Annotated[bool, typer.Option("--no-tracking", help="turn MLflow and W&B off")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="measure again without the cache")]
ClearCache = Annotated[bool, typer.Option("--clear-cache", help="forget what was measured before")]
Address = Annotated[
    str | None,
    typer.Option(metavar="auto|HOST:PORT", help="run on the Ray cluster that this host is a node of"),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout; logs go to stderr")]


def load(
    path: Path, overrides: list[str] | None, *, tracking: bool = True, plugins: list[Path] | None = None
) -> "Sweep":
    """Read a sweep file, and say on stderr which given values replace an axis of its grid or have no effect."""
    from runner.config import sweep_file

    loaded = sweep_file.load(path, overrides or (), tracking=tracking, plugins=plugins or ())
    for notice in loaded.notices:
        Console(stderr=True).print(f"note: {notice}", markup=False, highlight=False, soft_wrap=True)
    return loaded


def console() -> Console:
    """The user's terminal; in a pipe or file as wide as COLUMNS says, else wide enough for every line and table."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=shutil.get_terminal_size((PIPE_COLUMNS, 0)).columns)


def exit_code_of(error: Exception) -> int:
    """The exit code of a command that an error ends."""
    if isinstance(error, InputError | LedgerError | InfeasibleError) or is_storage_trouble(error):
        return BAD_INPUT
    return INTERNAL_ERROR


def say(text: str) -> None:
    """Progress of the probe; a terminal's line is overwritten by the next one, at last by an empty one."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text and 'probing '}{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(f"probing {text}", file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """One document on stdout; a NaN is refused, since it is no JSON."""
    print(json.dumps(document, indent=2, allow_nan=False, default=str))
