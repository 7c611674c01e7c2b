"""Commands on a run that exists: status, stop, pause, continue, report, compare, sync."""

from typing import Annotated, Any

import typer

from runner.cli.common import FAILED, Json, Plugins, RunName, console, print_json


def status(
    run: RunName,
    watch: Annotated[bool, typer.Option("--watch", help="draw it again every 2 s, until the sweep ends")] = False,
    as_json: Json = False,
) -> None:
    """Show the progress of a running or ended sweep: its cells, the time left, temperatures.

    Example: `isotherm status quickstart --watch`
    """
    from runner.rundir import status as statuses
    from runner.rundir.paths import existing_run
    from runner.terminal import status as terminal
    from runner.thermal import telemetry

    paths = existing_run(run)

    def collect() -> dict[str, Any]:
        return statuses.collect(paths) | {"temperatures": telemetry.latest(paths.thermal_parquet)}

    if as_json:
        print_json(collect())
    elif watch:
        terminal.watch(collect, console())
    else:
        terminal.show(collect(), console())


def stop(
    run: RunName,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="end this trial alone; its first digits do")
    ] = None,
) -> None:
    """Save every running trial of a sweep and end it, as a signal would; or end one trial.

    A trial that is ended goes on from its last checkpoint when the sweep is run again.

    Example: `isotherm stop quickstart`
    """
    from runner.rundir import requests
    from runner.rundir.paths import existing_run

    paths = existing_run(run)
    if key is None:
        requests.stop(paths)
        console().print(f"{paths.name}: saves its trials and ends; isotherm status {paths.name} --watch shows it")
    else:
        console().print(f"{paths.name}: ends trial {requests.stop_trial(paths, key)}")


def pause(run: RunName) -> None:
    """Let all trials of a running sweep save, free their device and wait, until `isotherm continue`.

    Example: `isotherm pause quickstart`
    """
    from runner.rundir import requests
    from runner.rundir.paths import existing_run

    paths = existing_run(run)
    requests.pause(paths)
    console().print(f"{paths.name}: pauses; isotherm continue {paths.name} lets it go on")


def continue_(run: RunName) -> None:
    """Let a paused sweep go on.

    Example: `isotherm continue quickstart`
    """
    from runner.rundir import requests
    from runner.rundir.paths import existing_run

    paths = existing_run(run)
    requests.resume(paths)
    console().print(f"{paths.name}: continues")


def report(run: RunName, as_json: Json = False) -> None:
    """Build the report again, from the run directory alone, offline.

    Example: `isotherm report quickstart`
    """
    from runner.report import build as reporting
    from runner.rundir.paths import existing_run

    built = reporting.build(existing_run(run))
    if as_json:
        print_json(built.as_dict())
    else:
        console().print(f"report   {built.html}\n         {built.markdown}", highlight=False)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="names of runs, or their folders")],
    as_json: Json = False,
) -> None:
    """Show runs side by side: verdicts, losses by size, what differs. Other data or tasks get tables of their own.

    Example: `isotherm compare quickstart more_epochs`
    """
    from runner.report.analysis import compare as comparing
    from runner.rundir.paths import existing_run
    from runner.terminal.compare import show

    compared = comparing.compare([existing_run(run) for run in runs])
    if as_json:
        print_json(compared.as_dict())
    else:
        show(compared, console())


def sync(
    run: RunName,
    mlflow_uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="MLflow's address; default: the run's own, if you have named it before"),
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Deliver to the run's trackers what they lack of a run's ledger. A second call changes nothing.

    Example: `isotherm sync quickstart`
    """
    from runner.config.parts import load_plugins
    from runner.rundir.paths import existing_run
    from runner.tracking import session

    load_plugins(plugin or ())
    paths = existing_run(run)
    reports = session.sync(paths, mlflow_uri)
    if as_json:
        print_json(session.as_dict(reports))
    else:
        if not reports:
            console().print("this run was started without trackers")
        for one in reports:
            console().print(f"{one.name}: {one.delivered} records are there, {one.pending} are not", highlight=False)
    if any(one.pending for one in reports):
        raise typer.Exit(FAILED)
