"""What a grid of sizes and seeds can detect, before it has run: the smallest change that would get a direction.

The rule that decides (`runner.scaling.direction`, on validation and on test) is repeated on noise alone: sampling of
the period that trials are judged on, and the spread between seeds. For each draw there is one change of the loss from
which the rule would have named its direction; the share of draws below a change is its power, and a quantile of them
the smallest change that is detected with that probability. For known noise this is 2.8 sqrt(SE^2 + 2 sigma^2 / m), the
sum of the normal quantiles of .975 and .8; few seeds and two splits that must agree ask for more.

Array names: R draws, S sizes, M seeds of a size, J splits.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from runner.scaling.direction import FALLS, FLAT, FLAT_SHARE, UNKNOWN
from runner.scaling.law import Floats
from runner.scaling.noise import LEVEL
from runner.scaling.verdict import MIN_SEEDS, MIN_SIZES

PROBABILITY = 0.8  # of detecting the smallest change; Cohen 1988
COMMON = 0.5  # share of the seeds' variance that a trial's validation and test losses have in common
MOST = 64  # times what the grid has; more is no advice
_DRAWS = 4000  # a probability is then known to within a point
_POSSIBLE = 0.05  # a verdict that comes out less often than this by luck cannot be counted on


@dataclass(frozen=True)
class Grid:
    """One series of a grid, with its noise as shares of the loss (deviations of the log loss).

    Attributes:
        sizes: distinct ones.
        seeds: of each size, and of each fold.
        blocks: deviation of the difference of two sizes by the sampling of the period, on validation.
        spread: deviation between seeds of one size.
        test_windows: windows of test as a share of those of validation.
        folds: periods that the grid is judged on, each with trials of its own.
    """

    sizes: int
    seeds: int
    blocks: float
    spread: float
    test_windows: float = 1.0
    folds: int = 1

    @cached_property
    def _drawn(self) -> tuple[Floats, Floats]:
        """Of each draw: the change that would have been named, and the widest pair with its interval, at no change."""
        random = np.random.default_rng(0)
        r, s, m, k = _DRAWS, self.sizes, self.seeds, self.folds
        common_RKSM = random.normal(size=(r, k, s, m)) * np.sqrt(COMMON)
        needed_R, widest_R = np.zeros(r), np.zeros(r)
        for windows in (1.0, self.test_windows):
            own_RKSM = self.spread * (common_RKSM + random.normal(size=(r, k, s, m)) * np.sqrt(1 - COMMON))
            variance_RKS = own_RKSM.var(axis=3, ddof=1)
            variance_RKS = np.maximum(variance_RKS, variance_RKS.mean(axis=(1, 2), keepdims=True))
            block = self.blocks / np.sqrt(windows * k)
            level_RS = own_RKSM.mean(axis=(1, 3)) + block / np.sqrt(2) * random.normal(size=(r, s))
            seed_RS = variance_RKS.sum(axis=1) / (m * k**2)  # of a size's mean over seeds and folds
            freedom = s * k * (m - 1)

            def half(own_R: Floats, block: float = block, freedom: int = freedom) -> Floats:
                total_R = own_R + block**2
                freedom_R = freedom * (total_R / np.maximum(own_R, 1e-4 * total_R)) ** 2
                quantile_R = np.asarray(stdtrit(freedom_R, 1 - LEVEL / 2), dtype=np.float64)
                found_R: Floats = quantile_R * np.sqrt(total_R)
                return found_R

            ends_R = half(seed_RS[:, 0] + seed_RS[:, -1])
            needed_R = np.maximum(needed_R, level_RS[:, -1] - level_RS[:, 0] + ends_R)
            first, last = level_RS.argmin(axis=1), level_RS.argmax(axis=1)
            rows = np.arange(r)
            between_R = half(seed_RS[rows, first] + seed_RS[rows, last])
            widest_R = np.maximum(widest_R, level_RS[rows, last] - level_RS[rows, first] + between_R)
        return needed_R, widest_R

    @property
    def decides(self) -> bool:
        """Whether there are the seeds and sizes that any direction needs."""
        return self.sizes > 1 and self.seeds >= MIN_SEEDS

    def power(self, change: float) -> float:
        """Probability that a fall of the log loss of this much from the smallest to the largest size is named."""
        return float(np.mean(self._drawn[0] <= abs(change))) if self.decides else 0.0

    def detectable(self, probability: float = PROBABILITY) -> float | None:
        """The smallest such fall that is named with a probability; None where none ever is."""
        return float(np.quantile(self._drawn[0], probability)) if self.decides else None

    def flat(self) -> float:
        """Probability of 'flat' where the loss is the same at every size."""
        return float(np.mean(self._drawn[1] <= FLAT_SHARE)) if self.decides else 0.0

    def possible(self) -> tuple[str, ...]:
        """Verdicts on the change that can come out, as far as noise and numbers of sizes and seeds allow."""
        if not self.decides:
            return (UNKNOWN,)
        law = ("power law",) if self.sizes >= MIN_SIZES else ()
        return (FALLS, "rises", *law, *((FLAT,) if self.flat() >= _POSSIBLE else ()), UNKNOWN)

    def seeds_for(self, change: float = FLAT_SHARE) -> int | None:
        """Seeds of each size that detect a change; None where no number of them does."""
        return self._least("seeds", change, MIN_SEEDS)

    def folds_for(self, change: float = FLAT_SHARE) -> int | None:
        """Periods of this length, each with trials of its own, that detect a change; None beyond `MOST`."""
        return self._least("folds", change, 1)

    def windows_for(self, change: float = FLAT_SHARE) -> float | None:
        """Times as many windows, over as much more time, that detect a change with these seeds; None beyond `MOST`."""
        for factor in np.geomspace(1, MOST, 25):
            if (replace(self, blocks=self.blocks / np.sqrt(factor)).detectable() or np.inf) <= change:
                return float(factor)
        return None

    def _least(self, name: str, change: float, first: int) -> int | None:
        tried = sorted({first, *(round(n) for n in np.geomspace(first, MOST, 20))})
        for n in tried:
            if (replace(self, **{name: n}).detectable() or np.inf) <= change:
                return int(n)
        return None
