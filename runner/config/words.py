"""What is wrong with a value, and what to write in its place: pydantic's words speak of its own types."""

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from runner.config.describe import default, plain, takes

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list, such as [a, b]",
    "tuple": "a list, such as [a, b]",
    "model": "a block with keys, such as {key: value}",
    "dict": "a block with keys, such as {key: value}",
    "date": "a date, such as 2015-12-31",
    "byte": "a size, such as 3GiB",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_NAMED = 4
_UNITS = {"_s": "seconds", "_celsius": "degrees Celsius", "_bytes": "bytes", "_days": "days"}


def words_of(issue: Mapping[str, Any]) -> str:
    """The message of a pydantic error."""
    kind, context = str(issue["type"]), issue.get("ctx") or {}
    if kind in _BOUNDS:
        word, name = _BOUNDS[kind]
        return f"must be {word} {plain(context[name])}"
    if kind == "literal_error" and " or " in context["expected"]:
        return f"must be one of {context['expected']}"
    if kind in ("string_too_short", "too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {least} entries"
    if kind in ("string_too_long", "too_long"):
        return f"must have at most {context['max_length']} {'characters' if kind.startswith('string') else 'entries'}"
    if kind == "value_error":
        return str(issue["msg"]).removeprefix("Value error, ")
    start = kind.split("_")[0]
    return f"must be {_KINDS[start]}" if start in _KINDS else "is none of the values that it takes"


def with_value(issue: Mapping[str, Any]) -> str:
    """The message of a pydantic error, with the value where it is short and the message does not have it."""
    shown = repr(issue["input"])
    return words_of(issue) + (f" (got {shown})" if len(shown) <= 60 and issue["type"] != "value_error" else "")


def fix_of(issue: Mapping[str, Any], model: type[BaseModel] | None, keys: Iterable[str | int]) -> str:
    """What to write for a value that is wrong: what the key takes, its unit, and an example.

    Args:
        issue: a pydantic error; those of our own say in their messages what to do.
        model: the block that the key is in.
        keys: where the value is in that block.
    """
    if issue["type"] == "value_error" or model is None:
        return ""
    name, *inner = [str(key) for key in keys] or [""]
    field = model.model_fields.get(name)
    if field is None:
        return ""
    if inner:
        return fix_of(issue, block_of(field.annotation), inner)
    example = _example(field)
    if issue["type"] == "literal_error" and typing.get_origin(field.annotation) is typing.Literal:
        known = [str(one) for one in typing.get_args(field.annotation)]
        near = difflib.get_close_matches(str(issue["input"]), known, n=1)
        return f"write {name}: {near[0] if near else example or known[0]}"
    block = block_of(field.annotation)
    some = f" with keys such as {', '.join(list(block.model_fields)[:_NAMED])}" if block else ""
    unit = next((f" of {words}" for end, words in _UNITS.items() if name.endswith(end)), "")
    what = takes(field.annotation, field.metadata).replace("`", "").replace("a block, see below", f"a block{some}")
    return f"write {what}{unit}" + (f", such as {name}: {example}" if example else "")


def block_of(annotation: Any) -> type[BaseModel] | None:
    """The block that an annotation holds, None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in typing.get_args(annotation) if (found := block_of(one))), None)


def _example(field: FieldInfo) -> str:
    """A value as YAML has it: the default, where there is one."""
    value = field.default
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel) or value == ():
        return ""
    text = f"[{default(field)}]" if isinstance(value, tuple) else default(field)
    return f'"{text}"' if isinstance(value, str) and ":" in value else text  # YAML 1.1 reads 09:30 as 570
