from itertools import pairwise, takewhile

import pytest

from trainables.errors import BudgetError
from trainables.models import budget
from trainables.models.ladder import Rung, handover, head_width
from trainables.models.param_count import count_shape
from trainables.models.registry import Architecture
from trainables.schema import BUDGET_TOLERANCE, DataShape, ModelSpec

SHORT, LONG = 60, 512  # with the long context the embedding is most of a small model
CASES = [
    pytest.param({"name": name, "aspect": aspect} | own, context, id=f"{what}-{aspect}")
    for what, name, own, context in (
        ("mixed", "patchtst", {}, SHORT),
        ("independent", "patchtst", {"channels": "independent"}, SHORT),
        ("long-patch", "patchtst", {"patch": 256}, LONG),
        ("long-head", "patchtst", {"channels": "independent", "patch": 4}, LONG),
        ("mlp", "mlp", {}, SHORT),
        ("long-mlp", "mlp", {}, LONG),
        ("mixer", "tsmixer", {}, SHORT),
    )
    for aspect in (0.1, 32.0, 200.0)
]


def architecture(options, context):
    return Architecture.of(ModelSpec(**options), DataShape(n_features=20, context=context))


def total(options, context, shape):
    return count_shape(architecture(options, context), shape).total


def ladder(options, context):
    """The rungs up to a size that is quickly counted."""
    chosen, largest = architecture(options, context), 3 * 10**6
    rungs = (Rung.of(shape, lambda one: count_shape(chosen, one).total) for shape in chosen.ladder(options["aspect"]))
    return list(takewhile(lambda rung: rung.nominal < largest and rung.shape.depth < 16, rungs))


@pytest.mark.parametrize(("options", "context"), CASES)
def test_the_number_of_parameters_never_falls_where_one_rung_takes_over_from_another(options, context):
    spec, data = ModelSpec(**options), DataShape(n_features=20, context=context)
    for below, above in pairwise(ladder(options, context)):
        high, low = handover(below, above)
        middle = (high + low) // 2
        targets = sorted({high, min(high + 1, low), middle, max(high, low - 1), low})
        models = [budget.solve(target, spec=spec, data=data) for target in targets]
        totals = [model.n_params for model in models]
        assert totals == sorted(totals)
        assert (totals[0], totals[-1]) == (high, low)
        assert min(model.shape["feed_forward"] for model in models) >= 1


@pytest.mark.parametrize(("options", "context"), CASES)
def test_a_rung_is_never_narrower_or_shallower_than_the_one_below(options, context):
    for below, above in pairwise(ladder(options, context)):
        assert below.shape.width <= above.shape.width
        assert below.shape.depth <= above.shape.depth
        high, low = handover(below, above)
        assert below.nominal <= high <= low <= above.nominal


@pytest.mark.parametrize(("options", "context"), CASES)
def test_a_rung_knows_its_totals(options, context):
    for rung in ladder(options, context):
        for feed_forward in (rung.step, 7, 1000):
            shape = rung.shape.model_copy(update={"feed_forward": feed_forward})
            assert rung.total(feed_forward) == total(options, context, shape)
        assert rung.nearest(rung.nominal) == rung.shape


@pytest.mark.parametrize(
    ("width", "expected"),
    [(8, 8), (24, 8), (32, 16), (72, 8), (128, 32), (512, 64), (1728, 64), (1792, 64), (2048, 128)],
)
def test_head_widths(width, expected):
    assert head_width(width) == expected


def test_an_own_ladder_needs_no_formula_and_no_fine_field():
    data = DataShape(n_features=20, context=60)
    for target in (20_000, 50_000, 1_000_000, 20_000_000, 200_000_000):
        model = budget.solve(target, spec=ModelSpec(name="lstm"), data=data)
        assert set(model.shape) == {"width"}
        assert abs(model.n_params / target - 1) <= (0.01 if target >= 10**6 else BUDGET_TOLERANCE)


def test_a_budget_between_two_shapes_of_a_coarse_ladder_names_the_nearest():
    data = DataShape(n_features=20, n_window_stats=40, context=20)
    with pytest.raises(
        BudgetError, match=r"no shape of lstm has 5,000 parameters here; the nearest has 4,801"
    ) as caught:
        budget.solve(5_000, spec=ModelSpec(name="lstm"), data=data)
    assert "use a budget of 4801" in str(caught.value)
    assert budget.solve(4801, spec=ModelSpec(name="lstm"), data=data).n_params == 4801
