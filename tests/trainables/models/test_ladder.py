from itertools import pairwise, takewhile

import pytest

from trainables.models import budget
from trainables.models.ladder import handover, head_width, rungs
from trainables.models.param_count import count
from trainables.schema import ModelSpec

A20 = {"n_features": 20, "n_window_stats": 0, "context": 60}
CASES = [
    (name, channels, aspect)
    for name, channels in (("patchtst", "mixed"), ("patchtst", "independent"), ("mlp", "mixed"))
    for aspect in (0.1, 4.0, 32.0, 200.0)
]


def ladder(spec):
    base = budget.solve(1_000_000, spec=spec, **A20)
    largest = 10**9 if spec.aspect > 1 else 3 * 10**5
    return list(takewhile(lambda rung: rung.nominal < largest, rungs(base, spec.aspect)))


@pytest.mark.parametrize(("name", "channels", "aspect"), CASES)
def test_the_number_of_parameters_never_falls_where_one_rung_takes_over_from_another(name, channels, aspect):
    spec = ModelSpec(name=name, channels=channels, aspect=aspect)
    for below, above in pairwise(ladder(spec)):
        high, low = handover(below, above)
        middle = (high + low) // 2
        totals = [count(budget.solve(target, spec=spec, **A20)).total for target in (high, middle, middle + 1, low)]
        assert totals == sorted(totals)
        assert (totals[0], totals[-1]) == (high, low)


@pytest.mark.parametrize(("name", "channels", "aspect"), CASES)
def test_a_rung_is_never_narrower_or_shallower_than_the_one_below(name, channels, aspect):
    for below, above in pairwise(ladder(ModelSpec(name=name, channels=channels, aspect=aspect))):
        assert below.shape.width <= above.shape.width
        assert below.shape.depth <= above.shape.depth
        high, low = handover(below, above)
        assert below.nominal <= high <= low <= above.nominal


def test_a_rung_knows_its_totals():
    for rung in ladder(ModelSpec()):
        for feed_forward in (1, 7, 100):
            assert rung.total(feed_forward) == count(rung.shape.model_copy(update={"feed_forward": feed_forward})).total


@pytest.mark.parametrize(
    ("width", "expected"),
    [(8, 8), (24, 8), (32, 16), (72, 8), (128, 32), (512, 64), (1728, 64), (1792, 64), (2048, 128)],
)
def test_head_widths(width, expected):
    assert head_width(width) == expected
