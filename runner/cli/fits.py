"""The commands `fit` and `rule`: scaling laws for any table, rules of the size from a search."""

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.common import Json, RunName, console, print_json
from trainables.errors import ConfigError, Problem


def fit(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="columns n_params, loss, optionally n_samples")],
    delta: Annotated[float, typer.Option(min=1e-9, help="width of the Huber terms, in log loss")] = 1e-3,
    bootstraps: Annotated[int, typer.Option(min=20, max=10_000, help="resamples for the intervals")] = 200,
    exclude_outliers: Annotated[
        bool, typer.Option("--exclude-outliers", help="leave points beyond 4 robust deviations out, and name them")
    ] = False,
    weight: Annotated[str | None, typer.Option(help="column of weights; default: weight, if there is one")] = None,
    group: Annotated[str | None, typer.Option(help="column of groups; default: group, if there is one")] = None,
    loss: Annotated[str | None, typer.Option(help="column of losses; default: loss, in a results.csv val_loss")] = None,
    samples: Annotated[str | None, typer.Option(help="column of samples; default: n_samples, if there is one")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="column of runs whose points are not independent; default: cluster")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="rows to keep; may be repeated")
    ] = None,
    tied: Annotated[bool, typer.Option("--tied", help="one exponent for both terms: alpha = beta")] = False,
    at: Annotated[
        list[str] | None, typer.Option(metavar="N[,D]", help="predict the loss at a size and samples; may be repeated")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit L = E + A/N^alpha (+ B/D^beta where n_samples varies) to any table, with intervals and a verdict.

    A run's results.csv can be given as it is: its finished models are read.

    Example: `isotherm fit losses.csv --exclude-outliers --at 2e9`,
    or `isotherm fit runs/quickstart/results.csv --where horizon=1`
    """
    from runner import scaling
    from runner.terminal.fit import show

    options = scaling.FitOptions(delta=delta, bootstraps=bootstraps, exclude_outliers=exclude_outliers, tied=tied)
    columns = scaling.Columns(loss, samples, weight, group, cluster, tuple(_pair(text) for text in where or ()))
    points = [_point(text) for text in at or ()]
    fitted = scaling.fit(scaling.read_csv(table, columns), options)
    projected = [fitted.at(*point) for point in points]
    if as_json:
        print_json({**fitted.as_dict(), "projections": [vars(one) for one in projected]})
    else:
        show(fitted, console(), projected)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ConfigError(Problem(place="--where", message=f"{text!r} has no '='", fix="--where horizon=1"))
    return name.strip(), value.strip()


def _point(text: str) -> tuple[float, ...]:
    try:
        point = tuple(float(number) for number in text.split(","))
    except ValueError:
        point = ()
    if not 1 <= len(point) <= 2 or not all(0 < number < float("inf") for number in point):
        raise ConfigError(Problem(place="--at", message=f"{text!r} is not N or N,D", fix="--at 2e9 or --at 2e9,1e12"))
    return point


def rule(
    run: RunName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="a key that was searched, such as training.lr")],
    as_json: Json = False,
) -> None:
    """Print the rule of the size that a search's optima of a key follow, as YAML to paste into a sweep file.

    Example: `isotherm rule tuned training.lr`

    Exit codes: 0 done; 2 the run searched no such key, or at fewer than 3 sizes with 5 trials each.
    """
    from runner.report.analysis import tuning
    from runner.rundir import ledger
    from runner.rundir.paths import existing_run
    from runner.terminal.rule import as_dict, lines

    paths = existing_run(run)
    found = tuning.measured(ledger.read(paths.ledger), key)
    if as_json:
        print_json({"run": paths.name, "rules": [as_dict(one, paths.name) for one in found]})
    else:
        for line in lines(found, paths.name):
            console().print(line, markup=False, highlight=False, soft_wrap=True)
