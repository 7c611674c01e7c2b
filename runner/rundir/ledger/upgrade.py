"""Specifications of trials as earlier versions wrote them, brought into today's form for whoever reads a ledger."""

from typing import Any

_SHAPE = ("width", "depth", "heads", "feed_forward")
_DATA = ("n_features", "n_window_stats", "context")
_CONFIG = {"patchtst": ("patch", "channels", "dropout"), "mlp": ("dropout",)}


def upgraded(spec: dict[str, Any], n_params: int | None) -> dict[str, Any]:
    """A trial's specification in today's form; one that is in it, or says nothing of a model, is returned as it is.

    `format` stays that of the writer: the key of a trial was made from the specification as it was written.
    """
    model = spec.get("model")
    if not isinstance(model, dict) or "name" not in model or "shape" in model:
        return spec
    name = model["name"]
    sizes = [size for size in _SHAPE if size != "heads" or name != "mlp"]  # a perceptron's were set to 1
    config = {key: model[key] for key in _CONFIG.get(name, ()) if key in model}
    if "patch" in config:
        config["stride"] = config["patch"]  # patches did not overlap
    return {
        **spec,
        "model": {
            "name": name,
            "version": 1,
            "config": config,
            "shape": {size: model[size] for size in sizes if size in model},
            "data": {"n_outputs": 1, **{key: model[key] for key in _DATA if key in model}},
            "n_params": n_params,
        },
    }
