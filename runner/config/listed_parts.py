"""Parts that a sweep names outside of the blocks that define a trial: what is wrong with names and keys."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runner.config.settings import SweepSettings
from runner.config.trackers import TRACKERS
from runner.config.words import words_of
from runner.config.yaml_lines import Location
from runner.thermal.sensors.base import SENSORS
from trainables.baseline_registry import BASELINES
from trainables.errors import ConfigError, Problem, nearest
from trainables.parts import Part, Registry
from trainables.schema import NamedPart
from trainables.training.metric_registry import METRICS


@dataclass(frozen=True)
class Listed:
    """A setting that names one part, or a list of them."""

    setting: Location
    registry: Registry[Any]

    def given(self, settings: SweepSettings) -> list[tuple[Location, NamedPart]]:
        """The parts that are named, each with its place."""
        found: Any = settings
        for name in self.setting:
            found = getattr(found, str(name))
        if isinstance(found, NamedPart):
            return [(self.setting, found)]
        return [((*self.setting, index), one) for index, one in enumerate(found)]


LISTED = (
    Listed(("baselines",), BASELINES),
    Listed(("metrics",), METRICS),
    Listed(("thermal", "sensor"), SENSORS),
    Listed(("tracking", "others"), TRACKERS),
)


def problems(settings: SweepSettings, place: Callable[[Location], str]) -> Iterator[Problem]:
    """What is wrong with the parts that a sweep names there, and with their keys."""
    for listed in LISTED:
        names: set[str] = set()
        for location, block in listed.given(settings):
            if block.name in names:
                yield Problem(place=place(location), message=f"{block.name!r} is named twice", fix="name it once")
            names.add(block.name)
            try:
                part = listed.registry.get(block.name, place(location))
            except ConfigError as error:
                yield from error.problems
                continue
            yield from _keys(part, block, location, place)


def _keys(part: Part[Any], block: NamedPart, location: Location, place: Callable[[Location], str]) -> Iterator[Problem]:
    try:
        part.config_type.model_validate(block.config)
    except ValidationError as error:
        for issue in error.errors(include_url=False):
            where = place((*location, *issue["loc"]))
            if issue["type"] == "extra_forbidden":
                key = str(issue["loc"][-1])
                fix = nearest(key, ["name", *part.config_type.model_fields])
                yield Problem(place=where, message=f"the {part.kind} {part.name!r} has no key {key!r}", fix=fix)
            else:
                message = words_of(issue)
                yield Problem(place=where, message=f"{message} (got {issue['input']!r})")
