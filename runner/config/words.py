"""What is wrong with a value, in words that say what it must be: pydantic's speak of its own types."""

from collections.abc import Mapping
from typing import Any

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list, such as [a, b]",
    "tuple": "a list, such as [a, b]",
    "model": "a block with keys, such as {key: value}",
    "dict": "a block with keys, such as {key: value}",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def words_of(issue: Mapping[str, Any]) -> str:
    """The message of a pydantic error."""
    kind, context = str(issue["type"]), issue.get("ctx") or {}
    if kind in _BOUNDS:
        word, name = _BOUNDS[kind]
        return f"must be {word} {_number(context[name])}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    start = kind.split("_")[0]
    if start in _KINDS and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"must be {_KINDS[start]}"
    return str(issue["msg"]).removeprefix("Value error, ")


def with_value(issue: Mapping[str, Any]) -> str:
    """The message of a pydantic error, with the value where it is short and the message does not have it."""
    shown = repr(issue["input"])
    return words_of(issue) + (f" (got {shown})" if len(shown) <= 60 and issue["type"] != "value_error" else "")


def _number(bound: float) -> str:
    """``0`` and not ``0.0``."""
    return str(int(bound)) if bound == int(bound) else str(bound)
