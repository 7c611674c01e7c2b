"""The ladder of shapes that the budget solver climbs.

The default ladder starts at the narrowest model of one block. Each step widens it or adds a block, whichever leaves
width over depth closer to the declared aspect ratio. So neither width nor depth ever falls from one rung to the next,
and the ladder does not depend on a target, which makes the solver monotone: a larger budget never has fewer parameters.
Between rungs the feed-forward width takes up the difference.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainables.models.shapes import Blocks, Shape

FEED_FORWARD_RATIO = 4  # feed-forward over width at a rung's own size (Vaswani et al. 2017)
_MIN_WIDTH = 8  # also the least width of a head
_MAX_HEAD_WIDTH = 128  # the widest that fused attention kernels are made for (Dao 2023); Brown et al. 2020 use it at 7b
_MAX_WIDTH_STEP = _MAX_FINE_STEP = 64  # bfloat16 matrix kernels are fastest in multiples of 64 (128 bytes)
_COARSEST_STEP = 0.005  # share of a rung's size that one step of its fine field may make


@dataclass(frozen=True)
class Rung:
    """Shapes of one step of a ladder; their fine field is free.

    Attributes:
        shape: as the ladder has it.
        nominal: its parameters.
        slope: parameters that one more unit of the fine field adds.
        step: multiples of which the fine field is chosen; a power of two.
    """

    shape: Shape
    nominal: int
    slope: int
    step: int

    @classmethod
    def of(cls, shape: Shape, count: Callable[[Shape], int]) -> "Rung | None":
        """The rung of a shape; None where no field of it takes up the difference between two rungs."""
        if not shape.fine:
            return None
        nominal, own = count(shape), _fine(shape)
        slope = count(shape.model_copy(update={shape.fine: own + 1})) - nominal
        if slope <= 0:
            return None
        step = _power_of_two(max(1.0, _COARSEST_STEP * nominal / slope))
        # The largest power of two in `own` keeps the rung's own size among its choices.
        return cls(shape, nominal, slope, min(_MAX_FINE_STEP, step, own & -own))

    @property
    def smallest(self) -> int:
        """Parameters with the smallest fine field."""
        return self.total(self.step)

    def total(self, fine: int) -> int:
        """Parameters with another value of the fine field."""
        return self.nominal + (fine - _fine(self.shape)) * self.slope

    def nearest(self, target: int) -> Shape:
        """The shape nearest to a target."""
        steps = max(1, round((target - self.total(0)) / (self.step * self.slope)))
        return self.shape.model_copy(update={self.shape.fine: steps * self.step})


def by_aspect(
    shape_type: type[Blocks], aspect: float, *, depth: int | None = None, heads: int | None = None
) -> Iterator[Blocks]:
    """The endless default ladder of a class of shapes; `aspect` is width over depth, where no depth is given."""
    has_heads, unit = "heads" in shape_type.model_fields, heads or 1
    width, blocks = _multiple(_MIN_WIDTH, unit), depth or 1
    while True:
        sizes = {"width": width, "depth": blocks, "feed_forward": FEED_FORWARD_RATIO * width}
        yield shape_type(**sizes, **({"heads": heads or width // head_width(width)} if has_heads else {}))
        wider = width + _multiple(_width_step(width, has_heads), unit)
        if depth or _distance(wider / blocks, aspect) <= _distance(width / (blocks + 1), aspect):
            width = wider
        else:
            blocks += 1


def handover(below: Rung, above: Rung) -> tuple[int, int]:
    """The largest size that is taken from the lower of two neighbouring rungs, and the next one, from the upper.

    Targets nearer to the first belong to the lower rung, all others to the upper one. The two meet at the geometric
    mean of the rungs' own sizes; higher where the upper rung's feed-forward would be narrower than its width there,
    which happens only where the embedding is most of the model.
    """
    meeting = math.isqrt(below.nominal * above.nominal)
    if isinstance(above.shape, Blocks):
        meeting = max(meeting, above.total(above.shape.width))
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


def _multiple(width: int, unit: int) -> int:
    """The least multiple of a unit that is at least a width."""
    return -(-width // unit) * unit


def _width_step(width: int, has_heads: bool) -> int:
    """About an eighth of the width: a power of two, up to 64; heads need at least 8."""
    least = _MIN_WIDTH if has_heads else 1
    return min(_MAX_WIDTH_STEP, max(least, _power_of_two(width) // 8))


def _fine(shape: Shape) -> int:
    return int(getattr(shape, shape.fine))


def _distance(ratio: float, aspect: float) -> float:
    return abs(math.log(ratio / aspect))


def _power_of_two(value: float) -> int:
    """The largest power of two that is at most `value`, which is at least 1."""
    return 1 << (int(value).bit_length() - 1)
