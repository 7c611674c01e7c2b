from itertools import pairwise, takewhile

import pytest

from trainables.models import budget
from trainables.models.ladder import handover, head_width, rungs
from trainables.models.param_count import count
from trainables.schema import ModelSpec

SHORT, LONG = 60, 512  # with the long context the embedding is most of a small model
CASES = [
    pytest.param({"name": name, "channels": channels, "aspect": aspect, "patch": patch}, context, id=f"{what}-{aspect}")
    for what, name, channels, patch, context in (
        ("mixed", "patchtst", "mixed", 10, SHORT),
        ("independent", "patchtst", "independent", 10, SHORT),
        ("long-patch", "patchtst", "mixed", 256, LONG),
        ("long-head", "patchtst", "independent", 4, LONG),
        ("mlp", "mlp", "mixed", 10, SHORT),
        ("long-mlp", "mlp", "mixed", 10, LONG),
    )
    for aspect in (0.1, 4.0, 32.0, 200.0)
]


def sizes(context):
    return {"n_features": 20, "n_window_stats": 0, "context": context}


def ladder(spec, context):
    base = budget.solve(1_000_000, spec=spec, **sizes(context))
    largest = 10**8 if spec.aspect > 1 else 2 * 10**5
    return list(takewhile(lambda rung: rung.nominal < largest, rungs(base, spec.aspect)))


@pytest.mark.parametrize(("options", "context"), CASES)
def test_the_number_of_parameters_never_falls_where_one_rung_takes_over_from_another(options, context):
    spec = ModelSpec(**options)
    for below, above in pairwise(ladder(spec, context)):
        high, low = handover(below, above)
        middle = (high + low) // 2
        targets = sorted({high, min(high + 1, low), middle, max(high, low - 1), low})
        shapes = [budget.solve(target, spec=spec, **sizes(context)) for target in targets]
        totals = [count(shape).total for shape in shapes]
        assert totals == sorted(totals)
        assert (totals[0], totals[-1]) == (high, low)
        assert min(shape.feed_forward for shape in shapes) >= 1


@pytest.mark.parametrize(("options", "context"), CASES)
def test_a_rung_is_never_narrower_or_shallower_than_the_one_below(options, context):
    for below, above in pairwise(ladder(ModelSpec(**options), context)):
        assert below.shape.width <= above.shape.width
        assert below.shape.depth <= above.shape.depth
        high, low = handover(below, above)
        assert below.nominal <= high <= low <= above.nominal


@pytest.mark.parametrize(("options", "context"), CASES)
def test_a_rung_knows_its_totals(options, context):
    for rung in ladder(ModelSpec(**options), context):
        for feed_forward in (rung.step, 7, 1000):
            assert rung.total(feed_forward) == count(rung.shape.model_copy(update={"feed_forward": feed_forward})).total
        assert rung.nearest(rung.nominal) == rung.shape


@pytest.mark.parametrize(
    ("width", "expected"),
    [(8, 8), (24, 8), (32, 16), (72, 8), (128, 32), (512, 64), (1728, 64), (1792, 64), (2048, 128)],
)
def test_head_widths(width, expected):
    assert head_width(width) == expected
