"""Shapes that meet a parameter budget."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.errors import BudgetError, ConfigError, Problem
from trainables.models import shape_files
from trainables.models.ladder import Rung, handover
from trainables.models.param_count import count_shape
from trainables.models.registry import Architecture
from trainables.models.shapes import Blocks, Shape
from trainables.schema import BUDGET_TOLERANCE, DataShape, ModelSpec, ResolvedModel, parse_budget


def solve(target: int, *, spec: ModelSpec, data: DataShape) -> ResolvedModel:
    """The model of `target` parameters on its architecture's ladder.

    Deterministic. With the default ladder it is monotone, too: a larger target never has fewer parameters, nor a
    narrower or shallower model; and within 0.25 % of the target, the smallest models aside, with a feed-forward width
    that is a multiple of up to 64 as far as that allows.

    Args:
        target: parameters wanted, all groups together.
        spec: the architecture; on the default ladder width over depth aims at `spec.aspect`, or depth and heads are
            those of `spec`.
        data: what the model sees.

    Raises:
        ConfigError: no such architecture, or a config that is wrong or does not suit the data.
        BudgetError: no shape of the ladder has about so many parameters.
    """
    chosen = Architecture.of(spec, data)
    shape = _Solver(chosen, target, chosen.ladder(spec.aspect, depth=spec.depth, heads=spec.heads)).shape()
    actual = count_shape(chosen, shape).total
    if abs(actual / target - 1) > BUDGET_TOLERANCE:
        message = f"no shape of {chosen.part.name} has {target:,} parameters here; the nearest has {actual:,}"
        fix = f"use a budget of {actual}, or give the architecture a ladder with smaller steps"
        raise BudgetError(Problem(place="budget", message=message, fix=fix))
    return chosen.resolved(shape, actual)


@dataclass
class _Solver:
    """Climbs one ladder for one target. Shapes are cheap and counting them is not: the ladder is bisected."""

    chosen: Architecture
    target: int
    rest: Iterator[Shape]
    _seen: list[Shape] = field(default_factory=list)

    def shape(self) -> Shape:
        """The shape nearest to the target.

        Raises:
            BudgetError: the smallest one is too large.
        """
        first = self._at(0)
        if first is None:
            raise ConfigError(Problem(place=self.chosen.part.name, message="its ladder has no shapes"))
        rung = Rung.of(first, self._count)
        smallest = rung.smallest if rung else self._count(first)
        if smallest > self.target * (1 + BUDGET_TOLERANCE):
            raise BudgetError(_too_small(self.target, self.chosen, smallest))
        above = self._first_at_least_the_target()
        below = self._at(max(0, above - 1))
        assert below is not None
        if rung is None:
            return self._between(below, self._at(above))
        return self._fine(below, self._at(above))

    def _fine(self, below: Shape, above: Shape | None) -> Shape:
        """The nearest of two rungs, at the nearest value of its fine field."""
        lower = Rung.of(below, self._count)
        upper = lower if above is below else Rung.of(above, self._count) if above is not None else None
        assert lower is not None
        if upper is None or upper is lower:
            return lower.nearest(self.target)
        high, low = handover(lower, upper)
        return (lower if self.target - high <= low - self.target else upper).nearest(self.target)

    def _between(self, below: Shape, above: Shape | None) -> Shape:
        """The nearest of two shapes; of blocks without a fine field, the lower one widened as far as is best."""
        if isinstance(below, Blocks):
            return self._widened(below)
        return min((one for one in (below, above) if one is not None), key=self._miss)

    def _widened(self, shape: Blocks) -> Shape:
        heads = getattr(shape, "heads", 1)

        def wide(factor: int) -> Shape:
            return shape.model_copy(update={"width": heads * factor})

        low = shape.width // heads
        high = _first(lambda step: self._count(wide(low + step)) >= self.target) + low
        return min((wide(max(low, high - 1)), wide(high)), key=self._miss)

    def _first_at_least_the_target(self) -> int:
        """Index of the first shape that has as many parameters as the target; one past the end if none has."""

        def enough(index: int) -> bool:
            shape = self._at(index)
            return shape is None or self._count(shape) >= self.target

        return _first(enough)

    def _at(self, index: int) -> Shape | None:
        """The shape of an index, None past the end."""
        while len(self._seen) <= index:
            following = next(self.rest, None)
            if following is None:
                return None
            self._seen.append(following)
        return self._seen[index]

    def _count(self, shape: Shape) -> int:
        return count_shape(self.chosen, shape).total

    def _miss(self, shape: Shape) -> int:
        return abs(self._count(shape) - self.target)


def _first(holds: Callable[[int], bool]) -> int:
    """The first whole number from 0 at which a condition holds that then holds for all larger ones."""
    if holds(0):
        return 0
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def check(chosen: Architecture, shape: Shape, target: int, *, place: str = "") -> ResolvedModel:
    """The model of a shape, if it meets a budget.

    Args:
        chosen: the architecture.
        shape: one of its shapes.
        target: parameters wanted, all groups together.
        place: where the shape was written, for the message.

    Raises:
        ConfigError: no model can be built from the shape.
        BudgetError: the shape is more than `BUDGET_TOLERANCE` off; with the numbers, and a value of its fine field,
            such as a feed-forward width, that is not.
    """
    actual = count_shape(chosen, shape).total
    off = actual / target - 1
    if abs(off) <= BUDGET_TOLERANCE:
        return chosen.resolved(shape, actual)
    fitting = _fitting(chosen, shape, target)
    fix = f"set {shape.fine} to {fitting}" if fitting else f"make it {'narrower' if off > 0 else 'wider'}"
    sizes = ", ".join(f"{name} {value}" for name, value in shape.model_dump().items())
    message = (
        f"{chosen.part.name} of {sizes} has {actual:,} parameters; {target:,} were requested "
        f"({off:+.2%}, allowed is {BUDGET_TOLERANCE:.0%})"
    )
    raise BudgetError(Problem(place=place, message=message, fix=fix))


def _fitting(chosen: Architecture, shape: Shape, target: int) -> int | None:
    """A value of the shape's fine field that meets the target, if there is one."""
    rung = Rung.of(shape, lambda one: count_shape(chosen, one).total)
    if rung is None:
        return None
    value = round((target - rung.total(0)) / rung.slope)
    return value if value >= 1 and abs(rung.total(value) / target - 1) <= BUDGET_TOLERANCE else None


def model_of(spec: ModelSpec, shape: Mapping[str, Any], data: DataShape) -> ResolvedModel:
    """The model of given sizes, whatever its number of parameters.

    Raises:
        ConfigError: as `Architecture.of`, or no model can be built of these sizes.
    """
    chosen = Architecture.of(spec, data)
    sizes = chosen.shape_of(shape)
    return chosen.resolved(sizes, count_shape(chosen, sizes).total)


def shape_for(label: str, *, spec: ModelSpec, data: DataShape) -> ResolvedModel:
    """The model of a budget such as ``2m``: of a hand-written shape if there is one, else solved.

    A hand-written shape is the entry `spec.name` of the file in `spec.shapes` whose name means the same number
    (``2b.yaml`` serves ``2000m``, too). It is checked against the budget all the same.

    Raises:
        ConfigError: as `solve`, or a hand-written shape's file is broken.
        BudgetError: as `solve`, the label is no budget, or the hand-written shape misses the budget.
    """
    try:
        target = parse_budget(label)
    except ValueError as error:
        raise BudgetError(Problem(place="budget", message=str(error), fix="use a number with k, m or b")) from error
    folder = Path(spec.shapes)
    if spec.shapes != ModelSpec.model_fields["shapes"].default and not folder.is_dir():
        fix = "correct the path, or leave the key out"
        raise ConfigError(Problem(place="model.shapes", message=f"{folder} is not a folder", fix=fix))
    written = shape_files.find(folder, target)
    entry = shape_files.load(written).get(spec.name) if written else None
    if entry is None:
        return solve(target, spec=spec, data=data)
    return check(Architecture.of(spec, data), entry.shape, target, place=entry.place)


def _too_small(target: int, chosen: Architecture, smallest: int) -> Problem:
    name = chosen.part.name
    return Problem(
        place="budget",
        message=f"{target:,} parameters are too few for {name} here: the smallest has {smallest:,}",
        fix=f"use a budget of {smallest:,} or more, a shorter context or fewer features",
    )
