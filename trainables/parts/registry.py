"""Parts by name: one registry for each kind of part."""

import importlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from trainables.errors import ConfigError, Problem, nearest
from trainables.parts.source import Source, distribution, source_of
from trainables.schema import Spec

T = TypeVar("T")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")

log = logging.getLogger(__name__)


class PartConfig(Spec):
    """Base of a part's own keys in a sweep file: immutable, no unknown keys, described by ``Field``."""


@dataclass(frozen=True)
class Part(Generic[T]):
    """A registered class or function."""

    kind: str
    name: str
    version: int
    target: T
    config_type: type[PartConfig]
    source: Source

    def configure(self, values: Mapping[str, Any], place: str = "") -> PartConfig:
        """The part's config of plain values.

        Raises:
            ConfigError: all that is wrong, below `place`.
        """
        try:
            return self.config_type.model_validate(values)
        except ValidationError as error:
            raise ConfigError(self._problem(issue, place) for issue in error.errors(include_url=False)) from error

    def own(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a block's keys that are the part's; others belong to another part of its kind."""
        return {key: value for key, value in values.items() if key in self.config_type.model_fields}

    def _problem(self, issue: Any, place: str) -> Problem:
        location = ".".join(str(part) for part in (place, *issue["loc"]) if str(part))
        if issue["type"] == "extra_forbidden":
            fix = nearest(str(issue["loc"][-1]), self.config_type.model_fields)
            return Problem(place=location, message=f"the {self.kind} {self.name!r} has no such key", fix=fix)
        return Problem(place=location, message=str(issue["msg"]).removeprefix("Value error, "))

    def record(self) -> dict[str, Any]:
        """What a ledger keeps of the part, so that another source under the same version is noticed."""
        return {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "origin": self.source.origin,
            "sha256": self.source.sha256,
        }


class Registry(Generic[T]):
    """All parts of one kind.

    What ships is imported, and entry points are loaded, when a part is looked up for the first time.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        shipped: Sequence[str] = (),
        reserved: Sequence[str] = (),
        check: Callable[[T], str] | None = None,
    ) -> None:
        """An empty registry.

        Args:
            kind: for people, such as ``architecture``.
            group: of the entry points, such as ``isotherm.architectures``; each names a module that registers parts.
            shipped: modules of ours that register parts.
            reserved: keys of the sweep file's block that a part's config must not use.
            check: what is wrong with a class or function that is to be registered; empty if nothing is.
        """
        self.kind, self.group = kind, group
        self._shipped, self._reserved, self._check = tuple(shipped), frozenset(reserved), check
        self._parts: dict[str, Part[T]] = {}
        self._broken: list[str] = []  # entry points that could not be loaded
        self._imported = self._loaded = False

    def register(self, name: str, *, version: int = 1, config: type[PartConfig] | None = None) -> Callable[[T], T]:
        """A decorator that registers a class or function.

        Args:
            name: as a sweep file writes it.
            version: part of every trial's key; raise it when the part computes something else.
            config: the part's keys; default: the class's own ``Config``, else none.

        Raises:
            ConfigError: the name is taken by another source, or the part is not of this kind's form.
        """

        def decorate(target: T) -> T:
            found = config if config is not None else getattr(target, "Config", PartConfig)
            source = source_of(getattr(target, "__module__", ""), self.group)
            self._add(Part(self.kind, name, version, target, found, source))
            return target

        return decorate

    def _add(self, part: Part[T]) -> None:
        if not part.source.shipped:
            self._import_shipped()  # a name of ours is taken, whoever comes first
        if wrong := self._wrong(part):
            raise ConfigError(Problem(place=part.source.place, message=f"{self.kind} {part.name!r}: {wrong}"))
        known = self._parts.get(part.name)
        if known and known.source.place != part.source.place and known.source.sha256 != part.source.sha256:
            message = f"the {self.kind} {part.name!r} is registered by {known.source.place} already"
            raise ConfigError(Problem(place=part.source.place, message=message, fix="give it another name"))
        self._parts[part.name] = part

    def _wrong(self, part: Part[T]) -> str:
        if not NAME.fullmatch(part.name):
            return "a name is lower-case letters, digits, '-' and '_', starting with a letter, 40 at most"
        if not isinstance(part.version, int) or part.version < 1:
            return f"its version is {part.version!r}, not a whole number of at least 1"
        if not (isinstance(part.config_type, type) and issubclass(part.config_type, PartConfig)):
            return "its Config is not a subclass of isotherm.PartConfig"
        if taken := sorted(self._reserved & set(part.config_type.model_fields)):
            return f"its Config must not have the key {', '.join(taken)}, which has a meaning of its own there"
        return self._check(part.target) if self._check else ""

    def get(self, name: str, place: str = "") -> Part[T]:
        """The part of a name.

        Raises:
            ConfigError: there is none; names the nearest one.
        """
        self._discover()
        if name not in self._parts:
            broken = "; ".join(["", *self._broken])
            message = f"no {self.kind} {name!r} is registered{broken}"
            fix = f"{nearest(name, self._parts)}; one of your own needs --plugin FILE"
            raise ConfigError(Problem(place=place or self.kind, message=message, fix=fix))
        return self._parts[name]

    def find(self, part: str | T) -> Part[T]:
        """The part of a name, or of a registered class or function.

        Raises:
            ConfigError: there is none.
        """
        if isinstance(part, str):
            return self.get(part)
        found = [one for one in self if one.target is part]
        if not found:
            message = f"{getattr(part, '__name__', part)} is not registered as {self.kind}"
            raise ConfigError(Problem(place=self.kind, message=message, fix="decorate it"))
        return found[0]

    def __iter__(self) -> Iterator[Part[T]]:
        """All parts, by name."""
        self._discover()
        return iter([self._parts[name] for name in sorted(self._parts)])

    def _import_shipped(self) -> None:
        if not self._imported:
            self._imported = True
            for module in self._shipped:
                importlib.import_module(module)

    def _discover(self) -> None:
        self._import_shipped()
        if self._loaded:
            return
        self._loaded = True
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as error:  # somebody else's distribution: only who asks for its parts is concerned
                self._broken.append(f"{point.name} of {distribution(point)} cannot be loaded: {error}")
                log.warning("%s: entry point %s", self.group, self._broken[-1])
