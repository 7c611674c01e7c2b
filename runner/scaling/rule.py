"""The rule of the size behind measured optima: ``optimum = base * (size / at) ** exponent``, with intervals.

The optimum of one size is the vertex of a parabola through the losses against the logarithm of the value, within the
range that was tried. The rule is a straight line through the logarithms of the optima. Both are repeated on trials
drawn again with replacement within each size (a bootstrap); intervals are the middle 95 % of what comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.scaling.trend import Floats, Trend, interval, through

MIN_SIZES = 3  # two make a line without any doubt of it
MIN_TRIALS = 5  # of one size; a parabola takes three
NEAR = 0.6  # share of a size's trials, the best ones, that the parabola is fitted to: far off losses are no parabola
STEP = 3.0  # to a neighbouring value, as in a ladder of rates
DRAWS = 400
SEED = 0
PREDICTS = 3  # trials of one size at least, where its optimum helps to predict that of a larger one


@dataclass(frozen=True)
class Tried:
    """Values that were tried at one size, with their losses."""

    size: float
    values: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Optimum:
    """The best value at one size with its 95 % interval.

    Attributes:
        rise: of the loss where the value is `STEP` times larger or smaller; None where no parabola is seen.
    """

    size: float
    value: float
    low: float
    high: float
    rise: float | None


@dataclass(frozen=True)
class Rule(Trend):
    """The trend of measured optima with the size."""

    optima: tuple[Optimum, ...]


@dataclass(frozen=True)
class Prediction:
    """What smaller sizes say of the optimum at a larger one, with a 95 % interval and the exponent of the size."""

    value: float
    low: float
    high: float
    exponent: float
    sizes: tuple[float, ...]


def predict(tried: Sequence[Tried], size: float) -> Prediction | None:
    """The rule of several sizes at another one; None below 2 sizes of `PREDICTS` trials."""
    usable = [one for one in tried if len(one.values) >= PREDICTS]
    if len({one.size for one in usable}) < 2:
        return None
    x_S = np.log10([one.size for one in usable])
    best_S, drawn_DS = _optima(usable)
    there = np.log10(size)
    slope, start = np.polyfit(x_S - there, best_S, 1)
    low, high = interval(np.polyfit(x_S - there, drawn_DS.T, 1)[1])
    sizes = tuple(one.size for one in usable)
    return Prediction(float(10**start), 10**low, 10**high, float(slope), sizes)


def fit(tried: Sequence[Tried]) -> Rule | None:
    """The rule of several sizes; None below `MIN_SIZES` sizes of `MIN_TRIALS` trials."""
    usable = [one for one in tried if len(one.values) >= MIN_TRIALS]
    if len({one.size for one in usable}) < MIN_SIZES:
        return None
    x_S = np.log10([one.size for one in usable])
    best_S, drawn_DS = _optima(usable)
    low_S, high_S = np.percentile(drawn_DS, [2.5, 97.5], axis=0)
    optima = tuple(
        Optimum(one.size, float(10**best), float(10**low), float(10**high), _rise(one))
        for one, best, low, high in zip(usable, best_S, low_S, high_S, strict=True)
    )
    return Rule(**vars(through(x_S, best_S, drawn_DS)), optima=optima)


def fit_ladder(tried: Sequence[Tried]) -> Rule | None:
    """The rule of a few values a size, in steps of `STEP`; None below 2 sizes.

    Each optimum is known to half a step to each side; intervals are of lines through optima anywhere in there.
    """
    usable = [one for one in tried if np.isfinite(one.losses).any()]
    if len({one.size for one in usable}) < 2:
        return None
    found = [_between_neighbours(one) for one in usable]
    x_S, half = np.log10([one.size for one in usable]), float(np.log10(STEP)) / 2
    best_S = np.log10([value for value, _ in found])
    drawn_DS = best_S + np.random.default_rng(SEED).uniform(-half, half, (DRAWS, len(best_S)))
    optima = tuple(
        Optimum(one.size, value, value / STEP**0.5, value * STEP**0.5, rise)
        for one, (value, rise) in zip(usable, found, strict=True)
    )
    return Rule(**vars(through(x_S, best_S, drawn_DS)), optima=optima)


def _between_neighbours(one: Tried) -> tuple[float, float | None]:
    """The vertex of the parabola through the best value and its two neighbours, with the rise of the loss in a step."""
    order = np.argsort(one.values)
    values, losses = np.array(one.values)[order], np.array(one.losses)[order]
    best = int(np.argmin(losses))
    around = losses[best - 1 : best + 2] if best else losses[:0]
    if len(around) < 3 or not np.isfinite(around).all() or (bend := around[0] - 2 * around[1] + around[2]) <= 0:
        return float(values[best]), None
    return float(values[best] * STEP ** ((around[0] - around[2]) / (2 * bend))), float(bend / 2)


def _optima(usable: Sequence[Tried]) -> tuple[Floats, Floats]:
    """Logarithms of the optima, shape (S,), and of those of drawn trials, shape (D, S)."""
    rng = np.random.default_rng(SEED)
    best_S = np.array([vertex(np.log10(one.values), np.array(one.losses)) for one in usable])
    return best_S, np.array([[_redrawn(one, rng) for one in usable] for _ in range(DRAWS)])


def _redrawn(one: Tried, rng: np.random.Generator) -> float:
    chosen = rng.integers(len(one.values), size=len(one.values))
    return vertex(np.log10(one.values)[chosen], np.array(one.losses)[chosen])


def _rise(one: Tried) -> float | None:
    bend = _parabola(np.log10(one.values), np.array(one.losses))
    return None if bend is None else bend[0] * float(np.log10(STEP)) ** 2


def _parabola(x: Floats, losses: Floats) -> tuple[float, float, Floats] | None:
    """Bend and slope at the best trial, and where the trials near it are; None where the losses have no bottom."""
    order = np.argsort(losses, kind="stable")
    near = order[: max(3, round(NEAR * len(losses)))]
    if len(np.unique(x[near])) < 3:
        return None
    bend, slope, _ = np.polyfit(x[near] - x[order[0]], losses[near], 2)
    return None if bend <= 0 else (float(bend), float(slope), x[near])


def vertex(x: Floats, losses: Floats) -> float:
    """Where the loss is smallest: of the parabola through the better trials, or of the best trial where it has none."""
    best, found = float(x[np.argmin(losses)]), _parabola(x, losses)
    if found is None:
        return best
    bend, slope, near = found
    return float(np.clip(best - slope / (2 * bend), near.min(), near.max()))
