"""Architectures by name, and models built from them.

An architecture is a class with a method ``build``; all else is optional:

- ``Config``, a `PartConfig`: its own keys in a sweep file's block ``model``.
- ``Shape``, a `Shape`: the sizes that a budget decides; default `AttentionBlocks`.
- ``ladder(config, data)``: shapes from small to large; default: width by depth at ``model.aspect``.
- ``check(config, data)``: raises ValueError where a config does not suit the data.
- ``mup(model, shape, base)``: sets the multipliers of a model of `shape` for ``parametrization: mup`` and returns a
  `Scale` by parameter name, relative to the shape `base`; default: only the standard parametrization can be had.
- ``build(shape, config, data)``: an ``nn.Module`` with ``forward(x_BLF, stats_BS=None)``, which returns logits of shape
  (B,), or (B, K) where ``data.n_outputs`` is K > 1. Nothing is squashed: no sigmoid, no softmax.

By convention parameters below a child ``embedding`` and ``head`` are counted apart, and activation checkpointing runs
the modules of a list ``blocks`` again in the backward pass; a model without these is counted as a whole and is not
checkpointed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from trainables.errors import ConfigError, Problem
from trainables.models import ladder
from trainables.models.parametrization import Scale
from trainables.models.shapes import AttentionBlocks, Blocks, Shape
from trainables.parts import Part, PartConfig, Registry
from trainables.schema import DataShape, ModelSpec, ResolvedModel

if TYPE_CHECKING:
    from torch import nn  # only named: looking a name up needs no torch

Class = TypeVar("Class", bound=type)


def _wrong(target: type[Any]) -> str:
    if not (isinstance(target, type) and callable(getattr(target, "build", None))):
        return "not a class with a method build(shape, config, data)"
    shape = getattr(target, "Shape", AttentionBlocks)
    if not (isinstance(shape, type) and issubclass(shape, Shape)):
        return "its Shape is not a subclass of isotherm.Shape"
    if not hasattr(target, "ladder") and not issubclass(shape, Blocks):
        return "a Shape that is not made of Blocks needs a method ladder(config, data)"
    return ""


ARCHITECTURES: Registry[type[Any]] = Registry(
    "architecture",
    group="isotherm.architectures",
    shipped=tuple(f"trainables.models.{name}" for name in ("patchtst", "mlp", "itransformer", "lstm", "tsmixer")),
    reserved=tuple(ModelSpec.model_fields),
    check=_wrong,
)


def architecture(name: str, *, version: int = 1) -> Callable[[Class], Class]:
    """Register a class as an architecture, to be chosen as ``model: {name: NAME}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: part of every trial's key; raise it when the same config builds another model.
    """
    return cast("Callable[[Class], Class]", ARCHITECTURES.register(name, version=version))


@dataclass(frozen=True)
class Architecture:
    """A registered architecture with a config, for data of one shape."""

    part: Part[type[Any]]
    config: PartConfig
    data: DataShape

    @classmethod
    def of(cls, spec: ModelSpec, data: DataShape) -> "Architecture":
        """As a sweep file asks for it; keys that are not the architecture's are left out, they are another's.

        Raises:
            ConfigError: no such architecture, a wrong key, or a config that does not suit the data.
        """
        part = ARCHITECTURES.get(spec.name, "model.name")
        own = {key: value for key, value in spec.config.items() if key in part.config_type.model_fields}
        chosen = cls(part, part.configure(own, "model"), data)
        chosen.check()
        return chosen

    @cached_property
    def _target(self) -> Any:
        return self.part.target()

    @property
    def shape_type(self) -> type[Shape]:
        """Class of its shapes."""
        return shape_type(self.part)

    def shape_of(self, sizes: Mapping[str, Any]) -> Shape:
        """A shape of plain sizes.

        Raises:
            ConfigError: they are not what this architecture's shapes are made of, or do not go together.
        """
        try:
            return self.shape_type.model_validate(sizes)
        except ValidationError as error:
            issue = error.errors()[0]
            place = ".".join(["shape", *map(str, issue["loc"])])
            message = str(issue["msg"]).removeprefix("Value error, ")
            raise ConfigError(Problem(place=f"{self.part.name}: {place}", message=message)) from error

    def check(self) -> None:
        """Return if the config suits the data.

        Raises:
            ConfigError: it does not.
        """
        if hasattr(self._target, "check"):
            try:
                self._target.check(self.config, self.data)
            except ValueError as error:
                raise ConfigError(Problem(place="model", message=str(error))) from error

    def ladder(self, aspect: float, *, depth: int | None = None, heads: int | None = None) -> Iterator[Shape]:
        """Shapes from small to large; the arguments are of architectures without a ladder of their own.

        Raises:
            ConfigError: the shapes have no such size.
        """
        own_ladder = hasattr(self._target, "ladder")
        for name, given in (("depth", depth), ("heads", heads)):
            if given is not None and (own_ladder or name not in self.shape_type.model_fields):
                message = f"{name} cannot be given: shapes of {self.part.name} do not follow from it"
                raise ConfigError(Problem(place=f"model.{name}", message=message, fix="leave the key out"))
        if own_ladder:
            own: Iterable[Shape] = self._target.ladder(self.config, self.data)
            return iter(own)
        return ladder.by_aspect(cast("type[Blocks]", self.shape_type), aspect, depth=depth, heads=heads)

    def build(self, shape: Shape) -> "nn.Module":
        """A model on the default device, initialized from torch's global generator."""
        model: nn.Module = self._target.build(shape, self.config, self.data)
        return model

    def scales(self, model: "nn.Module", shape: Shape, base: Shape) -> dict[str, Scale]:
        """Factors of a model's parameters by name, relative to a base; its multipliers are set, too.

        Raises:
            ConfigError: the architecture does not say how it is scaled, or names a parameter that the model lacks.
        """
        if not hasattr(self._target, "mup"):
            raise ConfigError(not_scaled(self.part))
        found: dict[str, Scale] = self._target.mup(model, shape, base)
        if unknown := sorted(set(found) - {name for name, _ in model.named_parameters()}):
            message = f"{self.part.name}: mup names {', '.join(unknown)}, which the model does not have"
            raise ConfigError(Problem(place=self.part.source.place, message=message))
        return found

    def resolved(self, shape: Shape, n_params: int) -> ResolvedModel:
        """What a trial's specification says of the model."""
        return ResolvedModel(
            name=self.part.name,
            version=self.part.version,
            config=self.config.model_dump(mode="json"),
            shape=shape.model_dump(mode="json"),
            data=self.data,
            n_params=n_params,
        )


def shape_type(part: Part[type[Any]]) -> type[Shape]:
    """Class of an architecture's shapes."""
    found: type[Shape] = getattr(part.target, "Shape", AttentionBlocks)
    return found


def not_scaled(part: Part[type[Any]]) -> Problem:
    """An architecture without a method ``mup`` that is to have that parametrization."""
    message = f"the architecture {part.name!r} has no method mup, which says how weights and rates follow from its size"
    fix = "training.parametrization: standard, or give its class such a method; see docs/parts.md"
    return Problem(place="training.parametrization", message=message, fix=fix)


def of_trial(model: ResolvedModel) -> tuple[Architecture, Shape]:
    """The architecture of a trial's model, and its shape.

    Raises:
        ConfigError: it is not registered here, in this version, or with these keys.
    """
    part = ARCHITECTURES.get(model.name)
    if part.version != model.version:
        message = f"the trial's model is {model.name!r} version {model.version}; registered is version {part.version}"
        raise ConfigError(
            Problem(place="model", message=message, fix="register the version that the trial was made with")
        )
    chosen = Architecture(part, part.configure(model.config, "model"), model.data)
    chosen.check()
    return chosen, chosen.shape_of(model.shape)


def scales(model: ResolvedModel, built: "nn.Module") -> dict[str, Scale]:
    """Factors of the parameters of a trial's model by name; none in the standard parametrization.

    Raises:
        ConfigError: see `Architecture.scales`.
    """
    if model.base is None:
        return {}
    chosen, shape = of_trial(model)
    return chosen.scales(built, shape, chosen.shape_of(model.base))


def build(model: ResolvedModel, *, activation_checkpointing: bool = False) -> "nn.Module":
    """A trial's model on the default device, initialized from torch's global generator.

    Args:
        model: as resolved.
        activation_checkpointing: keep only the blocks' inputs in a training pass and run each block again in the
            backward pass, with the same dropout: less memory, equal gradients, about a third more time.

    Raises:
        ConfigError: no model can be built from it here.
    """
    chosen, shape = of_trial(model)
    built = chosen.build(shape)
    for name, scale in scales(model, built).items():
        if scale.init != 1:
            built.get_parameter(name).data.mul_(scale.init)
    if activation_checkpointing:
        from trainables.models.checkpointing import checkpoint_blocks

        checkpoint_blocks(built)
    return built
