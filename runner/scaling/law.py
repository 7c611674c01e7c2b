"""The saturating power law and its robust fit.

Hoffmann et al. 2022, 'Training Compute-Optimal Large Language Models', approach 3.

L = E_g + sum_j A_j / V_j^alpha_j, with V the number of parameters and, where it varies, of samples; g is the group.
Fitted is the sum of Huber terms (delta 1e-3) of residuals of the log loss, where log L is a log-sum-exp of
e_g = log E_g and a_j - alpha_j x_j. Here x_j is log V_j less its mean: the term's height and its slope are then nearly
independent, which spares a descent the long curved valley of the uncentred parametrisation and frees the fit of units.

Array names: N points, P parameters (e of each group, then a and alpha of each term).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runner.scaling.descent import Floats as Floats
from runner.scaling.descent import Ints as Ints
from runner.scaling.descent import Points, descend

DELTA = 1e-3  # Hoffmann et al. 2022, appendix D.3
MAX_EXPONENT = 4.0
# The grid of starts: exponents here, and for each the best E and A by non-negative least squares of relative errors.
# So starts fit any unit and any range of sizes, which a fixed grid of log A and log E does not.
START_EXPONENTS = (0.03, 0.1, 0.2, 0.35, 0.5, 0.75, 1.1, 1.7, 2.5)
FEW_EXPONENTS = (0.1, 0.35, 1.1)  # in addition to the fit that a resample was drawn about
_KEPT_STARTS = 6
_ALL_SQUARES = 100.0  # a width beyond every residual: a wider one is the same problem
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
        self.centres = design.centres
        self._y_N = log_loss_N
        low, high = float(log_loss_N.min()) - _LOWEST, float(log_loss_N.max()) + 1.0
        bounds = [(low, high)] * design.n_groups + [(low, high), (0.0, MAX_EXPONENT)] * len(design.logs)
        self._first_F = np.unique(design.places_P, return_index=True)[1]  # of the free ones among a law's numbers
        low_F, high_F = np.array(bounds)[self._first_F].T
        x = tuple(log_N - centre for log_N, centre in zip(design.logs, self.centres, strict=True))
        self._points = Points(x, design.group_N, design.weight_N, design.places_P, low_F, high_F)

    def objective(self, theta_P: Floats) -> float:
        """The sum of weighted Huber terms."""
        return float(self._objectives(theta_P[None], self._y_N[None])[0])

    def fit(self) -> Law:
        """The best of several descents, from the best of the grid of starts.

        The width of the Huber terms shrinks in steps: at 1e-3 the objective is nearly a sum of absolute values, whose
        kinks can stop a descent early.
        """
        starts_RP = self._best_starts(START_EXPONENTS, self._y_N)[:_KEPT_STARTS]
        y_RN = np.broadcast_to(self._y_N, (len(starts_RP), len(self._y_N)))
        widths = [width for width in (100 * self.delta, 10 * self.delta) if width < _ALL_SQUARES]
        found_RP = self.descend(starts_RP, y_RN, (*widths, self.delta))
        value_R = self._objectives(found_RP, y_RN)
        return self._law(found_RP[value_R.argmin()], value_R.min())

    def refit(self, near: Law, log_loss_RN: Floats) -> list[Law]:
        """The laws of resamples of the losses, each from the fit they were drawn about and from a start of its own.

        A resample needs no digits beyond its noise, and where nothing is identified they would take most of the time:
        of two coarse descents the better is followed further.
        """
        own_RP = np.stack([self._best_starts(FEW_EXPONENTS, y_N)[0] for y_N in log_loss_RN])
        near_RP = np.tile(near.theta_P, (len(own_RP), 1))
        coarse = [self.descend(one, log_loss_RN, (10 * self.delta,), 60, 1e-5) for one in (near_RP, own_RP)]
        value_1R, value_2R = (self._objectives(one, log_loss_RN) for one in coarse)
        best_RP = np.where((value_1R <= value_2R)[:, None], *coarse)
        best_RP = self.descend(best_RP, log_loss_RN, (self.delta,), 150, 1e-8)
        return [self._law(*one) for one in zip(best_RP, self._objectives(best_RP, log_loss_RN), strict=True)]

    def descend(
        self, theta_RP: Floats, log_loss_RN: Floats, widths: tuple[float, ...], steps: int = 400, gain: float = 1e-10
    ) -> Floats:
        """From several starts, each with losses of its own, by Huber terms of one width after the other."""
        free_RF = theta_RP[:, self._first_F]
        for width in widths:
            free_RF = descend(self._points, free_RF, log_loss_RN, width, steps=steps, gain=gain)
        return free_RF[:, self.design.places_P]

    def condition(self, law: Law) -> float:
        """Condition number of the predicted log losses' derivatives by the free parameters; infinite where one is idle.

        So many times the best known combination of parameters is known better than the worst.
        """
        _, share_J1N = self._points.residuals(law.theta_P[None, self._first_F], self._y_N[None])
        free_NF = (self._points.derivatives(share_J1N)[0] * np.sqrt(self.design.weight_N)).T
        if len(free_NF) < free_NF.shape[1]:  # one row has one singular value
            return math.inf
        largest, *_, smallest = np.linalg.svd(free_NF, compute_uv=False)
        return float(largest / smallest) if smallest > 1e-12 * largest else math.inf

    def _law(self, theta_P: Floats, objective: float) -> Law:
        return Law(theta_P, self.centres, self.design.n_groups, float(objective))

    def _objectives(self, theta_RP: Floats, log_loss_RN: Floats) -> Floats:
        residual_RN, _ = self._points.residuals(theta_RP[:, self._first_F], log_loss_RN)
        return self._points.values(residual_RN, self.delta)

    def _best_starts(self, exponents: tuple[float, ...], log_loss_N: Floats) -> Floats:
        """For each combination of exponents the non-negative parts of least squared relative error, best first."""
        from scipy.optimize import nnls  # here: a quarter of a second, and a plan needs this room's limits alone

        design, groups = self.design, self.design.n_groups
        loss_N = np.exp(log_loss_N)
        root_N = np.sqrt(design.weight_N) / loss_N
        indicator_NG = np.eye(groups)[design.group_N]
        powers = [np.exp(-np.outer(exponents, x_N)) for x_N in self._points.x]
        floor = math.log(float(loss_N.min())) - 4.0  # lower, and the gradient could not bring a part back
        starts = []
        for chosen in itertools.product(range(len(exponents)), repeat=len(powers)):
            if design.tied and len(set(chosen)) > 1:
                continue
            columns = [power[index] for power, index in zip(powers, chosen, strict=True)]
            matrix_NP = np.column_stack([indicator_NG, *columns]) * root_N[:, None]
            parts_P, _ = nnls(matrix_NP, loss_N * root_N, maxiter=50 * matrix_NP.shape[1])
            logs_P = np.log(np.maximum(parts_P, math.exp(floor)))
            slopes = [exponents[index] for index in chosen]
            tail = [value for pair in zip(logs_P[groups:], slopes, strict=True) for value in pair]
            starts.append(np.array([*logs_P[:groups], *tail]))
        starts_RP = np.stack(starts)
        value_R = self._objectives(starts_RP, np.broadcast_to(log_loss_N, (len(starts_RP), len(log_loss_N))))
        return starts_RP[np.argsort(value_R, kind="stable")]
