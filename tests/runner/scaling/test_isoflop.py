"""Iso-FLOP valleys and their frontier, on a planted law of size and data."""

import numpy as np
import pytest

from runner.scaling.isoflop import IsoFlop, Point, fit

BUDGETS = (1e14, 1e15, 1e16, 1e17)
ALPHA, BETA = 0.34, 0.28  # Hoffmann et al. 2022: N_opt ~ C ** (beta / (alpha + beta))


def optimum(compute: float) -> float:
    sizes = np.geomspace(1e3, 1e12, 100_001)
    return float(sizes[np.argmin(law(sizes, compute))])


def law(size: np.ndarray, compute: float) -> np.ndarray:
    return 1.7 + 400 / size**ALPHA + 410 / (compute / (6 * size)) ** BETA


def points(noise: float = 0.0, seed: int = 0, reach: float = 4.0, budgets: tuple[float, ...] = BUDGETS) -> list[Point]:
    rng = np.random.default_rng(seed)
    found = []
    for compute in budgets:
        sizes = optimum(compute) * np.geomspace(1 / reach, reach, 7)
        losses = law(sizes, compute) * np.exp(noise * rng.normal(size=7))
        found += [Point(compute, float(size), float(loss)) for size, loss in zip(sizes, losses, strict=True)]
    return found


def test_a_planted_frontier_is_found() -> None:
    found = fit(points())
    assert [valley.compute for valley in found.valleys] == list(BUDGETS)
    for valley in found.valleys:
        assert valley.optimum == pytest.approx(optimum(valley.compute), rel=0.1)
        assert valley.loss == pytest.approx(float(law(np.array(valley.optimum), valley.compute)), rel=0.005)
    assert found.frontier is not None
    assert found.frontier.exponent == pytest.approx(BETA / (ALPHA + BETA), abs=0.01)
    assert found.frontier.base == pytest.approx(optimum(found.frontier.at), rel=0.1)


def test_intervals_cover_as_often_as_they_say_what_the_parabolas_have_without_noise() -> None:
    true, exponents, optima = fit(points()), [], []
    assert true.frontier is not None
    for seed in range(60):
        found = fit(points(noise=0.002, seed=seed))
        assert found.frontier is not None
        exponents.append(found.frontier.exponent_low <= true.frontier.exponent <= found.frontier.exponent_high)
        for valley, known in zip(found.valleys, true.valleys, strict=True):
            optima.append((valley.low or np.inf) <= (known.optimum or 0) <= (valley.high or 0))
    assert np.mean(exponents) >= 0.88
    assert np.mean(optima) >= 0.9


def one(found: IsoFlop) -> tuple[float | None, float | None, str]:
    [valley] = found.valleys
    return valley.optimum, valley.low, valley.why


def test_a_valley_whose_bottom_is_not_among_the_sizes_has_no_optimum() -> None:
    falling = [Point(1e15, size, 3 - 0.1 * np.log(size)) for size in (1e5, 2e5, 4e5, 8e5, 1.6e6)]
    assert one(fit(falling)) == (None, None, "the loss has no lowest point within the sizes; it is best at the largest")
    rising = [point._replace(loss=-point.loss) for point in falling]
    assert "best at the smallest" in one(fit(rising))[2]


def test_noise_that_hides_the_curvature_bounds_nothing() -> None:
    found = fit(points(noise=0.05, seed=1, reach=1.5, budgets=(1e15,)))
    best, low, why = one(found)
    assert low is None
    assert why
    assert found.frontier is None
    assert best is None or "within the scatter" in why


def test_few_sizes_or_budgets_give_no_law() -> None:
    few = [point for number, point in enumerate(points(budgets=(1e15,))) if number % 3 == 0]
    assert one(fit(few)) == (None, None, "3 of at least 4 sizes have a loss")
    assert fit(points(budgets=BUDGETS[:2])).frontier is None
