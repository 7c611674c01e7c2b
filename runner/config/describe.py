"""Keys of a sweep file in words: what each takes, its default, what it means."""

import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainables.schema import NamedPart

_ENDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_WORDS = {
    ByteSize: "a size such as 3GiB",
    date: "a date",
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}
_NAMES = {
    "SizeRule": "a rule of the size",
    "LossSpec": "a name, or a block, see below",
    "TierSpec": "a name, or a block, see below",
}


@dataclass(frozen=True)
class Key:
    """One key; `default` is as YAML would have it, "required" where there is none."""

    name: str
    takes: str
    default: str
    meaning: str


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """The keys of a block."""
    for name, field in model.model_fields.items():
        yield Key(name, takes(field.annotation, field.metadata), default(field), field.description or "")


def takes(annotation: Any, limits: Iterable[Any] = ()) -> str:
    """What a key takes.

    Args:
        annotation: of its field.
        limits: the constraints on it, as pydantic keeps them.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is typing.Annotated:
        return takes(arguments[0], [*limits, *arguments[1:]])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(takes(one, limits) for one in arguments)
    if origin in (tuple, list):
        return "a list"
    if origin is dict:
        return "a mapping"
    name = getattr(annotation, "__name__", str(annotation))
    words = _WORDS.get(annotation, _NAMES.get(name, "a block, see below"))
    return words + (_within(limits) if annotation in (int, float) else "")


def _within(limits: Iterable[Any]) -> str:
    """Constraints of a number in words: `` above 0 and below 1``."""
    ends: dict[str, float] = {}
    for limit in limits:
        for one in limit.metadata if isinstance(limit, FieldInfo) else [limit]:
            ends |= {name: value for name in _ENDS if (value := getattr(one, name, None)) is not None}
    if {"ge", "le"} <= set(ends):
        return f" from {plain(ends['ge'])} to {plain(ends['le'])}"
    words = " and ".join(f"{word} {plain(ends[name])}" for name, word in _ENDS.items() if name in ends)
    return f" of {words}" if words.startswith("at") else f" {words}".rstrip()


def plain(number: float) -> str:
    """``0`` and not ``0.0``, ``1,000,000`` and not ``1e+06``."""
    return f"{int(number):,}" if number == int(number) else str(number)


def default(field: FieldInfo) -> str:
    """A default; empty for a block, whose keys have their own."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return value.name if isinstance(value, NamedPart) else ""
    if isinstance(value, tuple):
        return ", ".join(one.name if isinstance(one, NamedPart) else str(one) for one in value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
