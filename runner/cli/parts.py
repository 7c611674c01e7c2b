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
    from runner.config.parts import load_plugins
    from runner.terminal import parts

    load_plugins(plugin or ())
    found = parts.find(name)
    if as_json:
        print_json(parts.as_dict(found))
    elif name is None:
        parts.show(found, console())
    else:
        parts.show_details(found, console())
