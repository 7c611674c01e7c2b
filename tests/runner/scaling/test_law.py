import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from runner.scaling.law import Design, FitProblem


def design(*variables: np.ndarray, groups: np.ndarray | None = None) -> Design:
    n = len(variables[0])
    return Design(tuple(np.log(v) for v in variables), np.zeros(n, int) if groups is None else groups, np.ones(n))


@settings(max_examples=25, deadline=None)
@given(
    irreducible=st.floats(0.05, 3.0),
    share=st.floats(0.1, 3.0),
    alpha=st.floats(0.08, 1.2),
    smallest=st.floats(1e3, 1e9),
    seed=st.integers(0, 99),
)
def test_exact_points_give_the_law_back_at_any_scale(
    irreducible: float, share: float, alpha: float, smallest: float, seed: int
) -> None:
    n_params = smallest * np.sort(np.random.default_rng(seed).uniform(1, 1e4, 12))
    coefficient = share * irreducible * n_params[0] ** alpha
    law = FitProblem(design(n_params), np.log(irreducible + coefficient * n_params**-alpha), 1e-3).fit()
    assert law.irreducible[0] == pytest.approx(irreducible, rel=0.01)
    assert law.exponent(0) == pytest.approx(alpha, rel=0.01)
    assert law.log_coefficient(0) == pytest.approx(np.log(coefficient), abs=0.05)


def test_two_variables_of_large_scales_and_outliers() -> None:
    random = np.random.default_rng(3)
    compute = 10 ** random.uniform(18.5, 21.5, 240)
    n_params = np.sqrt(compute / 120) * np.exp(random.normal(0, 0.8, 240))
    n_samples = compute / 6 / n_params
    y = np.log(1.82 + 482 * n_params**-0.348 + 2085 * n_samples**-0.366)
    y[:12] += random.uniform(0.1, 0.5, 12)
    law = FitProblem(design(n_params, n_samples), y, 1e-3).fit()
    assert law.irreducible[0] == pytest.approx(1.82, abs=0.01)
    assert law.exponent(0) == pytest.approx(0.348, abs=0.005)
    assert law.exponent(1) == pytest.approx(0.366, abs=0.005)


def test_each_group_has_an_irreducible_loss_of_its_own() -> None:
    n_params = np.tile(np.geomspace(1e5, 1e8, 7), 2)
    groups = np.repeat([0, 1], 7)
    y = np.log(np.where(groups, 0.7, 0.4) + 5 * n_params**-0.3)
    law = FitProblem(design(n_params, groups=groups), y, 1e-3).fit()
    assert law.irreducible == pytest.approx([0.4, 0.7], rel=1e-3)


def test_the_derivatives_are_those_of_the_predicted_losses() -> None:
    random = np.random.default_rng(0)
    one, two = 10 ** random.uniform(6, 9, 20), 10 ** random.uniform(8, 11, 20)
    groups, zeros = random.integers(2, size=20), np.zeros((1, 20))
    for tied, theta in ((False, [-0.3, -0.2, -1.0, 0.4, -1.5, 0.2]), (True, [-0.3, -0.2, -1.0, 0.4, -1.5])):
        points = FitProblem(Design((np.log(one), np.log(two)), groups, np.ones(20), tied), np.zeros(20), 0.2)._points
        at_0, shares = points.residuals(np.array([theta]), zeros)
        moved = (points.residuals(np.array([theta]) + step, zeros)[0] for step in 1e-7 * np.eye(len(theta)))
        numeric = [(one - at_0)[0] / 1e-7 for one in moved]
        np.testing.assert_allclose(points.derivatives(shares)[0], numeric, atol=1e-5)


def test_the_objective_is_the_sum_of_huber_terms() -> None:
    points = design(np.array([1e5, 1e6]))
    problem = FitProblem(points, np.array([0.0, 0.0]), 1e-3)
    nothing_but_e = np.array([0.002, -40.0, 0.5])  # residuals 0.002 each, beyond delta
    assert problem.objective(nothing_but_e) == pytest.approx(2 * 1e-3 * (0.002 - 0.5e-3))


def test_the_descent_finds_what_a_quasi_newton_method_finds_from_a_full_grid_of_starts() -> None:
    random = np.random.default_rng(5)
    n_params = np.repeat(np.geomspace(5e4, 2e7, 8), 2)
    y = np.log(0.5 + 4 * n_params**-0.3) + 0.01 * random.normal(size=16)
    problem = FitProblem(design(n_params), y, 1e-3)
    law = problem.fit()
    starts = itertools.product((-4.0, -1.0, -0.7), (-2.0,), (0.05, 0.3, 1.0, 2.0))
    others = [minimize(problem.objective, start, method="L-BFGS-B", tol=1e-12).fun for start in starts]
    assert law.objective <= min(others) * (1 + 1e-6)
    other = y + 0.01 * random.normal(size=16)
    again = problem.refit(law, np.stack([y, other]))
    assert again[0].objective == pytest.approx(law.objective, rel=1e-4)
    assert again[1].objective == pytest.approx(FitProblem(design(n_params), other, 1e-3).fit().objective, rel=1e-3)
