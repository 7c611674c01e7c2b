"""Data sources by name. Looking one up reads nothing.

A source is a class with a method ``read(argument)``, which returns bars as a table with the source's own columns, or a
`RawTable`; all else is optional:

- ``suffixes``: of files that are read by it when a sweep names their path alone, such as ``(".csv",)``.
- ``asset(argument)``: the asset's name; default: the argument, or the source's name where there is none.
- ``digest(argument)``: the sha256 that `read` would give, without a download; None where it cannot be known.

A sweep names one as ``NAME`` or ``NAME:ARGUMENT``, or by the path of a file. What a source raises is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from trainables.errors import DataError, Problem, nearest
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


def _wrong(target: type[Any]) -> str:
    if not (isinstance(target, type) and callable(getattr(target, "read", None))):
        return "not a class with a method read(argument)"
    if hasattr(target, "Config"):
        return "it has a Config; a source has no keys, it takes what follows its name: NAME:ARGUMENT"
    return ""


SOURCES: Registry[type[Any]] = Registry(
    "source",
    group="isotherm.sources",
    shipped=("trainables.data.sources", "trainables.data.universe", "trainables.data.synthetic"),
    check=_wrong,
)


def source(name: str, *, version: int = 1) -> Callable[[Class], Class]:
    """Register a class as a data source, to be chosen as ``data: {source: NAME}`` or ``data: {source: NAME:ARGUMENT}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: raise it when it gives other bars for the same argument.
    """
    return cast("Callable[[Class], Class]", SOURCES.register(name, version=version))


def of(text: str) -> tuple[Part[type[Any]], str]:
    """The source that a sweep names, and its argument.

    Raises:
        DataError: there is none.
    """
    known = {part.name: part for part in SOURCES}
    name, _, argument = text.partition(":")
    if name in known:
        return known[name], argument.strip()
    path, symbol = split_symbol(text)
    if symbol == "*" or (not path.is_file() and (path.is_dir() or any(sign in str(path) for sign in "*?["))):
        return known["universe"], text
    suffix = path.suffix.lower()
    for part in known.values():
        if suffix and suffix in suffixes(part):
            return part, text
    files = ", ".join(sorted(suffix for part in known.values() for suffix in suffixes(part)))
    fix = f"use a path to a file ({files}), or NAME or NAME:ARGUMENT of a source; {nearest(name, known)}"
    raise DataError(Problem(place=text, message="is not a source", fix=f"{fix}; one of your own needs --plugin FILE"))


def split_symbol(text: str) -> tuple[Path, str]:
    """Path and symbol of 'FILE#SYMBOL'; a file may have '#' in its own name."""
    whole = Path(text).expanduser()
    path, mark, symbol = text.rpartition("#")
    return (whole, "") if not mark or whole.exists() else (Path(path).expanduser(), symbol.strip())


def suffixes(part: Part[type[Any]]) -> tuple[str, ...]:
    """Of files that a source reads; empty for one that reads none."""
    found: tuple[str, ...] = getattr(part.target, "suffixes", ())
    return found
