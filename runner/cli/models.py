"""Commands that use a finished trial's model: predict, evaluate, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.common import Json, Plugins, RunName, console, print_json

if TYPE_CHECKING:
    from runner.api.run import Trial

Key = Annotated[str | None, typer.Option(metavar="KEY", help="the trial's key; default: the best on validation")]
Best = Annotated[bool, typer.Option("--best", help="the trial with the lowest validation loss; the default")]
NewData = Annotated[
    list[str],
    typer.Option("--data", metavar="FILE", help="new bars: a file, FILE#SYMBOL, or a name as in data.source"),
]


def predict(
    run: RunName,
    data: NewData,
    key: Key = None,
    best: Best = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write all predictions here: .csv or .parquet")
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Predict new bars with a finished trial, with the features and scaling of its training.

    Example: `isotherm predict quickstart --best --data new.csv --out predictions.csv`
    """
    from runner.terminal import models

    if out is not None:
        models.refuse_unknown(out)
    trial = _trial(run, key, best, plugin)
    table = trial.predict(data)
    if out is not None:
        models.write(table, out)
    if as_json:
        print_json({"key": trial.state.cell.key, "predictions": models.rows(table)})
    else:
        models.show_predictions(trial.state.cell, table, out, console())


def evaluate(
    run: RunName, data: NewData, key: Key = None, best: Best = False, plugin: Plugins = None, as_json: Json = False
) -> None:
    """Judge a finished trial on new bars: loss, skill and metrics with 95 % intervals, and drift against training.

    Example: `isotherm evaluate quickstart --data new.csv`
    """
    from runner.terminal import models

    trial = _trial(run, key, best, plugin)
    found = trial.evaluate(data)
    if as_json:
        print_json(found.as_dict())
    else:
        models.show_evaluation(trial.state.cell, found, console())


def export(
    run: RunName,
    key: Key = None,
    best: Best = False,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="default: exports/KEY in the run's folder")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a finished trial as a folder that torch alone can load, with model card and example.

    Example: `isotherm export quickstart --best --to model`
    """
    trial = _trial(run, key, best, plugin)
    folder = trial.export(to if to is not None else trial.paths.export(trial.state.cell.key))
    if as_json:
        print_json({"key": trial.state.cell.key, "folder": str(folder)})
    else:
        console().print(f"exported {trial.state.cell.name} to {folder}; try: python {folder / 'example.py'}")


def backtest(
    run: RunName,
    cost_bps: Annotated[float, typer.Option(min=0, max=1000, help="costs in basis points of what is traded")] = 5.0,
    as_json: Json = False,
) -> None:
    """Turn the test predictions of trials and baselines into positions by a stated rule; no promise of any profit.

    The report shows it from then on.

    Example: `isotherm backtest quickstart --cost-bps 5`
    """
    from runner.backtest import run as backtesting
    from runner.report import build
    from runner.rundir import backtest as kept
    from runner.rundir.paths import existing_run
    from runner.terminal import models

    paths = existing_run(run)
    found = backtesting.run(paths, cost_bps)
    kept.write(found, paths)
    files = build.build(paths)
    if as_json:
        print_json(found.as_dict())
    else:
        models.show_backtest(found, console())
        console().print(f"report   {files.html}", highlight=False)


def _trial(run: str, key: str | None, best: bool, plugin: list[Path] | None) -> "Trial":
    from runner.api.run import open_run
    from trainables.errors import ConfigError, Problem

    if key is not None and best:
        raise ConfigError(Problem(place="--best", message="--key names another trial", fix="give one of the two"))
    opened = open_run(run, plugins=plugin or ())
    return opened.best() if key is None else opened.trial(key)
