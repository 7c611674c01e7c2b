"""Data sources by name. Looking one up reads nothing.

A source is a class with a method ``read(argument)``, which returns bars as a table with the source's own columns, or a
`RawTable`. The argument is what follows the name, or, where the class has a ``Config``, its validated keys. All else is
optional:

- ``suffixes``: of files that are read by it when a sweep names their path alone, such as ``(".csv",)``.
- ``asset(argument)``: the asset's name; default: the argument, or the source's name where there is none or keys.
- ``digest(argument)``: the sha256 that `read` would give, without a download; None where it cannot be known.

A sweep names one as ``NAME`` or ``NAME:ARGUMENT``, as a block of ``name`` and keys (`DataSpec` makes ``NAME:{JSON}`` of
it), or by the path of a file. What a source raises is reported.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from os.path import isdir, isfile  # False for what is no path at all, such as a name that is too long
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from trainables.errors import ConfigError, DataError, Problem, nearest
from trainables.parts import Part, Registry

if TYPE_CHECKING:
    import pandas as pd  # only named

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, eq=False)
class RawTable:
    """A source as read.

    Attributes:
        frame: the table with the source's own columns, in the source's order.
        sha256: of the file's bytes; of the table where there is no file.
        found: what was found out about a file's form, where it is not the plainest one.
    """

    frame: "pd.DataFrame"
    sha256: str
    found: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Member:
    """One asset of a source, not read yet.

    Attributes:
        asset: its name.
        place: for messages; where a source is one asset, the source itself.
        read: gives its table.
        size: bytes of the file, about; 0 where it is not known, or where it is not to be read by another process.
    """

    asset: str
    place: str
    read: Callable[[], RawTable]
    size: int = 0


def _wrong(target: type[Any]) -> str:
    if not (isinstance(target, type) and callable(getattr(target, "read", None))):
        return "not a class with a method read(argument)"
    if hasattr(target, "Config") and hasattr(target, "suffixes"):
        return "it has suffixes and a Config; a file is named by its path alone, which leaves no place for keys"
    return ""


SOURCES: Registry[type[Any]] = Registry(
    "source",
    group="isotherm.sources",
    shipped=(
        "trainables.data.sources",
        "trainables.data.universe",
        "trainables.data.synthetic",
        "trainables.data.sql",
    ),
    reserved=("name",),
    check=_wrong,
)


def source(name: str, *, version: int = 1) -> Callable[[Class], Class]:
    """Register a class as a data source, to be chosen as ``data: {source: NAME}`` or ``data: {source: NAME:ARGUMENT}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: raise it when it gives other bars for the same argument.
    """
    return cast("Callable[[Class], Class]", SOURCES.register(name, version=version))


def of(text: str) -> tuple[Part[type[Any]], Any]:
    """The source that a sweep names, and its argument or its keys.

    Raises:
        DataError: there is none.
        ConfigError: its keys are wrong.
    """
    known = {part.name: part for part in SOURCES}
    name, _, argument = text.partition(":")
    if name in known:
        return known[name], _argument(known[name], argument.strip())
    path, symbol = split_symbol(text)
    if symbol == "*" or (not isfile(path) and (isdir(path) or any(sign in str(path) for sign in "*?["))):
        return known["universe"], text
    suffix = path.suffix.lower()
    for part in known.values():
        if suffix and suffix in suffixes(part):
            return part, text
    files = ", ".join(sorted(suffix for part in known.values() for suffix in suffixes(part)))
    fix = f"use a path to a file ({files}), or NAME or NAME:ARGUMENT of a source; {nearest(name, known)}"
    raise DataError(Problem(place=text, message="is not a source", fix=f"{fix}; one of your own needs --plugin FILE"))


def _argument(part: Part[type[Any]], argument: str) -> Any:
    if not hasattr(part.target, "Config"):
        if argument.startswith("{"):
            message = f"the source {part.name!r} has no keys"
            raise ConfigError(Problem(place="data.source", message=message, fix="write NAME:ARGUMENT"))
        return argument
    try:
        keys = json.loads(argument or "{}")
    except ValueError:
        keys = None
    if not isinstance(keys, dict):
        message = f"the source {part.name!r} has keys and no argument"
        fix = f"write {{name: {part.name}, KEY: VALUE}}; keys: {', '.join(part.config_type.model_fields)}"
        raise ConfigError(Problem(place="data.source", message=message, fix=fix))
    return part.configure(keys, "data.source")


def split_symbol(text: str) -> tuple[Path, str]:
    """Path and symbol of 'FILE#SYMBOL'; a file may have '#' in its own name."""
    whole = Path(text).expanduser()
    path, mark, symbol = text.rpartition("#")
    return (whole, "") if not mark or whole.exists() else (Path(path).expanduser(), symbol.strip())


def suffixes(part: Part[type[Any]]) -> tuple[str, ...]:
    """Of files that a source reads; empty for one that reads none."""
    found: tuple[str, ...] = getattr(part.target, "suffixes", ())
    return found
