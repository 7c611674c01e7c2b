"""The rule of the size behind measured optima, on planted data."""

import numpy as np
import pytest

from runner.scaling.rule import Tried, fit, vertex


def planted(noise: float, exponent: float = -0.4) -> list[Tried]:
    rng = np.random.default_rng(3)
    tried = []
    for size in (5e4, 2e5, 1e6, 5e6):
        optimum = 3e-3 * (size / 1e6) ** exponent
        values = 10 ** rng.uniform(-5, -0.5, 30)
        losses = 0.5 + 0.03 * np.log10(values / optimum) ** 2 + noise * rng.normal(size=30)
        tried.append(Tried(size, tuple(values), tuple(losses)))
    return tried


def test_a_planted_rule_is_found_within_its_interval() -> None:
    rule = fit(planted(noise=0.001))
    assert rule is not None
    assert rule.exponent_low <= -0.4 <= rule.exponent_high
    assert rule.exponent_high - rule.exponent_low < 0.2
    assert rule.base == pytest.approx(3e-3 * (rule.at / 1e6) ** -0.4, rel=0.2)
    for optimum, tried in zip(rule.optima, planted(noise=0.001), strict=True):
        assert optimum.size == tried.size
        assert optimum.rise == pytest.approx(0.03 * np.log10(3) ** 2, rel=0.1)
        assert optimum.low <= 3e-3 * (tried.size / 1e6) ** -0.4 <= optimum.high


def test_more_noise_makes_wider_intervals() -> None:
    sure, unsure = fit(planted(noise=0.001)), fit(planted(noise=0.03))
    assert sure is not None
    assert unsure is not None
    assert unsure.exponent_high - unsure.exponent_low > 2 * (sure.exponent_high - sure.exponent_low)


def test_too_few_sizes_or_trials_give_no_rule() -> None:
    assert fit(planted(noise=0.001)[:2]) is None
    short = [Tried(one.size, one.values[:4], one.losses[:4]) for one in planted(noise=0.001)]
    assert fit(short) is None


def test_the_vertex_stays_within_what_was_tried() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert vertex(x, (x - 1.2) ** 2) == pytest.approx(1.2)
    assert vertex(x, 1.0 - 0.1 * x) == 4.0
    assert vertex(x, -((x - 2.0) ** 2)) in (0.0, 4.0)
