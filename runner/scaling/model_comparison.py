"""Whether the saturating power law describes the sizes' mean losses better than simpler forms do.

AICc (Hurvich and Tsai 1989) from the Gaussian likelihood of log residuals, or, where there are too few sizes for it,
the error of predicting each size from the others. Rivals of log L: a constant, a line in the logs of the variables,
and, with one variable, a parabola, which shows a turn that no power law has.

Array names: M means (one a combination of size, samples and group), P parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runner.scaling.law import Design, FitProblem, Floats, Ints, Law

POWER_LAW, CONSTANT, LOG_LINEAR, PARABOLA = "power law", "constant", "log-linear", "parabola"
LEAST_SQUARES = 1e3  # a Huber term this wide is a square
MARGIN = 2.0  # AICc differences below it leave the other form 'substantial support' (Burnham and Anderson 2002)
# Ten leave the worse form 'essentially no support' (same place). A parabola imitates a power law well enough to come
# out ahead by chance, so that only this much counts for a turn.
TURN_MARGIN = 10.0
_STRANGE = 5.0  # robust standard deviations from every form
_FLOOR = 1e-18  # of a mean squared log residual: below it lies rounding

Predict = Callable[[Design], Floats]


@dataclass(frozen=True)
class Form:
    """One candidate: `fit` takes points and gives a prediction for any points."""

    name: str
    n_parameters: int
    fit: Callable[[Design, Floats, float], Predict]


@dataclass(frozen=True)
class Comparison:
    """How the candidates fared; smaller scores are better.

    Attributes:
        method: ``aicc`` or ``leave-one-size-out`` (root mean squared error of the log loss).
        scores: by form.
        n_means: how many means were compared.
        set_aside: means that no form explains and that therefore decided nothing.
        turns: whether the parabola has its extremum inside the range of sizes.
        noise: unbiased variance of a mean's log residual, from one form whatever the scores (the parabola, with two
            variables the power law): the smallest of several would be too small. And its degrees of freedom.
    """

    method: str
    scores: dict[str, float]
    n_means: int
    set_aside: int
    turns: bool
    noise: tuple[float, int]

    def prefers(self, name: str, other: str, margin: float = MARGIN) -> bool:
        """Whether one form is better than another, by AICc by a margin."""
        if self.method == "aicc":
            return self.scores[other] - self.scores[name] >= margin
        return self.scores[name] < self.scores[other]

    @property
    def prefers_turn(self) -> bool:
        """Whether a parabola with its extremum among the sizes leaves no support to any form without one."""
        others = [name for name in self.scores if name != PARABOLA]
        return self.turns and PARABOLA in self.scores and all(self.prefers(PARABOLA, o, TURN_MARGIN) for o in others)


def cell_of(design: Design) -> Ints:
    """The cell (equal variables and group) of each point, from 0."""
    keys = np.column_stack([*design.logs, design.group_N])
    inverse: Ints = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return inverse


def means(design: Design, log_loss_N: Floats) -> tuple[Design, Floats]:
    """Weighted mean log loss of each cell, weighted by its points."""
    cell_N = cell_of(design)
    weight_M = np.bincount(cell_N, weights=design.weight_N).astype(np.float64)
    first_M = np.unique(cell_N, return_index=True)[1]
    mean_M = np.bincount(cell_N, weights=design.weight_N * log_loss_N) / weight_M
    logs = tuple(log_N[first_M] for log_N in design.logs)
    return Design(logs, design.group_N[first_M], weight_M, design.tied), mean_M


def compare(design: Design, log_loss_N: Floats, delta: float) -> Comparison:
    """Compare all forms on the means of the cells."""
    at, y_M = means(design, log_loss_N)
    forms = _forms(at)
    robust = [y_M - form.fit(at, y_M, delta)(at) for form in forms]
    strange_M = np.all([np.abs(r) > _STRANGE * max(_robust_deviation(r), delta) for r in robust], axis=0)
    if strange_M.sum() <= 0.2 * len(y_M):
        at, y_M = at.select(~strange_M), y_M[~strange_M]
    else:
        strange_M = np.zeros_like(strange_M)
    sizes = len(np.unique(at.logs[0]))
    fitted = {form.name: form.fit(at, y_M, LEAST_SQUARES)(at) for form in forms if form.n_parameters < len(y_M)}
    squares = {name: float(at.weight_N @ (y_M - values) ** 2) for name, values in fitted.items()}
    law = next(form for form in forms if form.name == POWER_LAW)
    if len(y_M) >= law.n_parameters + 1 + 3:  # the variance is a parameter, too
        method = "aicc"
        usable = [form for form in forms if len(y_M) >= form.n_parameters + 4]
        scores = {form.name: _aicc(squares[form.name], len(y_M), form.n_parameters) for form in usable}
    else:
        method = "leave-one-size-out"
        left_out = {form.name: _left_out(form, at, y_M) for form in forms if sizes > 3}
        scores = {name: error for name, error in left_out.items() if math.isfinite(error)}
    turns = len(design.logs) == 1 and sizes >= 5 and _turns(at, y_M)
    freedom = {form.name: len(y_M) - form.n_parameters for form in forms}
    smooth = POWER_LAW if len(design.logs) > 1 else PARABOLA
    name = smooth if smooth in squares else LOG_LINEAR
    noise = (max(squares[name] / freedom[name], _FLOOR), freedom[name]) if name in squares else (math.inf, 0)
    return Comparison(method, scores, len(y_M), int(strange_M.sum()), turns, noise)


def _forms(design: Design) -> list[Form]:
    groups, terms = design.n_groups, len(design.logs)
    forms = [
        Form(POWER_LAW, design.n_parameters, _fit_law),
        Form(CONSTANT, groups, _linear(lambda d: [])),
        Form(LOG_LINEAR, groups + terms, _linear(lambda d: list(d.logs))),
    ]
    if terms == 1:
        forms.append(Form(PARABOLA, groups + 2, _linear(lambda d: [d.logs[0], d.logs[0] ** 2])))
    return forms


def _fit_law(design: Design, y_M: Floats, delta: float) -> Predict:
    law: Law = FitProblem(design, y_M, delta).fit()
    return lambda points: law.log_losses(points.logs, points.group_N)


def _linear(columns: Callable[[Design], list[Floats]]) -> Callable[[Design, Floats, float], Predict]:
    """Least squares of a form that is linear in its parameters; reweighted (Huber) for a narrow `delta`."""

    def fit(design: Design, y_M: Floats, delta: float) -> Predict:
        groups, centre = design.n_groups, [float(c.mean()) for c in columns(design)]

        def matrix(points: Design) -> Floats:
            shifted = [c - m for c, m in zip(columns(points), centre, strict=True)]
            return np.column_stack([np.eye(groups)[points.group_N], *shifted])

        root_M = np.sqrt(design.weight_N)
        coefficients_P = np.linalg.lstsq(matrix(design) * root_M[:, None], y_M * root_M)[0]
        for _ in range(0 if delta >= LEAST_SQUARES else 30):
            size_M = np.abs(y_M - matrix(design) @ coefficients_P)
            width = max(delta, 1.345 * _robust_deviation(size_M))  # Huber 1964: 95 % efficient
            again_M = root_M * np.sqrt(np.minimum(1.0, width / np.maximum(size_M, 1e-300)))
            coefficients_P = np.linalg.lstsq(matrix(design) * again_M[:, None], y_M * again_M)[0]
        return lambda points: np.asarray(matrix(points) @ coefficients_P, dtype=np.float64)

    return fit


def _robust_deviation(residual: Floats) -> float:
    return 1.4826 * float(np.median(np.abs(residual)))


def _aicc(squares: float, n: int, parameters: int) -> float:
    k = parameters + 1
    return n * math.log(max(squares / n, _FLOOR)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _left_out(form: Form, design: Design, y_M: Floats) -> float:
    errors = [math.inf] if form.n_parameters >= len(y_M) else []
    for size in np.unique(design.logs[0]):
        keep_M = design.logs[0] != size
        if len(np.unique(design.group_N[keep_M])) < design.n_groups:
            continue  # a group of one size cannot be predicted from the others
        predicted = form.fit(design.select(keep_M), y_M[keep_M], LEAST_SQUARES)(design.select(~keep_M))
        errors += list((predicted - y_M[~keep_M]) ** 2)
    return math.sqrt(float(np.mean(errors))) if errors else math.inf


def _turns(design: Design, y_M: Floats) -> bool:
    """Whether the extremum of the parabola lies inside the sizes."""
    x_M = design.logs[0] - design.logs[0].mean()
    root_M = np.sqrt(design.weight_N)
    columns = np.column_stack([np.eye(design.n_groups)[design.group_N], x_M, x_M**2]) * root_M[:, None]
    found = np.linalg.lstsq(columns, y_M * root_M)[0]
    slope, curvature = float(found[-2]), float(found[-1])
    return bool(x_M.min() < -slope / (2 * curvature) < x_M.max()) if curvature else False
