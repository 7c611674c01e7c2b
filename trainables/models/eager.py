"""torch without its compiler, which nothing here uses and which takes 1.4 s of processor time to import.

Functions that torch's compiler is to leave out are wrapped by `torch._disable_dynamo`, which imports it at their first
call to get what it calls instead, and keeps that on the wrapped function: here the wrapped function itself. A torch
that does so in another way imports its compiler as before.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"


def leave_out_compiler(*functions: Callable[..., Any]) -> None:
    """Keep functions of torch from importing its compiler."""
    for function in functions:
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            setattr(wrapped, "__dynamo_disable", wrapped)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Keep whatever of torch is called from importing its compiler; not for use by several threads at once."""
    if COMPILER in sys.modules:
        yield
        return
    instead = ModuleType(COMPILER)
    instead.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
    sys.modules[COMPILER] = torch._dynamo = instead
    try:
        yield
    finally:
        del sys.modules[COMPILER], torch._dynamo
