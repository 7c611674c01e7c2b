"""Keys of a sweep file in words: what each takes, its default, what it means."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainables.schema import NamedPart

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
_NAMES = {
    "SizeRule": "rule of the size",
    "date": "date",
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
        yield Key(name, takes(field.annotation), default(field), field.description or "")


def takes(annotation: Any) -> str:
    """What a key takes."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is typing.Annotated:
        return takes(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(takes(one) for one in arguments)
    if origin in (tuple, list):
        return "a list"
    if origin is dict:
        return "a mapping"
    name = getattr(annotation, "__name__", str(annotation))
    return _WORDS.get(annotation, _NAMES.get(name, "a block, see below"))


def default(field: FieldInfo) -> str:
    """A default; empty for a block, whose keys have their own."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return value.name if isinstance(value, NamedPart) else ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
