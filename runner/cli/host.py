"""The command `doctor`: what this host lacks."""

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.common import FAILED, Address, Json, Plugins, Set, console, print_json


def doctor(
    sweep: Annotated[Path | None, typer.Argument(metavar="[SWEEP]", help="a sweep file, for what it asks")] = None,
    set_: Set = None,
    plugin: Plugins = None,
    fast: Annotated[bool, typer.Option("--fast", help="only what is looked at before each sweep")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Check this host or container for what a sweep needs; each finding comes with how to fix it.

    Example: `isotherm doctor configs/sweeps/quickstart.yaml`

    Exit codes: 0 nothing would stop a sweep; 1 something would; 2 bad input.
    """
    from runner import doctor as doctors
    from runner.config import sweep_file
    from runner.terminal.doctor import show
    from runner.tracking import addresses

    loaded = None if sweep is None else sweep_file.load(sweep, set_ or (), plugins=plugin or ())
    if loaded is not None:
        addresses.admit(loaded)
    settings = None if loaded is None else loaded.settings
    place = doctors.HostContext.of(settings, cluster=address is not None)
    findings = doctors.examine(place, fast=fast)
    if address is not None:
        from runner.tune import environment

        environment.prepare(cluster=True)
        environment.join(address)
        from runner.tune import cluster

        execution = place.execution if settings is None else settings.execution
        findings += cluster.check(cluster.survey(execution, place.thermal, place.shared, patience_s=0))
        environment.stop()
    if as_json:
        print_json(doctors.as_dict(findings))
    else:
        show(findings, console())
    if not doctors.as_dict(findings)["ok"]:
        raise typer.Exit(FAILED)
