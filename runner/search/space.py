"""The space of one study: the dimensions of a sweep file, with the rules of the size worked out for its budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runner.config.search import Around, Choices, Dimension
from runner.config.variants import Variant, whole, with_values
from runner.rundir import comparable
from trainables.errors import ConfigError, Problem
from trainables.schema import SizeRule, parse_budget


@dataclass(frozen=True)
class Axis:
    """One searched key: one of `choices`, or a number from `low` to `high`.

    Attributes:
        log: even in the logarithm.
        integer: whole numbers only.
        points: how many values a grid takes.
        when: searched only where these other axes have these values.
    """

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    integer: bool = False
    points: int = 5
    choices: tuple[Any, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)

    def at(self, unit: float) -> Any:
        """The value at a place from 0 to 1."""
        if self.choices:
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        span = self.high / self.low if self.log else self.high - self.low
        return self.at_value(self.low * span**unit if self.log else self.low + unit * span)

    def at_value(self, value: float) -> float:
        """The value of the axis nearest to a number."""
        return round(min(max(value, self.low), self.high)) if self.integer else self.clean(value)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the axis."""
        return value in self.choices if self.choices else self.low <= value <= self.high

    def clean(self, value: float) -> float:
        """A number within the bounds, of six digits: files, ledger and report then have one and the same."""
        return min(max(rounded(value), self.low), self.high)

    def grid(self) -> list[Any]:
        """The values of a grid, distinct and in order."""
        if self.choices:
            return list(self.choices)
        return list(dict.fromkeys(self.at(index / (self.points - 1)) for index in range(self.points)))

    def words(self) -> str:
        """For people."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the ledger and a study's identity; without `points`, which only a grid looks at."""
        condition = {"when": dict(self.when)} if self.when else {}
        if self.choices:
            return {"choices": list(self.choices), **condition}
        return {"low": self.low, "high": self.high, "log": self.log, "integer": self.integer, **condition}


def rounded(value: float) -> float:
    """A number of six significant digits."""
    return float(f"{value:.6g}")


def axes_of(space: Mapping[str, Dimension], variant: Variant) -> dict[str, Axis]:
    """The space at a variant's budget, in the order of the file; without keys that it never searches."""
    found = {}
    for dotted, dimension in space.items():
        fixed = {key: value for key, value in dimension.when.items() if key not in space}
        if all(_named(default(key, variant)) == value for key, value in fixed.items()):
            varying = {key: value for key, value in dimension.when.items() if key in space}
            found[dotted] = replace(_axis(dotted, dimension, variant), when=varying)
    return found


def active(space: Mapping[str, Axis], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of those keys whose conditions hold."""
    return {
        dotted: value
        for dotted, value in values.items()
        if all(values.get(key) == wanted for key, wanted in space[dotted].when.items())
    }


def _named(value: Any) -> Any:
    """A block that names a part, such as a loss, by that name."""
    return value["name"] if isinstance(value, dict) and "name" in value else value


def _axis(dotted: str, dimension: Dimension, variant: Variant) -> Axis:
    if isinstance(dimension, Choices):
        return Axis(choices=dimension.choices)
    if isinstance(dimension, Around):
        center = default(dotted, variant)
        low, high = rounded(center / dimension.factor), rounded(center * dimension.factor)
        integer = _only_whole(dotted, low, high, variant)
        low, high = (max(1, round(low)), round(high)) if integer else (low, high)
        if low >= high:
            message = f"{center:g} with the factor {dimension.factor:g} leaves one whole number, {low:g}"
            raise ConfigError(Problem(place=f"search.space.{dotted}", message=message, fix="use a larger factor"))
        return Axis(low, high, log=True, integer=integer, points=dimension.points)
    integer = _only_whole(dotted, dimension.low, dimension.high, variant)
    return Axis(dimension.low, dimension.high, dimension.log, integer, dimension.points)


def default(dotted: str, variant: Variant) -> Any:
    """What the sweep file gives for a key, with a rule of the size worked out."""
    block, _, rest = dotted.partition(".")
    value = comparable.setting(getattr(variant, block).model_dump(), rest)
    if isinstance(value, dict) and "base" in value:
        return SizeRule.model_validate(value).value(parse_budget(str(variant.axes["budget"])))
    return value


def _only_whole(dotted: str, low: float, high: float, variant: Variant) -> bool:
    """Whether a key takes whole numbers alone: it is asked with one between the bounds that is not whole."""
    between = next((value for value in _between(low, high) if not value.is_integer()), None)
    return between is not None and not _takes(dotted, between, variant)


def _between(low: float, high: float) -> list[float]:
    return [low + share * (high - low) for share in (1 / 2, 1 / math.pi)]


def _takes(dotted: str, value: float, variant: Variant) -> bool:
    try:
        with_values(variant, {dotted: value})
    except (ValueError, ConfigError):
        return False
    return True


def applied(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """A variant with suggested values.

    Raises:
        ValueError: the values do not go together.
        ConfigError: a part does not take them.
    """
    return with_values(variant, {dotted: whole(value) for dotted, value in values.items()})
