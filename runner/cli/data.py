"""The commands `data prepare`, `inspect`, `generate` and `verify`."""

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.common import BAD_INPUT, Json, Plugins, Set, SweepFile, console, load, print_json

app = typer.Typer(help="Build and verify datasets.", no_args_is_help=True)


@app.command("prepare")
def data_prepare(sweep: SweepFile, set_: Set = None, plugin: Plugins = None, as_json: Json = False) -> None:
    """Rebuild the sweep's datasets and enter them in data/catalog.json.

    Example: `isotherm data prepare configs/sweeps/quickstart.yaml`
    """
    from runner.planning import datasets
    from runner.terminal.datasets import show

    entries = datasets.prepare(load(sweep, set_, plugins=plugin))
    if as_json:
        print_json(datasets.as_dict(entries))
    else:
        show(entries, console())


@app.command("inspect")
def data_inspect(
    file: Annotated[str, typer.Argument(help="a file of bars, FILE#SYMBOL, or another source")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="a key of the block data")] = None,
    as_json: Json = False,
) -> None:
    """Show what is understood of a file of bars, what is doubtful, and what to write in the sweep file.

    Example: `isotherm data inspect prices.csv --set 'data.format={decimal: ","}'`
    """
    from runner.planning import inspection
    from runner.terminal import inspection as terminal

    shown = inspection.inspect(file, tuple(set_ or ()))
    if as_json:
        print_json(shown)
    else:
        terminal.show(shown, console())
    if not shown["ok"]:
        raise typer.Exit(BAD_INPUT)


@app.command("generate")
def data_generate(
    universe: Annotated[
        str, typer.Argument(metavar="KIND", help="walk, clusters, teacher, regime or leak; or KIND?bars=5000&seed=1")
    ],
    assets: Annotated[int, typer.Option(min=1, max=1000, help="how many, numbered from that of KIND")] = 1,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="write one CSV an asset there")] = None,
    as_json: Json = False,
) -> None:
    """Make bars with a planted truth: as files, or as sources to name in a sweep file.

    Example: `isotherm data generate 'teacher?bars=20000' --assets 4 --to universe`
    """
    from runner.planning import generate
    from trainables.data.synthetic import parse

    made = generate.generate(parse(universe), assets, to)
    if as_json:
        print_json(made)
        return
    lines = [
        f"planted: {made['planted']}",
        f"irreducible loss of the next bar's direction: {made['irreducible_loss']:.4f} nats (a coin: 0.6931)",
        "data:",
        "  source:",
        *(f"    - {name}" for name in made["files"] or made["sources"]),
    ]
    for line in lines:
        console().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("verify")
def data_verify(as_json: Json = False) -> None:
    """Check every catalog entry against its file on disk; exit code 2 where one differs.

    Example: `isotherm data verify`
    """
    from runner.planning import datasets
    from runner.terminal.datasets import show_verification

    checked = datasets.verify()
    if as_json:
        print_json(checked)
    else:
        show_verification(checked, console())
    if not checked["ok"]:
        raise typer.Exit(BAD_INPUT)
