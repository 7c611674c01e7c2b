"""What makes two losses comparable: the whole specification of data and task, apart from what a comparison varies.

The one place where this is decided, for models and baselines alike; everything that holds one loss against another asks
here.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

HORIZON, FRACTION = "task.horizon", "data.fraction"
BLOCKS = ("data", "task")
# What a model is given: it moves the windows' limits, and neither what is asked of a window nor its label. Trials that
# differ in these alone are compared on the windows that they share.
INPUTS = (
    "task.context", "data.representation", "data.scaling", "data.tier", "data.features", "data.content_sha256",
    "data.fraction",
)  # fmt: skip


def identity(spec: Mapping[str, Any], apart: Collection[str] = ()) -> str:
    """Canonical text of a cell's data and task; cells with equal texts are comparable.

    Args:
        spec: of a trial or baseline, as in the ledger.
        apart: dotted settings that the comparison varies.
    """
    blocks = {name: _without(spec.get(name), f"{name}.", apart) for name in BLOCKS}
    return json.dumps(blocks, sort_keys=True, separators=(",", ":"))


def question(asked: str) -> str:
    """What is asked of each window, from the text of `identity`: trials with equal questions share labels."""
    return identity(json.loads(asked), INPUTS) if asked else ""


def _without(value: Any, prefix: str, apart: Collection[str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        name: _without(inner, f"{prefix}{name}.", apart) for name, inner in value.items() if prefix + name not in apart
    }


def setting(spec: Mapping[str, Any], dotted: str) -> Any:
    """A value of a specification by its dotted name; None where there is none."""
    value: Any = spec
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
