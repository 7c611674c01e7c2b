"""From a fit's numbers to one of the design's verdicts, in words."""

from dataclasses import dataclass

from runner.scaling.law import MAX_EXPONENT
from runner.scaling.rivals import CONSTANT, LOG_LINEAR, PARABOLA, POWER_LAW, TURN_MARGIN, Comparison

FLAT, NO_SIGNAL, INVERSE = "flat", "flat: no learnable signal", "inverse"
OPTIMISATION_FAILURE, NOT_IDENTIFIABLE = "optimisation failure", "not identifiable"
MIN_SIZES = 5  # the design's rule: fewer distinct sizes never identify a power law
FLAT_SHARE = 0.01  # of the reference loss
_SHARE_OF_E = 0.01  # an E whose interval reaches below this share of the smallest loss may as well be 0
_LEAST_EXPONENT = 0.01


@dataclass(frozen=True)
class Change:
    """Change of the loss from the smallest to the largest size, with its 95 % interval, in the loss's unit.

    `reference` is what 1 % is taken of: the prior's loss in a sweep, the loss at the smallest size in a bare table.
    """

    value: float
    low: float
    high: float
    reference: float

    @property
    def flat(self) -> bool:
        """Whether the whole interval is within 1 % of the reference."""
        limit = FLAT_SHARE * self.reference
        return -limit <= self.low and self.high <= limit

    def words(self) -> str:
        """Value and interval."""
        return f"{self.value:+.4g} [{self.low:+.4g}, {self.high:+.4g}]"


@dataclass(frozen=True)
class Evidence:
    """What a verdict is formed on.

    `alpha` and `irreducible` are intervals, the latter of the first group; None where they were not worked out because
    the rest decides without them.
    """

    n_sizes: int
    change: Change
    comparison: Comparison
    smallest_loss: float
    alpha: tuple[float, float] | None = None
    irreducible: tuple[float, float] | None = None


def judge(evidence: Evidence) -> tuple[str, str] | None:
    """The verdict, and the reason in a sentence; None where it takes intervals that the evidence lacks."""
    change, n = evidence.change, evidence.n_sizes
    moved = f"from the smallest to the largest size the loss changes by {change.words()}"
    if n < MIN_SIZES:
        sizes = f"{n} distinct size{'s' if n != 1 else ''}"
        return NOT_IDENTIFIABLE, f"{sizes} cannot identify a law, at least {MIN_SIZES} are needed; {moved}"
    if change.flat:
        return FLAT, f"{moved}, all of it within 1 % of {change.reference:.4g}"
    if _turns(evidence):
        return NOT_IDENTIFIABLE, f"the loss turns inside the range of sizes, which no power law does; {moved}"
    if change.low > 0:
        return INVERSE, f"the loss rises with size: {moved}"
    if change.high >= 0:
        return NOT_IDENTIFIABLE, f"the points do not even settle the sign: {moved}"
    doubt = _doubt(evidence)
    if doubt:
        return NOT_IDENTIFIABLE, f"the loss falls, but {doubt}; {moved}"
    if evidence.alpha is None or evidence.irreducible is None:
        return None
    low, high = evidence.alpha
    return POWER_LAW, (
        f"alpha lies in [{low:.3g}, {high:.3g}] over {n} sizes, and the law describes them better than a "
        f"constant and a log-linear law; {moved}"
    )


def _turns(evidence: Evidence) -> bool:
    """Whether a parabola with its extremum among the sizes leaves no support to any form without one."""
    comparison = evidence.comparison
    if not comparison.turns or PARABOLA not in comparison.scores:
        return False
    return all(comparison.prefers(PARABOLA, other, TURN_MARGIN) for other in (POWER_LAW, LOG_LINEAR, CONSTANT))


def _doubt(evidence: Evidence) -> str:
    """Why a falling loss is no identified power law, or an empty text."""
    comparison = evidence.comparison
    by = "AICc" if comparison.method == "aicc" else "the error of predicting sizes left out"
    if POWER_LAW not in comparison.scores:
        return "there are too few points to compare forms"
    for rival in (CONSTANT, LOG_LINEAR):
        if not comparison.prefers(POWER_LAW, rival):
            return f"a {rival} form describes it about as well or better, by {by}"
    if evidence.alpha is None or evidence.irreducible is None:
        return ""
    low, high = evidence.alpha
    if low < _LEAST_EXPONENT or high > 0.99 * MAX_EXPONENT:
        return f"the exponent is not settled (alpha in [{low:.3g}, {high:.3g}])"
    if evidence.irreducible[0] < _SHARE_OF_E * evidence.smallest_loss:
        return f"the irreducible loss may be 0 (E in [{evidence.irreducible[0]:.3g}, {evidence.irreducible[1]:.3g}])"
    return ""
