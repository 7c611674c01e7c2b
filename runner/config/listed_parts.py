"""Parts that a sweep names outside of the blocks that define a trial: what is wrong with names and keys."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runner.config.settings import SweepSettings
from runner.config.trackers import TRACKERS
from runner.config.words import fix_of, with_value
from runner.config.yaml_lines import Location
from runner.thermal.sensors.base import SENSORS
from trainables.baseline_registry import BASELINES
from trainables.errors import ConfigError, Problem, nearest
from trainables.parts import Part, Registry
from trainables.schema import MetricSpec, NamedPart
from trainables.training.metric_registry import METRICS, OF_EVERY_TRIAL


@dataclass(frozen=True)
class Listed:
    """A setting that names one part, or a list of them."""

    setting: Location
    registry: Registry[Any]
    of_trials: bool = False  # the ledger keeps those in the records of the cells

    def given(self, settings: SweepSettings) -> list[tuple[Location, NamedPart]]:
        """The parts that are named, each with its place."""
        found: Any = settings
        for name in self.setting:
            found = getattr(found, str(name))
        if isinstance(found, NamedPart):
            return [(self.setting, found)]
        return [((*self.setting, index), one) for index, one in enumerate(found)]


LISTED = (
    Listed(("baselines",), BASELINES, of_trials=True),
    Listed(("metrics",), METRICS, of_trials=True),
    Listed(("thermal", "sensor"), SENSORS),
    Listed(("tracking", "others"), TRACKERS),
)


def of_sweep(settings: SweepSettings) -> tuple[dict[str, Any], ...]:
    """What the ledger keeps of the sensor and the trackers of one's own."""
    shared = [listed for listed in LISTED if not listed.of_trials]
    named = [listed.registry.get(block.name) for listed in shared for _, block in listed.given(settings)]
    return tuple(part.record() for part in named)


def problems(settings: SweepSettings, place: Callable[[Location], str]) -> Iterator[Problem]:
    """What is wrong with the parts that a sweep names there, and with their keys."""
    for listed in LISTED:
        names: set[str] = set()
        for location, block in listed.given(settings):
            name = block.column if isinstance(block, MetricSpec) else block.name
            if name in names:
                fix = "give the second one a label" if isinstance(block, MetricSpec) else "name it once"
                yield Problem(place=place(location), message=f"{name!r} is named twice", fix=fix)
            names.add(name)
            if listed.registry is METRICS and block.name in OF_EVERY_TRIAL:
                message = f"{block.name!r} is reported for every trial"
                yield Problem(place=place(location), message=message, fix="take it out of the list")
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
                yield Problem(place=where, message=with_value(issue), fix=fix_of(issue, part.config_type, issue["loc"]))
