"""The command `isotherm parts`: what is registered, and the keys of each part."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from runner.config import describe
from runner.config.listed_parts import LISTED
from runner.config.parts import CHOICES
from runner.terminal.console import Console
from trainables.data.source_registry import SOURCES
from trainables.errors import ConfigError, Problem, nearest
from trainables.parts import Part


def find(name: str | None = None) -> list[Part[Any]]:
    """All parts, or those of a name, which several kinds may have.

    Raises:
        ConfigError: there is none of that name.
    """
    registries = (*(choice.registry for choice in CHOICES), SOURCES, *(listed.registry for listed in LISTED))
    every: list[Part[Any]] = [part for registry in registries for part in registry]
    found = [part for part in every if name in (None, part.name)]
    if name is not None and not found:
        fix = f"{nearest(name, [part.name for part in every])}; one of your own needs --plugin FILE"
        raise ConfigError(Problem(place="NAME", message=f"no part {name!r} is registered", fix=fix))
    return found


def as_dict(parts: list[Part[Any]]) -> dict[str, Any]:
    """Plain values, for ``--json``."""
    return {
        "parts": [
            {
                **part.record(),
                "summary": _summary(part),
                "place": part.source.place,
                "keys": [vars(key) for key in describe.keys(part.config_type)],
            }
            for part in parts
        ]
    }


def show(parts: list[Part[Any]], console: Console) -> None:
    """Print one line for each part."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("kind", "name", "version", "from", "keys"):
        table.add_column(name, overflow="fold")
    for part in parts:
        keys = ", ".join(part.config_type.model_fields)
        table.add_row(part.kind, part.name, str(part.version), part.source.origin, keys)
    console.print(table)


def show_details(parts: list[Part[Any]], console: Console) -> None:
    """Print each part with its keys."""
    for part in parts:
        console.print(
            f"{part.kind} {part.name}, version {part.version}: {_summary(part)}", highlight=False, markup=False
        )
        digits = part.source.sha256[:12] or "unknown"
        console.print(
            f"from {part.source.origin} ({part.source.place}, sha256 {digits})", highlight=False, markup=False
        )
        table = Table(box=SIMPLE_HEAD, padding=(0, 1))
        for name in ("key", "takes", "default", "meaning"):
            table.add_column(name, overflow="fold")
        for key in describe.keys(part.config_type):
            table.add_row(key.name, key.takes.replace("`", ""), key.default, key.meaning)
        console.print(table)


def _summary(part: Part[Any]) -> str:
    return (getattr(part.target, "__doc__", None) or "").strip().partition("\n")[0]
