"""How many parameters a model has, by group: from its shape in closed form, and from a built model.

Whether embeddings belong to a model's size is a convention that analyses differ on (Kaplan et al. 2020 leave them out,
Hoffmann et al. 2022 do not), so groups are kept apart.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.models.validity import require_valid
from trainables.schema import ModelShape

if TYPE_CHECKING:
    from torch import nn  # only named: counting a shape needs no torch

_GROUPS = {"embedding": "embedding", "blocks": "blocks", "norm": "blocks", "head": "head"}


@dataclass(frozen=True, kw_only=True)
class ParamCount:
    """Trainable parameters by group.

    Attributes:
        embedding: projection of the input, of window stats, and positions.
        blocks: residual blocks and the norm after them.
        head: the layer that makes the logit.
    """

    embedding: int
    blocks: int
    head: int

    @property
    def total(self) -> int:
        """All parameters: what a budget means."""
        return self.embedding + self.blocks + self.head

    @property
    def non_embedding(self) -> int:
        """All but the embedding."""
        return self.total - self.embedding


def count(shape: ModelShape) -> ParamCount:
    """The parameters of the model that `registry.build` makes of a shape, without building it.

    Raises:
        ConfigError: no model can be built from the shape.
    """
    require_valid(shape)
    width, inner = shape.width, shape.feed_forward
    norm = 2 * width
    feed_forward = norm + _linear(width, inner) + _linear(inner, width)
    if shape.name == "mlp":
        inputs = shape.context * shape.n_features
        embedding = _linear(inputs, width) + shape.n_window_stats * width
        block, vectors = feed_forward, 1
    else:
        channels, sequences = (shape.n_features, 1) if shape.channels == "mixed" else (1, shape.n_features)
        patches = shape.context // shape.patch
        stats = shape.n_window_stats // sequences * width
        embedding = _linear(shape.patch * channels, width) + patches * width + stats
        attention = norm + _linear(width, 3 * width) + _linear(width, width)
        block, vectors = attention + feed_forward, sequences * patches
    return ParamCount(embedding=embedding, blocks=shape.depth * block + norm, head=_linear(vectors * width, 1))


def built(model: "nn.Module") -> ParamCount:
    """The trainable parameters that a model really has."""
    groups: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        groups[_GROUPS[name.partition(".")[0]]] += parameter.numel() if parameter.requires_grad else 0
    return ParamCount(embedding=groups["embedding"], blocks=groups["blocks"], head=groups["head"])


def _linear(fan_in: int, fan_out: int) -> int:
    return fan_in * fan_out + fan_out
