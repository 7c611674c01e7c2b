"""The ladder of shapes that the budget solver climbs.

A ladder starts at the narrowest model of one block. Each step widens it or adds a block, whichever leaves width over
depth closer to the declared aspect ratio. So neither width nor depth ever falls from one rung to the next, and the
ladder does not depend on a target, which makes the solver monotone: a larger budget never has fewer parameters. Between
rungs the feed-forward width takes up the difference.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from trainables.models.param_count import count
from trainables.schema import ModelName, ModelShape

FEED_FORWARD_RATIO = 4  # feed-forward over width at a rung's own size (Vaswani et al. 2017)
_MIN_WIDTH = 8  # also the least width of a head
_MAX_HEAD_WIDTH = 128  # the widest that fused attention kernels are made for (Dao 2023); Brown et al. 2020 use it at 7b
_MAX_WIDTH_STEP = _MAX_FEED_FORWARD_STEP = 64  # bfloat16 matrix kernels are fastest in multiples of 64 (128 bytes)
_COARSEST_STEP = 0.005  # share of a rung's size that one step of its feed-forward width may make


@dataclass(frozen=True)
class Rung:
    """Shapes of one width and depth; their feed-forward width is free.

    Attributes:
        shape: with a feed-forward of `FEED_FORWARD_RATIO` times the width.
        nominal: its parameters.
        slope: parameters that one more unit of feed-forward width adds.
        step: multiples of which the feed-forward width is chosen; a power of two.
    """

    shape: ModelShape
    nominal: int
    slope: int
    step: int

    @classmethod
    def of(cls, shape: ModelShape) -> "Rung":
        """The rung of a shape."""
        nominal = count(shape).total
        slope = count(shape.model_copy(update={"feed_forward": shape.feed_forward + 1})).total - nominal
        step = _power_of_two(max(1.0, _COARSEST_STEP * nominal / slope))
        own = shape.feed_forward & -shape.feed_forward  # so that the rung's own size is among its choices
        return cls(shape, nominal, slope, min(_MAX_FEED_FORWARD_STEP, step, own))

    @property
    def smallest(self) -> int:
        """Parameters with the narrowest feed-forward."""
        return self.total(self.step)

    def total(self, feed_forward: int) -> int:
        """Parameters with another feed-forward width."""
        return self.nominal + (feed_forward - self.shape.feed_forward) * self.slope

    def nearest(self, target: int) -> ModelShape:
        """The shape nearest to a target."""
        steps = max(1, round((target - self.total(0)) / (self.step * self.slope)))
        return self.shape.model_copy(update={"feed_forward": steps * self.step})


def rungs(base: ModelShape, aspect: float) -> Iterator[Rung]:
    """The endless ladder for what `base` says of data and architecture; `aspect` is width over depth."""
    width, depth = _MIN_WIDTH, 1
    while True:
        heads = 1 if base.name == "mlp" else width // head_width(width)
        sizes = {"width": width, "depth": depth, "heads": heads, "feed_forward": FEED_FORWARD_RATIO * width}
        yield Rung.of(base.model_copy(update=sizes))
        wider = width + _width_step(base.name, width)
        if _distance(wider / depth, aspect) <= _distance(width / (depth + 1), aspect):
            width = wider
        else:
            depth += 1


def handover(below: Rung, above: Rung) -> tuple[int, int]:
    """The largest size that is taken from the lower of two neighbouring rungs, and the next one, from the upper.

    Targets nearer to the first belong to the lower rung, all others to the upper one. The two meet at the geometric
    mean of the rungs' own sizes; higher where the upper rung's feed-forward would be narrower than its width there,
    which happens only where the embedding is most of the model.
    """
    meeting = max(math.isqrt(below.nominal * above.nominal), above.total(above.shape.width))
    unit = above.step * above.slope
    smallest = above.nominal - (above.nominal - meeting) // unit * unit
    unit = below.step * below.slope
    largest = below.nominal + (smallest - below.nominal) // unit * unit
    return largest, smallest


def head_width(width: int) -> int:
    """Width of an attention head: the largest power of two that divides the width, up to 64 at 512 and 128 at 2,048.

    It grows with the root of the width, so that heads grow in number and in width alike.
    """
    largest = min(_MAX_HEAD_WIDTH, max(_MIN_WIDTH, _power_of_two(64 * math.sqrt(width / 512))))
    return min(largest, width & -width)


def _width_step(name: ModelName, width: int) -> int:
    """About an eighth of the width: a power of two, up to 64; heads need at least 8."""
    least = 1 if name == "mlp" else _MIN_WIDTH
    return min(_MAX_WIDTH_STEP, max(least, _power_of_two(width) // 8))


def _distance(ratio: float, aspect: float) -> float:
    return abs(math.log(ratio / aspect))


def _power_of_two(value: float) -> int:
    """The largest power of two that is at most `value`, which is at least 1."""
    return 1 << (int(value).bit_length() - 1)
