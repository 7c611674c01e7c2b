"""The saturating power law and its robust fit.

Hoffmann et al. 2022, 'Training Compute-Optimal Large Language Models', approach 3.

L = E_g + sum_j A_j / V_j^alpha_j, with V the number of parameters and, where it varies, of samples; g is the group.
Fitted is the sum of Huber terms (delta 1e-3) of residuals of the log loss, where log L is a log-sum-exp of
e_g = log E_g and a_j - alpha_j x_j. Here x_j is log V_j less its mean: the term's height and its slope are then nearly
independent, which spares L-BFGS the long curved valley of the uncentred parametrisation and frees the fit of units.

Array names: N points, P parameters (e of each group, then a and alpha of each term).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DELTA = 1e-3  # Hoffmann et al. 2022, appendix D.3
MAX_EXPONENT = 4.0
# The grid of starts: exponents here, and for each the best E and A by non-negative least squares of relative errors.
# So starts fit any unit and any range of sizes, which a fixed grid of log A and log E does not.
START_EXPONENTS = (0.03, 0.1, 0.2, 0.35, 0.5, 0.75, 1.1, 1.7, 2.5)
FEW_EXPONENTS = (0.1, 0.35, 1.1)  # in addition to the fit that a resample was drawn about
_KEPT_STARTS = 6
_LOWEST = 12.0  # a part this many nats of log below the smallest loss is zero: 6e-6 of it


@dataclass(frozen=True)
class Design:
    """Everything about the points but their losses.

    Attributes:
        logs: log of each variable, one array [N] a term.
        group_N: group of each point, from 0.
        weight_N: weight of each point's Huber term.
        tied: all terms share one exponent (alpha = beta).
    """

    logs: tuple[Floats, ...]
    group_N: Ints
    weight_N: Floats
    tied: bool = False

    @property
    def n_groups(self) -> int:
        """How many groups have an E of their own."""
        return int(self.group_N.max()) + 1 if len(self.group_N) else 1

    @property
    def n_parameters(self) -> int:
        """Parameters of the law."""
        return int(self.places_P.max()) + 1

    @property
    def places_P(self) -> Ints:  # noqa: N802
        """Where each of a law's numbers (`Law.theta_P`) is among its free parameters: tied exponents have one place."""
        g, terms = self.n_groups, len(self.logs)
        if self.tied:
            pairs = [(g if term == 0 else g + 1 + term, g + 1) for term in range(terms)]
            return np.array([*range(g), *itertools.chain(*pairs)])
        return np.arange(g + 2 * terms)

    @property
    def centres(self) -> tuple[float, ...]:
        """Mean of each variable's log."""
        return tuple(float(log_N.mean()) for log_N in self.logs)

    def select(self, keep_N: npt.NDArray[np.bool_]) -> "Design":
        """Some of the points."""
        return Design(
            tuple(log_N[keep_N] for log_N in self.logs), self.group_N[keep_N], self.weight_N[keep_N], self.tied
        )


@dataclass(frozen=True)
class Law:
    """A fitted law. `theta_P` holds e of each group, then height and exponent of each term, about `centres`."""

    theta_P: Floats
    centres: tuple[float, ...]
    n_groups: int
    objective: float

    @property
    def irreducible(self) -> Floats:
        """E of each group; 0 where the fit gives it no share."""
        return np.exp(self.theta_P[: self.n_groups])

    def exponent(self, term: int) -> float:
        """alpha of a term."""
        return float(self.theta_P[self.n_groups + 2 * term + 1])

    def log_coefficient(self, term: int) -> float:
        """log A of a term; A itself can exceed what a float holds."""
        return float(self.theta_P[self.n_groups + 2 * term]) + self.exponent(term) * self.centres[term]

    def log_losses(self, logs: tuple[Floats, ...], group_N: Ints) -> Floats:
        """Predicted log losses at the given logs of the variables."""
        parts = [self.theta_P[: self.n_groups][group_N]]
        for term, log_N in enumerate(logs):
            height = self.theta_P[self.n_groups + 2 * term]
            parts.append(height - self.exponent(term) * (log_N - self.centres[term]))
        sums: Floats = np.logaddexp.reduce(np.stack(parts), axis=0)
        return sums


class FitProblem:
    """One design with its losses, ready to be fitted."""

    def __init__(self, design: Design, log_loss_N: Floats, delta: float) -> None:
        self.design = design
        self.delta = delta
        self._y_N = log_loss_N
        self.centres = design.centres
        self._x = tuple(log_N - centre for log_N, centre in zip(design.logs, self.centres, strict=True))
        self._scale = delta * float(design.weight_N.sum())
        low, high = float(log_loss_N.min()) - _LOWEST, float(log_loss_N.max()) + 1.0
        bounds = [(low, high)] * design.n_groups + [(low, high), (0.0, MAX_EXPONENT)] * len(design.logs)
        self._places_P = design.places_P
        self._first_P = np.unique(self._places_P, return_index=True)[
            1
        ]  # of the free parameters among the law's numbers
        self._bounds = [bounds[first] for first in self._first_P]

    def objective(self, theta_P: Floats) -> float:
        """The sum of weighted Huber terms."""
        return self._value(theta_P, self.delta)[0]

    def fit(self) -> Law:
        """The best of several descents, from the best of the grid of starts.

        The width of the Huber terms shrinks in steps: at 1e-3 the objective is nearly a sum of absolute values, whose
        kinks can stop a descent early.
        """
        starts = sorted(self._starts(START_EXPONENTS), key=self.objective)[:_KEPT_STARTS]
        widths = (100 * self.delta, 10 * self.delta, self.delta)
        best = min((self._descend(start, widths) for start in starts), key=self.objective)
        best = min((best, self._descend(best, (self.delta,)), self._descend(best, widths[1:])), key=self.objective)
        return self._law(best)

    def refit(self, near_P: Floats) -> Law:
        """The fit of a resample, from the fit that it was drawn about and from one start of its own.

        A resample needs no digits beyond its noise, and where nothing is identified they would take most of the time:
        of two coarse descents the better is followed further.
        """
        start_P = min(self._starts(FEW_EXPONENTS), key=self.objective)
        coarse = [self._descend(start, (10 * self.delta,), iterations=150, gain=1e-8) for start in (near_P, start_P)]
        best = min(coarse, key=self.objective)
        return self._law(self._descend(best, (self.delta,), iterations=150, gain=1e-11))

    def _law(self, theta_P: Floats) -> Law:
        return Law(theta_P, self.centres, self.design.n_groups, self.objective(theta_P))

    def _descend(
        self, theta_P: Floats, widths: tuple[float, ...], *, iterations: int = 400, gain: float = 1e-13
    ) -> Floats:
        from scipy.optimize import minimize  # here: a quarter of a second, and a plan needs this room's limits alone

        for width in widths:
            found = minimize(
                self._scaled,
                theta_P[self._first_P],
                args=(width,),
                jac=True,
                method="L-BFGS-B",
                bounds=self._bounds,
                options={"maxiter": iterations, "ftol": gain, "gtol": 1e-9, "maxcor": 20},
            )
            theta_P = np.asarray(found.x, dtype=np.float64)[self._places_P]
        return theta_P

    def _scaled(self, free_P: Floats, width: float) -> tuple[float, Floats]:
        value, gradient_P = self._value(free_P[self._places_P], width)
        scale = self._scale * width / self.delta
        return value / scale, np.bincount(self._places_P, weights=gradient_P) / scale

    def condition(self, law: Law) -> float:
        """Condition number of the predicted log losses' derivatives by the free parameters; infinite where one is idle.

        So many times the best known combination of parameters is known better than the worst.
        """
        parts_JN = np.stack([law.theta_P[: law.n_groups][self.design.group_N], *self._heights(law.theta_P)])
        share_JN = np.exp(parts_JN - np.logaddexp.reduce(parts_JN, axis=0))
        columns = [*(share_JN[0] * np.eye(law.n_groups)[self.design.group_N].T)]
        for term, x_N in enumerate(self._x):
            columns += [share_JN[term + 1], -share_JN[term + 1] * x_N]
        full_NP = np.column_stack(columns) * np.sqrt(self.design.weight_N)[:, None]
        free_NP = np.stack([full_NP[:, self._places_P == place].sum(axis=1) for place in np.unique(self._places_P)], 1)
        largest, *_, smallest = np.linalg.svd(free_NP, compute_uv=False)
        return (
            float(largest / smallest) if smallest > 1e-12 * largest and len(free_NP) >= free_NP.shape[1] else math.inf
        )

    def _heights(self, theta_P: Floats) -> list[Floats]:
        """The logs of the terms at each point."""
        groups = self.design.n_groups
        return [theta_P[groups + 2 * j] - theta_P[groups + 2 * j + 1] * x_N for j, x_N in enumerate(self._x)]

    def _value(self, theta_P: Floats, width: float) -> tuple[float, Floats]:
        """Sum of Huber terms of a width, and its gradient."""
        design, groups = self.design, self.design.n_groups
        parts_JN = np.stack([theta_P[:groups][design.group_N], *self._heights(theta_P)])
        top_N = parts_JN.max(axis=0)
        parts_JN -= top_N
        np.exp(parts_JN, out=parts_JN)
        sum_N = parts_JN.sum(axis=0)
        residual_N = top_N + np.log(sum_N) - self._y_N
        clipped_N = np.clip(residual_N, -width, width)
        slope_N = design.weight_N * clipped_N
        value = float(slope_N @ (residual_N - 0.5 * clipped_N))
        parts_JN *= slope_N / sum_N
        gradient_P = np.empty_like(theta_P)
        gradient_P[:groups] = np.bincount(design.group_N, weights=parts_JN[0], minlength=groups)
        for term, x_N in enumerate(self._x):
            at = groups + 2 * term
            gradient_P[at] = parts_JN[term + 1].sum()
            gradient_P[at + 1] = -(parts_JN[term + 1] @ x_N)
        return value, gradient_P

    def _starts(self, exponents: tuple[float, ...]) -> list[Floats]:
        """For each combination of exponents the non-negative parts with the least squared relative error."""
        design, groups = self.design, self.design.n_groups
        loss_N = np.exp(self._y_N)
        from scipy.optimize import nnls

        root_N = np.sqrt(design.weight_N) / loss_N
        indicator_NG = np.eye(groups)[design.group_N]
        powers = [np.exp(-np.outer(exponents, x_N)) for x_N in self._x]
        floor = math.log(float(loss_N.min())) - 4.0  # lower, and the gradient could not bring a part back
        starts = []
        for chosen in itertools.product(range(len(exponents)), repeat=len(self._x)):
            if design.tied and len(set(chosen)) > 1:
                continue
            columns = [power[index] for power, index in zip(powers, chosen, strict=True)]
            matrix_NP = np.column_stack([indicator_NG, *columns]) * root_N[:, None]
            parts_P, _ = nnls(matrix_NP, loss_N * root_N, maxiter=50 * matrix_NP.shape[1])
            logs_P = np.log(np.maximum(parts_P, math.exp(floor)))
            slopes = [exponents[index] for index in chosen]
            tail = [value for pair in zip(logs_P[groups:], slopes, strict=True) for value in pair]
            starts.append(np.array([*logs_P[:groups], *tail]))
        return starts
