"""The command `isotherm`. Every command imports what it needs when it runs: `--help` must stay instant."""

import logging
import sys
import traceback
from typing import Annotated

import typer

from runner.cli import data, fits, host, models, parts, runs, sweeps, thermal
from runner.cli.common import BAD_INPUT, INTERNAL_ERROR
from runner.cli.output import make_lasting
from runner.terminal.console import visible
from trainables.errors import InfeasibleError, InputError, IsothermError, LedgerError
from trainables.files import is_storage_trouble

app = typer.Typer(
    help="Parameter-budget grids of time-series transformers: does the loss follow a power law, and how sure are we?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (
    *(sweeps.plan, sweeps.sweep, sweeps.control, sweeps.probe, sweeps.debug),
    *(runs.status, runs.stop, runs.pause, runs.report, runs.compare, runs.sync),
    *(models.predict, models.evaluate, models.export, models.backtest),
    *(host.doctor, fits.fit, fits.rule, parts.parts),
):
    app.command()(command)
app.command("continue")(runs.continue_)
app.add_typer(data.app, name="data")
app.add_typer(thermal.app, name="thermal")


def main() -> None:
    """Run the command line; the exit codes are those of the design."""
    make_lasting()
    try:
        app()
    except Exception as error:
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    if isinstance(error, InputError):
        noun = "problem" if len(error.problems) == 1 else "problems"
        print(f"isotherm: {len(error.problems)} {noun}; nothing was started", file=sys.stderr)
        print("\n".join(f"  {visible(line)}" for line in str(error).splitlines()), file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, LedgerError | InfeasibleError):
        print(f"isotherm: {visible(str(error))}", file=sys.stderr)
        return BAD_INPUT
    if is_storage_trouble(error):
        text = visible(str(error))
        print(f"isotherm: {text}\n    fix: make room there, or make it writable for this user", file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, IsothermError):
        print(f"isotherm: {visible(str(error))}", file=sys.stderr)
        return INTERNAL_ERROR
    traceback.print_exception(error)
    print("isotherm: internal error; please report the lines above", file=sys.stderr)
    return INTERNAL_ERROR


def _show_version(wanted: bool) -> None:
    if wanted:
        from runner.host.versions import code_version

        print(f"isotherm {code_version()}")
        raise typer.Exit


@app.callback()
def _set_up(
    version: Annotated[
        bool, typer.Option("--version", help="show the version, with its commit", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
    logging.getLogger("runner.output").setLevel(logging.INFO)  # for a sweep's log file
