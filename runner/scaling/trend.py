"""How a value grows with another: a straight line through their logarithms, with intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 95.0  # per cent, of all intervals

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """``value = base * (x / at) ** exponent`` with 95 % intervals; `at` is the middle of the x, in the logarithm."""

    at: float
    base: float
    base_low: float
    base_high: float
    exponent: float
    exponent_low: float
    exponent_high: float


def through(x_S: Floats, value_S: Floats, drawn_DS: Floats) -> Trend:
    """The trend by least squares of values at several x; intervals are those of draws of the values.

    Args:
        x_S: decimal logarithms.
        value_S: decimal logarithms of the values.
        drawn_DS: the same of D draws of them.
    """
    middle = float(x_S.mean())
    exponent, start = np.polyfit(x_S - middle, value_S, 1)
    exponents_D, starts_D = np.polyfit(x_S - middle, drawn_DS.T, 1)
    low, high = interval(starts_D)
    return Trend(10**middle, float(10**start), 10**low, 10**high, float(exponent), *interval(exponents_D))


def interval(drawn_D: Floats) -> tuple[float, float]:
    """The middle 95 % of draws."""
    low, high = np.percentile(drawn_D, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)
