"""The command `parts`."""

from typing import Annotated

import typer

from runner.cli.common import Json, Plugins, console, print_json


def parts(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="show one part with its keys")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List what a sweep file can name: kind, name, version, where it is from, its keys.

    Example: `isotherm parts patchtst`
    """
    from runner import partlist
    from runner.config.parts import load_plugins

    load_plugins(plugin or ())
    found = partlist.find(name)
    if as_json:
        print_json(partlist.as_dict(found))
    elif name is None:
        partlist.show(found, console())
    else:
        partlist.show_details(found, console())
