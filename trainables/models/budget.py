"""Shapes that meet a parameter budget."""

from itertools import pairwise
from pathlib import Path

from trainables.errors import BudgetError, ConfigError, Problem
from trainables.models import shape_files
from trainables.models.ladder import handover, rungs
from trainables.models.param_count import count
from trainables.models.validity import require_valid
from trainables.schema import BUDGET_TOLERANCE, ModelShape, ModelSpec, parse_budget


def solve(target: int, *, spec: ModelSpec, n_features: int, n_window_stats: int, context: int) -> ModelShape:
    """The shape of `target` parameters on the ladder of `spec.aspect`.

    Deterministic, and monotone: a larger target never has fewer parameters, nor a narrower or shallower model. Within
    0.25 % of the target, the smallest models aside; within that the feed-forward width is a multiple of up to 64.

    Args:
        target: parameters wanted, all groups together.
        spec: the architecture; width over depth aims at `spec.aspect`.
        n_features: F.
        n_window_stats: S, 0 unless windows are normalised one by one.
        context: L, in bars.

    Raises:
        ConfigError: the patch does not divide the context, or the stats cannot be shared out to the channels.
        BudgetError: even the smallest model has more parameters.
    """
    base = _base(spec, n_features=n_features, n_window_stats=n_window_stats, context=context)
    smallest = next(rungs(base, spec.aspect)).smallest
    if smallest > target * (1 + BUDGET_TOLERANCE):
        raise BudgetError(_too_small(target, spec, smallest))
    for rung, above in pairwise(rungs(base, spec.aspect)):
        high, low = handover(rung, above)
        if target - high <= low - target:
            shape = rung.nearest(target)
            check(shape, target)
            return shape
    raise AssertionError("a ladder has no end")


def check(shape: ModelShape, target: int, *, place: str = "") -> None:
    """Return if a shape meets a budget.

    Args:
        shape: any shape that can be built.
        target: parameters wanted, all groups together.
        place: where the shape was written, for the message.

    Raises:
        ConfigError: no model can be built from the shape.
        BudgetError: the shape is more than `BUDGET_TOLERANCE` off; with the numbers, and a feed-forward width
            that is not.
    """
    actual = count(shape).total
    off = actual / target - 1
    if abs(off) <= BUDGET_TOLERANCE:
        return
    slope = count(shape.model_copy(update={"feed_forward": shape.feed_forward + 1})).total - actual
    feed_forward = shape.feed_forward + round((target - actual) / slope)
    reached = actual + (feed_forward - shape.feed_forward) * slope
    fits = feed_forward >= 1 and abs(reached / target - 1) <= BUDGET_TOLERANCE
    mend = f"set feed_forward to {feed_forward}" if fits else f"make it {'narrower' if off > 0 else 'wider'}"
    message = (
        f"{shape.name} of width {shape.width}, depth {shape.depth}, feed_forward {shape.feed_forward} has {actual:,} "
        f"parameters; {target:,} were requested ({off:+.2%}, allowed is {BUDGET_TOLERANCE:.0%})"
    )
    raise BudgetError(Problem(place=place, message=message, mend=mend))


def shape_for(label: str, *, spec: ModelSpec, n_features: int, n_window_stats: int, context: int) -> ModelShape:
    """The shape of a budget such as ``2m``: hand-written if there is one, else solved.

    A hand-written shape is the entry `spec.name` of the file in `spec.shapes` whose name means the same number
    (``2b.yaml`` serves ``2000m``, too). It is checked against the budget all the same.

    Raises:
        ConfigError: as `solve`, or a hand-written shape's file is broken.
        BudgetError: as `solve`, the label is no budget, or the hand-written shape misses the budget.
    """
    try:
        target = parse_budget(label)
    except ValueError as error:
        raise BudgetError(Problem(place="budget", message=str(error), mend="use a number with k, m or b")) from error
    sizes = {"n_features": n_features, "n_window_stats": n_window_stats, "context": context}
    folder = Path(spec.shapes)
    if spec.shapes != ModelSpec.model_fields["shapes"].default and not folder.is_dir():
        mend = "correct the path, or leave the key out"
        raise ConfigError(Problem(place="model.shapes", message=f"{folder} is not a folder", mend=mend))
    written = shape_files.find(folder, target)
    entry = shape_files.load(written).get(spec.name) if written else None
    if entry is None:
        return solve(target, spec=spec, **sizes)
    base = _base(spec, **sizes)
    shape = base.model_copy(
        update={"width": entry.width, "depth": entry.depth, "heads": entry.heads, "feed_forward": entry.feed_forward}
    )
    check(shape, target, place=entry.place)
    return shape


def _base(spec: ModelSpec, *, n_features: int, n_window_stats: int, context: int) -> ModelShape:
    """All of a shape that does not depend on the budget; the sizes are placeholders.

    A perceptron has neither patches nor channels: they are set to constants, so that equal models have equal keys.
    """
    has_patches = spec.name == "patchtst"
    shape = ModelShape(
        name=spec.name,
        width=1,
        depth=1,
        heads=1,
        feed_forward=1,
        n_features=n_features,
        n_window_stats=n_window_stats,
        context=context,
        patch=spec.patch if has_patches else 1,
        channels=spec.channels if has_patches else "mixed",
        dropout=spec.dropout,
    )
    require_valid(shape)
    return shape


def _too_small(target: int, spec: ModelSpec, smallest: int) -> Problem:
    inputs = "context" if spec.name == "mlp" else "patch"
    return Problem(
        place="budget",
        message=f"{target:,} parameters are too few for {spec.name} here: the smallest has {smallest:,}",
        mend=f"use a budget of {smallest:,} or more, a shorter {inputs} or fewer features",
    )
