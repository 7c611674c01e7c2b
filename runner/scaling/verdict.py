"""From a fit's numbers to a verdict in words: first the direction, then the form, then one of the design's words."""

from dataclasses import dataclass

from runner.scaling.direction import FLAT, RISES, UNKNOWN, Direction
from runner.scaling.law import MAX_EXPONENT
from runner.scaling.model_comparison import CONSTANT, LOG_LINEAR, PARABOLA, POWER_LAW, Comparison

NO_SIGNAL, INVERSE = "flat: no learnable signal", "inverse"
OPTIMISATION_FAILURE, NOT_IDENTIFIABLE = "optimisation failure", "not identifiable"
TURNS, NO_FORM = "turns", "form not identified"
MIN_SIZES = 5  # the design's rule: fewer distinct sizes never identify a power law
MIN_SEEDS = 2  # of most sizes: a single one adds no noise between seeds
_SHARE_OF_E = 0.01  # an E whose interval reaches below this share of the smallest loss may as well be 0
_LEAST_EXPONENT = 0.01
MAX_SPAN = 4.0  # times: between exponents that far apart, ten times the size means anything from little to a lot


@dataclass(frozen=True)
class Evidence:
    """What a verdict is formed on.

    `alpha` and `irreducible` are intervals, the latter of the first group; None where they were not worked out because
    the rest decides without them.
    """

    n_sizes: int
    direction: Direction
    comparison: Comparison
    smallest_loss: float
    alpha: tuple[float, float] | None = None
    irreducible: tuple[float, float] | None = None


@dataclass(frozen=True)
class Verdict:
    """The single word of the design, the form (`POWER_LAW`, `LOG_LINEAR`, `TURNS` or `NO_FORM`), and why."""

    word: str
    form: str
    reason: str


def few_sizes(direction: Direction, n: int) -> Verdict:
    """The verdict on n sizes, fewer than `MIN_SIZES`: a turn may be seen, a law not."""
    if direction.turn:
        return Verdict(NOT_IDENTIFIABLE, TURNS, direction.turn.words())
    sizes = f"{n} distinct size{'s' if n != 1 else ''}"
    return Verdict(NOT_IDENTIFIABLE, NO_FORM, f"{sizes} cannot identify a law, at least {MIN_SIZES} are needed")


def without_forms(direction: Direction, n: int) -> Verdict | None:
    """The verdict on n sizes where it needs no comparison of forms; None where it does."""
    if n < MIN_SIZES:
        return few_sizes(direction, n)
    if direction.turn:
        return Verdict(FLAT if direction.word == FLAT else NOT_IDENTIFIABLE, TURNS, direction.turn.words())
    if direction.word == FLAT:
        return Verdict(FLAT, NO_FORM, "what does not change has no law")
    if direction.word == UNKNOWN:
        return Verdict(NOT_IDENTIFIABLE, NO_FORM, "without a direction no law is looked for")
    return None


def judge(evidence: Evidence) -> Verdict | None:
    """The verdict; None where it takes intervals that the evidence lacks."""
    direction, n = evidence.direction, evidence.n_sizes
    if (early := without_forms(direction, n)) is not None:
        return early
    if direction.word == RISES:
        if _straight(evidence):
            return Verdict(INVERSE, LOG_LINEAR, "the log loss rises in a straight line with log size")
        return Verdict(INVERSE, NO_FORM, "the law cannot rise")
    doubt = _doubt(evidence)
    if doubt and _straight(evidence):
        line = "a straight line in the logs describes the sizes to a tenth of the change: no irreducible loss is seen"
        return Verdict(NOT_IDENTIFIABLE, LOG_LINEAR, line)
    if doubt:
        return Verdict(NOT_IDENTIFIABLE, NO_FORM, doubt)
    if evidence.alpha is None or evidence.irreducible is None:
        return None
    low, high = evidence.alpha
    return Verdict(
        POWER_LAW,
        POWER_LAW,
        f"alpha lies in [{low:.3g}, {high:.3g}] over {n} sizes, and the law describes them better than a constant and "
        "a log-linear law",
    )


def _straight(evidence: Evidence) -> bool:
    comparison = evidence.comparison
    known = {CONSTANT, LOG_LINEAR} <= set(comparison.scores)
    rivals = [name for name in (POWER_LAW, PARABOLA) if name in comparison.scores]
    return (
        evidence.direction.straight
        and known
        and comparison.prefers(LOG_LINEAR, CONSTANT)
        and not any(comparison.prefers(rival, LOG_LINEAR) for rival in rivals)
    )


def _doubt(evidence: Evidence) -> str:
    """Why a falling loss is no identified power law, or an empty text."""
    comparison = evidence.comparison
    by = "AICc" if comparison.method == "aicc" else "the error of predicting sizes left out"
    if POWER_LAW not in comparison.scores:
        return "there are too few points to compare forms"
    for rival in (CONSTANT, LOG_LINEAR):
        if not comparison.prefers(POWER_LAW, rival):
            return f"a {rival} form describes the fall about as well as a power law or better, by {by}"
    if evidence.alpha is None or evidence.irreducible is None:
        return ""
    low, high = evidence.alpha
    if low < _LEAST_EXPONENT or high > 0.99 * MAX_EXPONENT:
        return f"the exponent is not settled (alpha in [{low:.3g}, {high:.3g}])"
    if high > MAX_SPAN * low:
        return (
            f"the exponent is known too coarsely: alpha in [{low:.3g}, {high:.3g}] spans more than {MAX_SPAN:g} times"
        )
    if evidence.irreducible[0] < _SHARE_OF_E * evidence.smallest_loss:
        return f"the irreducible loss may be 0 (E in [{evidence.irreducible[0]:.3g}, {evidence.irreducible[1]:.3g}])"
    return ""
