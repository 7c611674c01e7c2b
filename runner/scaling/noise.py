"""What is known of the noise of log losses, and the intervals that follow from it.

Two kinds of noise make the intervals. What all points share (the period that they are judged on) is taken from
resamples of it, if there are any. What each point has of its own is taken from replicates: points of equal size,
samples and group, such as seeds. Without replicates a bare table's noise is the scatter about a smooth curve, which a
sweep's report does not accept (`Noise.known`). Degrees of freedom of a sum of both follow Satterthwaite (1946).

Array names: N points, C cells, K contrasts, R resamples.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from runner.scaling.law import Design, Floats
from runner.scaling.model_comparison import Comparison, cell_of

LEVEL = 0.05
NO_SEEDS = (
    "none: most sizes have fewer than 2 seeds, so that the noise between seeds is unknown; train at least 2 of each "
    "(grid.seed: [0, 1])"
)


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of the log losses: variances of each point's own part, and resamples [R, N] of what the points share.

    `method` says in words what it was taken from; `replicated`: the own part is known from replicates.
    """

    method: str
    own_N: Floats | None = None
    freedom: int = 0
    shared_RN: Floats | None = None
    replicated: bool = False

    @property
    def known(self) -> bool:
        """Whether there are intervals at all."""
        return self.own_N is not None

    def half_widths(self, contrasts_KN: Floats, level: float = LEVEL) -> Floats:
        """Half widths [K, K] of the two-sided intervals of all differences between contrasts."""
        total_KK, freedom_KK = self._variances(contrasts_KN)
        # Student's t; scipy.stats has the same functions, and takes a second to import
        return np.asarray(stdtrit(freedom_KK, 1 - level / 2) * np.sqrt(total_KK), dtype=np.float64)

    def p_value(self, contrast_N: Floats, value: float) -> float:
        """Probability of a contrast at least this far from 0, on either side, where there is no change."""
        total_KK, freedom_KK = self._variances(np.stack([contrast_N, np.zeros_like(contrast_N)]))
        return float(2 * stdtr(freedom_KK[0, 1], -abs(value) / math.sqrt(max(total_KK[0, 1], 1e-300))))

    def _variances(self, contrasts_KN: Floats) -> tuple[Floats, Floats]:
        """Variances [K, K] of the differences between contrasts, and their degrees of freedom."""
        assert self.own_N is not None
        own_KK = _of_differences((contrasts_KN * self.own_N) @ contrasts_KN.T)
        total_KK = own_KK.copy()
        if self.shared_RN is not None and len(self.shared_RN) > 1:
            drawn_RK = self.shared_RN @ contrasts_KN.T
            centred_RK = drawn_RK - drawn_RK.mean(axis=0)
            total_KK += _of_differences(centred_RK.T @ centred_RK / (len(drawn_RK) - 1))
        ratio_KK = total_KK / np.maximum(own_KK, np.maximum(1e-4 * total_KK, 1e-300))
        return total_KK, self.freedom * np.maximum(ratio_KK, 1.0) ** 2

    def half_width(self, contrast_N: Floats) -> float:
        """Half width of one contrast's 95 % interval."""
        return float(self.half_widths(np.stack([contrast_N, np.zeros_like(contrast_N)]))[0, 1])


def _of_differences(covariance_KK: Floats) -> Floats:
    variance_K = np.diag(covariance_KK)
    differences_KK: Floats = np.maximum(variance_K[:, None] + variance_K[None, :] - 2 * covariance_KK, 0.0)
    return differences_KK


def noise_of(
    design: Design,
    log_loss_N: Floats,
    comparison: Comparison | None,
    shared_RN: Floats | None,
    shared: str = "blocks of the period",
) -> Noise:
    """The noise of a table, or of a sweep (`shared_RN`). Without a `comparison` of forms only replicates will do.

    A cell's variance is the larger of its own and the one pooled over all cells: sizes differ in their noise, and a few
    seeds do not show by how much.
    """
    cell_N = cell_of(design)
    count_C = np.bincount(cell_N)
    if 2 * int((count_C > 1).sum()) > len(count_C):
        weight_N = design.weight_N
        mean_C = np.bincount(cell_N, weights=weight_N * log_loss_N) / np.bincount(cell_N, weights=weight_N)
        squares_C = np.bincount(cell_N, weights=weight_N * (log_loss_N - mean_C[cell_N]) ** 2)
        freedom = int((count_C - 1).sum())
        variance_C = np.maximum(squares_C / np.maximum(count_C - 1, 1), squares_C.sum() / freedom)
        shown = "the spread between seeds" if comparison is None else "the spread between rows of equal size"
        if shared_RN is not None:
            shown = f"{len(shared_RN):,} resamples of {shared}, and {shown}"
        return Noise(shown, variance_C[cell_N] / weight_N, freedom, shared_RN, replicated=True)
    if comparison is None:
        return Noise(NO_SEEDS)
    variance, freedom = comparison.noise
    if not math.isfinite(variance):
        return Noise("none: too few points to tell noise from change")
    shown = "the scatter about a smooth curve, as most sizes have a single row"
    if shared_RN is not None:
        shown = f"{len(shared_RN):,} resamples of {shared}, and {shown}"
    return Noise(shown, variance / design.weight_N, freedom, shared_RN)
