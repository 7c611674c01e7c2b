"""Does the loss fall, rise or stay with size, by how much, and does it turn on the way? No law is assumed.

Intervals come from `runner.scaling.noise`. Measured rates of false verdicts: ``docs/fits.md``.

Array names: N points, S distinct sizes, E the two end sizes, P least-squares coefficients.
"""

import math
from dataclasses import dataclass

import numpy as np

from runner.scaling.law import Design, Floats
from runner.scaling.model_comparison import Comparison
from runner.scaling.noise import LEVEL, Noise

FALLS, FLAT, RISES, UNKNOWN = "falls", "flat", "rises", "can't tell"
FLAT_SHARE = 0.01  # of the reference loss
_STRAIGHT_SHARE = 0.1  # of the change: so far a straight line in the logs may be off at half the range


@dataclass(frozen=True)
class Change:
    """A change of the loss with its 95 % interval, in the loss's unit.

    The ends are None where the noise is unknown, the value where no two sizes can be compared.
    `reference` is what 1 % is taken of: the prior's loss in a sweep, the loss at the smallest size in a bare table.
    """

    value: float | None
    low: float | None
    high: float | None
    reference: float

    @property
    def within_margin(self) -> bool:
        """Whether the whole interval is within 1 % of the reference."""
        limit = FLAT_SHARE * self.reference
        return self.low is not None and self.high is not None and -limit <= self.low and self.high <= limit

    @property
    def detectable(self) -> float | None:
        """The smallest change that such an interval excludes 0 for with 80 %, at most, as quantiles of t differ.

        2.8 standard errors where the half width is 1.96: the sum of the normal quantiles of .975 and .8.
        """
        return None if self.low is None or self.high is None else (self.high - self.low) / 2 * 2.8 / 1.96

    def words(self) -> str:
        """Value and interval."""
        if self.value is None:
            return "unknown"
        if self.low is None or self.high is None:
            return f"{self.value:+.4g} (no interval)"
        return f"{self.value:+.4g} [{self.low:+.4g}, {self.high:+.4g}]"


@dataclass(frozen=True)
class Turn:
    """The size (in units of the table) at which the loss is surely lower or higher than at sizes on both sides."""

    size: float
    lowest: bool

    def words(self) -> str:
        """Where it is."""
        where = "lowest" if self.lowest else "highest"
        return f"the loss turns inside the range of sizes, which no power law does: it is {where} at {self.size:,.0f}"


@dataclass(frozen=True)
class Direction:
    """The first half of a verdict.

    Attributes:
        word: one of `FALLS`, `FLAT`, `RISES`, `UNKNOWN`.
        reason: why it is this one.
        change: from the smallest to the largest size.
        widest: the largest change between any two sizes; None where sizes cannot be compared one by one.
        turn: where the loss turns, if it does.
        straight: whether a line in the logs surely describes the sizes to a tenth of the change.
        noise: what the intervals were made from.
        p: of no change from the smallest to the largest size; None where the noise is unknown.
    """

    word: str
    reason: str
    change: Change
    widest: Change | None
    turn: Turn | None
    straight: bool
    noise: str
    p: float | None = None

    @property
    def words(self) -> str:
        """The direction with its numbers."""
        return first_words(self.word, f"the change is {self.change.words()}")


def first_words(word: str, changes: str) -> str:
    """How every statement of a verdict begins: the direction, then the changes behind it."""
    if word in (FALLS, FLAT, RISES):
        return f"{word} with size, {changes}"
    return f"can't tell whether the loss falls with size, {changes}"


def assess(
    design: Design, log_loss_N: Floats, comparison: Comparison | None, noise: Noise, reference: float | None
) -> Direction:
    """Direction, change and turn of a design's losses."""
    contrast_N, start = _ends(design, log_loss_N)
    if contrast_N is None:
        change = Change(None, None, None, start if reference is None else reference)
        reason = "no group has two sizes: no two losses can be compared"
        return Direction(UNKNOWN, reason, change, None, None, False, noise.method)

    def in_unit(value: float, half: float | None) -> Change:
        ends = (value,) if half is None else (value, value - half, value + half)
        found, *interval = (start * math.expm1(min(end, 50.0)) for end in ends)
        low, high = interval or (None, None)
        return Change(found, low, high, reference if reference is not None else start)

    value = float(contrast_N @ log_loss_N)
    if not noise.known:
        reason = noise.method.removeprefix("none: ")
        return Direction(UNKNOWN, reason, in_unit(value, None), None, None, False, noise.method)
    change = in_unit(value, noise.half_width(contrast_N))
    at_S, effects_SN = _effects(design)
    widest, all_within, turn = None, False, None
    if effects_SN is not None and len(at_S) > 1:
        level_S = effects_SN @ log_loss_N
        half_SS = noise.half_widths(effects_SN)
        low, high = int(level_S.argmin()), int(level_S.argmax())
        first, last = sorted((low, high))
        widest = in_unit(float(level_S[last] - level_S[first]), float(half_SS[first, last]))
        furthest_SS = np.abs(level_S[:, None] - level_S[None, :]) + half_SS
        all_within = start * math.expm1(min(float(furthest_SS.max()), 50.0)) <= FLAT_SHARE * change.reference
        turn = _turn(design, log_loss_N, comparison, noise, at_S, effects_SN)
    word, reason = _word(change, widest, all_within, _reversal(turn, at_S, effects_SN, log_loss_N))
    straight, p = _straight(design, noise, log_loss_N, value), noise.p_value(contrast_N, value)
    return Direction(word, reason, change, widest, turn, straight, noise.method, p)


def _word(change: Change, widest: Change | None, all_within: bool, reversal: float) -> tuple[str, str]:
    assert change.low is not None
    assert change.high is not None
    margin = f"1 % of {change.reference:.4g}"
    if all_within and widest is not None:
        return FLAT, f"every size lies within {margin} of every other; the widest change is {widest.words()}"
    if change.low <= 0 <= change.high:
        if change.within_margin:
            return UNKNOWN, f"the end sizes lie within {margin} of each other, but not every size between them"
        return UNKNOWN, "the interval of the change holds 0 and is wider than the margin of 'flat', " + margin
    if reversal >= 1:
        return UNKNOWN, "the loss turns, and goes further back than it moves from the smallest to the largest size"
    return (FALLS if change.high < 0 else RISES), "the interval of the change lies on one side of 0"


def _ends(design: Design, y_N: Floats) -> tuple[Floats | None, float]:
    """Weights of the points whose sum with the log losses is the change, and the loss that it starts from.

    With one variable the mean at the largest size less that at the smallest, averaged over the groups of two sizes or
    more. With two, the slope of a log-linear fit times the range of sizes. None where no group has two sizes.
    """
    x_N = design.logs[0]
    if len(design.logs) > 1:
        inverse_PN = _least_squares(design, [*design.logs])
        return inverse_PN[0] * float(np.ptp(x_N)), float(np.exp(np.median(y_N)))
    contrast_N = np.zeros(len(y_N))
    starts = []
    for group in range(design.n_groups):
        mine = design.group_N == group
        largest, smallest = (mine & (x_N == end) for end in (x_N[mine].max(), x_N[mine].min()))
        if (largest & smallest).any():
            continue
        starts.append(float(np.average(y_N[smallest], weights=design.weight_N[smallest])))
        for chosen, sign in ((largest, 1.0), (smallest, -1.0)):
            weight = design.weight_N[chosen]
            contrast_N[chosen] += sign * weight / weight.sum()
    if not starts:
        return None, float(np.exp(np.median(y_N)))
    return contrast_N / len(starts), math.exp(float(np.mean(starts)))


def _effects(design: Design) -> tuple[Floats, Floats | None]:
    """Distinct sizes (logs, ascending), and contrasts [S, N] that give the log loss at each, groups and samples equal.

    With one variable each size stands for itself; with two, the sizes lie on a parabola. None where sizes and groups
    do not overlap enough for that.
    """
    x_N = design.logs[0]
    at_S = np.unique(x_N)
    if len(design.logs) > 1:
        centre = float(x_N.mean())
        inverse_PN = _least_squares(design, [x_N - centre, (x_N - centre) ** 2, *design.logs[1:]])
        return at_S, np.outer(at_S - centre, inverse_PN[0]) + np.outer((at_S - centre) ** 2, inverse_PN[1])
    sizes_NS = (x_N[:, None] == at_S).astype(np.float64)
    columns = np.column_stack([sizes_NS, np.eye(design.n_groups)[design.group_N]])
    if np.linalg.matrix_rank(columns) < len(at_S) + design.n_groups - 1:
        return at_S, None
    return at_S, _least_squares(design, list(sizes_NS.T))[: len(at_S)]


def _least_squares(design: Design, columns: list[Floats]) -> Floats:
    """Rows [P, N] that give each column's weighted least-squares coefficient, with a level for each group."""
    root_N = np.sqrt(design.weight_N)
    matrix_NP = np.column_stack([*columns, np.eye(design.n_groups)[design.group_N]]) * root_N[:, None]
    rows_PN: Floats = np.linalg.pinv(matrix_NP) * root_N
    return rows_PN


def _turn(
    design: Design, y_N: Floats, comparison: Comparison | None, noise: Noise, at_S: Floats, effects_SN: Floats
) -> Turn | None:
    """Where the loss surely turns; only with one variable.

    With replicates: a size whose mean is surely below, or above, the means of sizes on both sides, by intervals that
    hold for all pairs at once (Bonferroni). Without: the parabola describes the sizes best, and its slopes at both ends
    surely have opposite signs (Sasabuchi 1980; Lind and Mehlum 2010).
    """
    if len(design.logs) > 1 or len(at_S) < 3:
        return None
    level_S = effects_SN @ y_N
    if noise.replicated:
        half_SS = noise.half_widths(effects_SN, LEVEL / (len(at_S) * (len(at_S) - 1) / 2))
        above_SS = level_S[:, None] - level_S[None, :] > half_SS  # [i, j]: the loss at i is surely above that at j
        low_S = np.array([above_SS[:j, j].any() and above_SS[j + 1 :, j].any() for j in range(len(at_S))])
        high_S = np.array([above_SS[j, :j].any() and above_SS[j, j + 1 :].any() for j in range(len(at_S))])
        if low_S.any():
            return Turn(math.exp(at_S[np.where(low_S, level_S, np.inf).argmin()]), lowest=True)
        if high_S.any():
            return Turn(math.exp(at_S[np.where(high_S, level_S, -np.inf).argmax()]), lowest=False)
    if comparison is None or not comparison.prefers_turn:
        return None
    middle = float(at_S.mean())
    x_N = design.logs[0] - middle
    linear_N, square_N = _least_squares(design, [x_N, x_N**2])[:2]
    slopes_EN = np.stack([linear_N + 2 * (end - middle) * square_N for end in (at_S[0], at_S[-1])])
    slope_E = slopes_EN @ y_N
    half_E = np.array([noise.half_width(one_N) for one_N in slopes_EN])
    if (np.abs(slope_E) > half_E).all() and slope_E[0] * slope_E[1] < 0:
        lowest = bool(slope_E[0] < 0)
        return Turn(math.exp(at_S[level_S.argmin() if lowest else level_S.argmax()]), lowest)
    return None


def _reversal(turn: Turn | None, at_S: Floats, effects_SN: Floats | None, y_N: Floats) -> float:
    """The way back after (or before) a turn, as a share of the change between the end sizes; 0 without a turn."""
    if turn is None or effects_SN is None:
        return 0.0
    level_S = effects_SN @ y_N
    extreme = float(level_S[np.abs(at_S - math.log(turn.size)).argmin()])
    back = min(abs(extreme - float(level_S[0])), abs(extreme - float(level_S[-1])))
    return back / max(abs(float(level_S[-1] - level_S[0])), 1e-300)


def _straight(design: Design, noise: Noise, y_N: Floats, change: float) -> bool:
    """Whether the bend at half the range surely stays below a tenth of the change; only with one variable."""
    x_N = design.logs[0]
    if len(design.logs) > 1 or len(np.unique(x_N)) < 3:
        return False
    middle = (float(x_N.max()) + float(x_N.min())) / 2
    bend_N = _least_squares(design, [x_N - middle, (x_N - middle) ** 2])[1] * (float(np.ptp(x_N)) / 2) ** 2
    return abs(float(bend_N @ y_N)) + noise.half_width(bend_N) <= _STRAIGHT_SHARE * abs(change)
