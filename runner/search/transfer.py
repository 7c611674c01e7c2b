"""What smaller sizes say of a larger one: where its search starts, and the narrower ranges that it searches.

The optima of the finished studies of smaller sizes follow a rule of the size (`runner.scaling.rule`). A larger size
searches around the rule's value, as far as the rule is uncertain there and at least a factor `NARROW` to each side,
with a share of the trials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runner.rundir.ledger import StudyPredicted
from runner.rundir.studies import StudyState
from runner.scaling.rule import Prediction, Tried, predict
from runner.search.space import Axis, rounded

FULL_SIZES = 2  # smallest sizes of a series that are searched in full: a line takes two
SHARE = 0.2  # of the trials that a size makes which was predicted; `docs/search.md` has what was measured
FEWEST = 5  # trials, as many as a rule of the size needs (`runner.scaling.rule.MIN_TRIALS`)
NARROW = 3.0


def trials(asked: int) -> int:
    """Trials of a study that smaller sizes predict, of as many as were asked for."""
    return max(min(asked, FEWEST), math.ceil(SHARE * asked))


def predicted(study: str, space: Mapping[str, Axis], size: float, smaller: Sequence[StudyState]) -> StudyPredicted:
    """What the studies of smaller sizes say of one.

    Args:
        study: its identity.
        space: as its sweep file asks.
        size: its budget.
        smaller: of the same series, from small to large.
    """
    best = next((state.best for state in reversed(smaller) if state.best is not None), None)
    values = {dotted: value for dotted, value in best.values.items() if dotted in space} if best else {}
    narrowed, words = {}, []
    for dotted, axis in space.items():
        tried = [Tried(float(state.asked["budget"]), *state.tried(dotted)) for state in smaller]
        if not axis.log or (found := predict(tried, size)) is None:
            continue
        center = min(max(found.value, axis.low), axis.high)
        narrow = _narrowed(axis, center, found)
        values[dotted] = narrow.at_value(center)
        narrowed[dotted] = narrow.as_dict()
        words.append(f"{dotted} {found.value:.3g} [{found.low:.2g}, {found.high:.2g}], as N^{found.exponent:.2f}")
    sizes = ", ".join(f"{state.asked['budget']:,}" for state in smaller)
    source = f"sizes {sizes}: {'; '.join(words)}" if words else f"sizes {sizes} have too few finished trials for a rule"
    return StudyPredicted(study=study, values=values, space=narrowed, source=source)


def narrowed(space: Mapping[str, Axis], state: StudyState) -> dict[str, Axis]:
    """The space that a study searches by now."""
    found = state.predicted.space if state.predicted else {}
    return {
        dotted: replace(axis, low=found[dotted]["low"], high=found[dotted]["high"]) if dotted in found else axis
        for dotted, axis in space.items()
    }


def _narrowed(axis: Axis, center: float, found: Prediction) -> Axis:
    reach = max(NARROW, found.high / found.value, found.value / found.low)
    low, high = max(axis.low, rounded(center / reach)), min(axis.high, rounded(center * reach))
    if axis.integer:
        low, high = max(axis.low, math.floor(low)), min(axis.high, math.ceil(high))
    return replace(axis, low=low, high=high)
