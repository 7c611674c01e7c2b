"""The command `fit`: scaling laws for any table."""

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.common import Json, console, print_json


def fit(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="columns n_params, loss, optionally n_samples")],
    delta: Annotated[float, typer.Option(min=1e-9, help="width of the Huber terms, in log loss")] = 1e-3,
    bootstraps: Annotated[int, typer.Option(min=20, max=10_000, help="resamples for the intervals")] = 200,
    exclude_outliers: Annotated[
        bool, typer.Option("--exclude-outliers", help="leave points beyond 4 robust deviations out, and name them")
    ] = False,
    weight: Annotated[str | None, typer.Option(help="column of weights; default: weight, if there is one")] = None,
    group: Annotated[str | None, typer.Option(help="column of groups; default: group, if there is one")] = None,
    as_json: Json = False,
) -> None:
    """Fit L = E + A/N^alpha (+ B/D^beta where n_samples varies) to any table, with intervals and a verdict.

    Example: `isotherm fit losses.csv --exclude-outliers --json`
    """
    from runner import scaling
    from runner.terminal.fit import show

    options = scaling.FitOptions(delta=delta, bootstraps=bootstraps, exclude_outliers=exclude_outliers)
    fitted = scaling.fit(scaling.read_csv(table, weight=weight, group=group), options)
    if as_json:
        print_json(fitted.as_dict())
    else:
        show(fitted, console())
