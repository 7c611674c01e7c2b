"""The commands `fit` and `rule`: scaling laws for any table, rules of the size from a search."""

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.common import Json, RunName, console, print_json


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
