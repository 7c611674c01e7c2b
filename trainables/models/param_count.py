"""How many parameters a model has, by group: counted on the meta device, where a model takes no memory.

Whether embeddings belong to a model's size is a convention that analyses differ on (Kaplan et al. 2020 leave them out,
Hoffmann et al. 2022 do not), so groups are kept apart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from trainables.errors import ConfigError, InputError, Problem
from trainables.models import registry
from trainables.models.registry import Architecture
from trainables.models.shapes import Shape
from trainables.parts import Part
from trainables.schema import DataShape, ResolvedModel

REMEMBERED = 4096  # counts; a plan of several budgets asks for a few dozen, most of them again and again


@dataclass(frozen=True, kw_only=True)
class ParamCount:
    """Trainable parameters by group.

    Attributes:
        embedding: those of the model's child ``embedding``: projection of the input, of window stats, positions.
        blocks: all others.
        head: those of its child ``head``: the layer that makes the logits.
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


def count(model: ResolvedModel) -> ParamCount:
    """The parameters of the model that `registry.build` makes.

    Raises:
        ConfigError: no model can be built from it.
    """
    return count_shape(*registry.of_trial(model))


def count_shape(chosen: Architecture, shape: Shape) -> ParamCount:
    """The parameters of an architecture at a shape.

    Raises:
        ConfigError: no model can be built at this shape, or it has no parameters.
    """
    return _counted(chosen.part, chosen.config.model_dump_json(), chosen.data, shape.model_dump_json())


def on_meta(chosen: Architecture, shape: Shape) -> nn.Module:
    """The model without memory and without values.

    Raises:
        ConfigError: it cannot be built so.
    """
    try:
        with torch.device("meta"), _Unfilled():
            return chosen.build(shape)
    except InputError:
        raise
    except Exception as error:  # whatever a part of somebody's own raises
        part = chosen.part
        raise ConfigError(
            Problem(
                place=f"{part.source.place}: {part.name}",
                message=f"build fails at {shape!r} on the meta device, where parameters are counted: "
                f"{type(error).__name__}: {error}",
                fix="create all tensors with torch on the default device, and read no values while building",
            )
        ) from error


_RANDOM = {torch.rand, torch.randn}
_FILLS = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.exponential_}


class _Unfilled(TorchFunctionMode):
    """Leaves out random numbers on the meta device: they would be none, and torch imports its compiler for them."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS or getattr(func, "__module__", None) == nn.init.__name__:
            filled = args[0] if args else kwargs["tensor"]
        elif func in _RANDOM:
            filled = torch.empty(*args, **{name: value for name, value in kwargs.items() if name != "generator"})
        else:
            return func(*args, **kwargs)
        return filled if filled.is_meta else func(*args, **kwargs)


@lru_cache(REMEMBERED)
def _counted(part: Part[type[Any]], config: str, data: DataShape, shape: str) -> ParamCount:
    chosen = Architecture(part, part.config_type.model_validate_json(config), data)
    counted = built(on_meta(chosen, registry.shape_type(part).model_validate_json(shape)))
    if not counted.total:
        raise ConfigError(
            Problem(place=part.source.place, message=f"{part.name} has no trainable parameters at {shape}")
        )
    return counted


def built(model: nn.Module) -> ParamCount:
    """The trainable parameters that a model really has."""
    groups: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        child = name.partition(".")[0]
        group = child if child in ("embedding", "head") else "blocks"
        groups[group] += parameter.numel() if parameter.requires_grad else 0
    return ParamCount(embedding=groups["embedding"], blocks=groups["blocks"], head=groups["head"])
