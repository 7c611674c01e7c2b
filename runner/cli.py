"""The command `isotherm`. Every command imports what it needs when it runs: `--help` must stay instant."""

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trainables.errors import InfeasibleError, InputError, IsothermError, LedgerError

FAILED, BAD_INPUT, INTERNAL_ERROR = 1, 2, 4
QUICKSTART = Path("configs/sweeps/quickstart.yaml")

app = typer.Typer(
    help="Parameter-budget grids of time-series transformers: does the loss follow a power law, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
data_app = typer.Typer(help="Build and verify datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

SweepFile = Annotated[
    Path, typer.Argument(metavar="SWEEP", help="a sweep file, such as configs/sweeps/quickstart.yaml")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name, or its folder")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a key of the sweep file")]
NoTracking = Annotated[bool, typer.Option("--no-tracking", help="turn MLflow and W&B off")]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout; logs go to stderr")]


def main() -> None:
    """Run the command line; the exit codes are those of the design."""
    try:
        app()
    except Exception as error:
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    if isinstance(error, InputError):
        noun = "problem" if len(error.problems) == 1 else "problems"
        print(f"isotherm: {len(error.problems)} {noun}; nothing was started", file=sys.stderr)
        print("\n".join(f"  {line}" for line in str(error).splitlines()), file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, LedgerError | InfeasibleError):
        print(f"isotherm: {error}", file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, IsothermError):
        print(f"isotherm: {error}", file=sys.stderr)
        return INTERNAL_ERROR
    traceback.print_exception(error)
    print("isotherm: internal error; please report the lines above", file=sys.stderr)
    return INTERNAL_ERROR


@app.callback()
def _set_up() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)


def _console() -> Console:
    """The user's terminal; where the output goes to a file, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False, default=str))


# ---- sweeps ------------------------------------------------------------------------------------------------------


@app.command()
def plan(sweep: SweepFile, set_: Set = None, as_json: Json = False) -> None:
    """Show the grid as it would run: actual parameters, micro-batches, what is new, done or infeasible, and the gates.

    Example: `isotherm plan configs/sweeps/budget_grid.yaml --set training.epochs=3`
    """
    from runner import plan as planning
    from runner import sweepfile

    built = planning.build(sweepfile.load(sweep, set_ or ()))
    if as_json:
        _print_json(built.as_dict())
    else:
        planning.show(built, _console())
    if built.errors:
        raise typer.Exit(BAD_INPUT)


@app.command()
def sweep(sweep: SweepFile, set_: Set = None, no_tracking: NoTracking = False) -> None:
    """Run a sweep. Run again, it resumes, and runs only cells that are new or unfinished.

    Example: `isotherm sweep configs/sweeps/quickstart.yaml --set "grid.seed=[0, 1, 2]"`

    Exit codes: 0 done; 1 a cell failed; 2 bad input, nothing was started; 3 stopped early, run it again to resume;
    4 internal error.
    """
    from runner import sweep as sweeping
    from runner import sweepfile

    loaded = sweepfile.load(sweep, set_ or (), tracking=not no_tracking)
    raise typer.Exit(sweeping.run(loaded, _console()))


@app.command()
def debug(
    budget: Annotated[str, typer.Option("--budget", "-b", help="parameter budget, such as 2m")],
    sweep: Annotated[Path, typer.Argument(metavar="[SWEEP]", help="a sweep file")] = QUICKSTART,
    set_: Set = None,
    steps: Annotated[int | None, typer.Option(min=1, help="stop after this many optimizer steps")] = None,
    overfit_batch: Annotated[
        bool, typer.Option("--overfit-batch", help="train on one batch: the loss must vanish")
    ] = False,
    detect_anomaly: Annotated[
        bool, typer.Option("--detect-anomaly", help="find the operation that makes a NaN")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="write a torch profiler trace and print its table")
    ] = False,
) -> None:
    """Run one trial in this process: no Ray, no ledger, breakpoints work. Grid axes take their first value.

    Example: `isotherm debug --budget 2m --steps 20 --set task.horizon=5`
    """
    from runner import debug as debugging
    from runner import sweepfile

    loaded = sweepfile.load(sweep, set_ or (), tracking=False)
    options = debugging.Options(
        steps=steps, overfit_batch=overfit_batch, detect_anomaly=detect_anomaly, profile=profile
    )
    raise typer.Exit(debugging.run(loaded, budget, options, _console()))


@app.command()
def status(run: RunName, as_json: Json = False) -> None:
    """Show the progress of a running or ended sweep, from its ledger alone.

    Example: `isotherm status quickstart`
    """
    from runner import status as statuses
    from runner.paths import existing_run

    collected = statuses.collect(existing_run(run))
    if as_json:
        _print_json(collected)
    else:
        statuses.show(collected, _console())


@app.command()
def report(run: RunName, as_json: Json = False) -> None:
    """Build the report again, from the run directory alone, offline.

    Example: `isotherm report quickstart`
    """
    from runner import report as reporting
    from runner.paths import existing_run

    built = reporting.build(existing_run(run))
    if as_json:
        _print_json(built.as_dict())
    else:
        _console().print(f"report   {built.html}\n         {built.markdown}", highlight=False)


@app.command()
def sync(run: RunName, as_json: Json = False) -> None:
    """Bring MLflow and W&B level with a run's ledger. Doing it twice changes nothing.

    Example: `isotherm sync quickstart`
    """
    from runner import trackers
    from runner.paths import existing_run

    paths = existing_run(run)
    reports = trackers.sync(paths)
    if as_json:
        _print_json(trackers.as_dict(reports))
    else:
        if not reports:
            _console().print("this run was started without trackers")
        for one in reports:
            _console().print(f"{one.name}: {one.delivered} records are there, {one.pending} are not", highlight=False)
    if any(one.pending for one in reports):
        raise typer.Exit(FAILED)


# ---- data --------------------------------------------------------------------------------------------------------


@data_app.command("prepare")
def data_prepare(sweep: SweepFile, set_: Set = None, as_json: Json = False) -> None:
    """Build the sweep's datasets anew and enter them in data/catalog.json.

    Example: `isotherm data prepare configs/sweeps/quickstart.yaml`
    """
    from runner import datasets, sweepfile

    entries = datasets.prepare(sweepfile.load(sweep, set_ or ()))
    if as_json:
        _print_json(datasets.as_dict(entries))
    else:
        datasets.show(entries, _console())


@data_app.command("verify")
def data_verify(as_json: Json = False) -> None:
    """Check every catalog entry against its file on disk; exit code 2 where one differs.

    Example: `isotherm data verify`
    """
    from runner import datasets

    checked = datasets.verify()
    if as_json:
        _print_json(checked)
    else:
        datasets.show_verification(checked, _console())
    if not checked["ok"]:
        raise typer.Exit(BAD_INPUT)


if __name__ == "__main__":
    main()
