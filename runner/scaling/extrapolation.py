"""How well a fit of the other points predicts those of the largest size, and of the largest compute.

Array names: N points.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from runner.scaling.law import Design, FitProblem, Floats
from runner.scaling.table import FitTable

_MOST_COMPUTE = 0.9  # of the largest: budgets of compute are met to some percent, and belong together


@dataclass(frozen=True)
class Extrapolation:
    """The points of the largest size, or of the largest compute, predicted by a fit of all others.

    `compute` is n_params x n_samples, None where it is the largest size that was held out. Losses are geometric means.
    """

    n_params: float
    predicted: float
    observed: float
    compute: float | None = None

    @property
    def relative_error(self) -> float:
        """(predicted - observed) / observed."""
        return self.predicted / self.observed - 1


def extrapolations(
    table: FitTable, design: Design, y_N: Floats, delta: float
) -> tuple[Extrapolation | None, Extrapolation | None]:
    """The largest size predicted from the others and, where samples are given, the largest compute."""
    x_N = design.logs[0]
    largest_N = x_N == x_N.max()
    by_size = _predicted(design, y_N, largest_N, delta, math.exp(float(x_N.max())))
    if table.n_samples is None:
        return by_size, None
    compute_N = table.n_params * table.n_samples
    most_N = compute_N >= _MOST_COMPUTE * compute_N.max()
    n_params = float(np.exp(np.log(table.n_params[most_N]).mean()))
    found = _predicted(design, y_N, most_N, delta, n_params)
    return by_size, None if found is None else replace(found, compute=float(compute_N.max()))


def _predicted(
    design: Design, y_N: Floats, held_N: npt.NDArray[np.bool_], delta: float, n_params: float
) -> Extrapolation | None:
    rest = design.select(~held_N)
    if len(np.unique(rest.logs[0])) < 4 or len(np.unique(rest.group_N)) < design.n_groups:
        return None
    law = FitProblem(rest, y_N[~held_N], delta).fit()
    held = design.select(held_N)
    predicted_N = law.log_losses(held.logs, held.group_N)
    return Extrapolation(n_params, math.exp(float(predicted_N.mean())), math.exp(float(y_N[held_N].mean())))
