"""muP for models of our layers: one learning rate for all widths and depths, relative to a base shape.

Widths follow Yang et al. 2022 ("Tensor Programs V", table 8, for Adam): with m the width over the base's, weights from
width to width have 1/m of the base's initial variance and 1/m of its learning rate, logits are divided by m, and
attention divides products of queries and keys by the width of a head, not by its root. Depths follow Dey et al. 2025
("Don't be lazy: CompleteP enables compute-efficient deep transformers", table 1, alpha = 1): each residual branch is
divided by the depth over the base's, and no learning rate depends on depth. Weight decay times learning rate stays the
same, as there. At the base shape all this is the standard parametrization. Adam's epsilon, which Dey et
al. also scale, stays.
"""

import math

from torch import nn

from trainables.models.layers import Attention, Branch, FeedForward, Head
from trainables.models.parametrization import Scale
from trainables.models.shapes import Blocks


def scales(model: nn.Module, shape: Blocks, base: Blocks) -> dict[str, Scale]:
    """Factors of a model's parameters by name, and its multipliers set; parameters without a name here have none.

    Args:
        model: its residual branches are `Branch`es, its head is a `Head`; all else reads inputs of fixed width.
        shape: what it was built with.
        base: at which it would be the standard parametrization.
    """
    wider, deeper = shape.width / base.width, shape.depth / base.depth
    inner = shape.feed_forward / base.feed_forward
    found: dict[str, Scale] = {}
    # Ours start as Radford et al. 2019 do, with 1/root(depth) in what writes to the stream; the branch divides instead.
    for name, module in model.named_modules():
        if isinstance(module, Branch):
            module.gain = 1 / deeper
        if isinstance(module, Attention):
            module.scale = math.sqrt(base.width / _heads(base)) / (shape.width / _heads(shape))
            found[f"{name}.qkv.weight"] = _hidden(wider)
            found[f"{name}.out.weight"] = _hidden(wider, math.sqrt(deeper))
        if isinstance(module, FeedForward):
            found[f"{name}.widen.weight"] = _hidden(wider)
            found[f"{name}.narrow.weight"] = _hidden(inner, math.sqrt(deeper))
        if isinstance(module, Head):
            module.gain = 1 / wider
            found[f"{name}.weight"] = Scale(init=math.sqrt(wider))  # it starts as 1/root of its width: as at the base
    return found


def _hidden(fan_in: float, init: float = 1.0) -> Scale:
    """A weight with so many times the base's inputs."""
    return Scale(init=init / math.sqrt(fan_in), lr=1 / fan_in, weight_decay=fan_in)


def _heads(shape: Blocks) -> int:
    return int(getattr(shape, "heads", 1))
