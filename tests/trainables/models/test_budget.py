import itertools
import re
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import BudgetError, ConfigError
from trainables.models import budget, registry
from trainables.models.param_count import built, count
from trainables.schema import BUDGET_TOLERANCE, ModelSpec, parse_budget

SHIPPED = Path(__file__).parents[3] / "configs" / "budgets"
LABELS = ("10k", "20k", "50k", "123457", "200k", "1m", "2m", "6m", "20m", "60m", "200m", "600m", "1234567890", "2b")
PATCH_OF_CONTEXT = {20: 10, 60: 10, 120: 10, 252: 12, 512: 16}
ARCHITECTURES = (("patchtst", "mixed"), ("patchtst", "independent"), ("mlp", "mixed"))
A20 = {"n_features": 20, "n_window_stats": 0, "context": 60}

specs = st.builds(
    ModelSpec,
    name=st.sampled_from(["patchtst", "mlp"]),
    channels=st.sampled_from(["mixed", "independent"]),
    aspect=st.floats(4, 256),
)
targets = st.floats(4.0, 9.3).map(lambda exponent: round(10**exponent))


def solved(target, spec, sizes):
    """The solved shape, or None with the smallest number that the solver names."""
    try:
        return budget.solve(target, spec=spec, **sizes), None
    except BudgetError as error:
        return None, int(re.search(r"the smallest has ([\d,]+)", str(error)).group(1).replace(",", ""))


@pytest.mark.parametrize(("name", "channels"), ARCHITECTURES)
@pytest.mark.parametrize("context", PATCH_OF_CONTEXT)
def test_solved_shapes_meet_the_budget(name, channels, context):
    spec = ModelSpec(name=name, channels=channels, patch=PATCH_OF_CONTEXT[context])
    for n_features, revin, label in itertools.product((20, 5), (False, True), LABELS):
        target = parse_budget(label)
        sizes = {"n_features": n_features, "n_window_stats": 2 * n_features * revin, "context": context}
        shape, smallest = solved(target, spec, sizes)
        if shape is None:
            assert smallest > target * 1.02
            assert target < 100_000
            continue
        assert abs(count(shape).total / target - 1) <= (0.0025 if target >= 100_000 else 0.02)
        if target > 1_000_000:
            assert 16 <= shape.width / shape.depth <= 64
            assert 2.5 <= shape.feed_forward / shape.width <= 6


@pytest.mark.parametrize(("name", "channels"), ARCHITECTURES)
@pytest.mark.parametrize("label", LABELS)
def test_the_built_model_has_the_solved_number_of_parameters(name, channels, label):
    shape = budget.solve(
        parse_budget(label), spec=ModelSpec(name=name, channels=channels), n_features=5, n_window_stats=10, context=60
    )
    with torch.device("meta"):
        model = registry.build(shape)
    assert built(model) == count(shape)
    assert abs(built(model).total / parse_budget(label) - 1) <= BUDGET_TOLERANCE


@settings(deadline=None, max_examples=200)
@given(specs, targets, st.floats(1.0, 1.1))
def test_a_larger_budget_never_has_fewer_parameters_nor_a_smaller_size(spec, target, factor):
    small, _ = solved(target, spec, A20)
    large, _ = solved(round(target * factor), spec, A20)
    if small is not None:
        assert large is not None
        assert count(small).total <= count(large).total
        assert small.width <= large.width
        assert small.depth <= large.depth


@settings(deadline=None, max_examples=200)
@given(specs, targets)
def test_sizes_suit_the_hardware(spec, target):
    shape, _ = solved(target, spec, A20)
    if shape is None:
        return
    assert abs(count(shape).total / target - 1) <= BUDGET_TOLERANCE
    if shape.name == "mlp":
        assert (shape.heads, shape.patch, shape.channels) == (1, 1, "mixed")
    else:
        head_width, rest = divmod(shape.width, shape.heads)
        assert rest == 0
        assert head_width in (8, 16, 32, 64, 128)
        assert shape.width % 8 == 0
    if shape.width >= 512:
        assert shape.width % 64 == 0


def test_heads_grow_with_size():
    widths = {}
    for label in LABELS:
        shape = budget.solve(parse_budget(label), spec=ModelSpec(), **A20)
        widths[label] = (shape.width // shape.heads, shape.heads)
    assert widths["10k"][0] == 8
    assert widths["2b"][0] >= 64
    assert widths["2b"][1] > widths["10k"][1]


def test_perceptrons_that_differ_in_patches_alone_are_one_model():
    one, other = (
        budget.solve(200_000, spec=ModelSpec(name="mlp", patch=patch, channels=channels), **A20)
        for patch, channels in ((10, "mixed"), (7, "independent"))
    )
    assert one == other


def test_the_aspect_ratio_is_followed():
    depths = [budget.solve(20_000_000, spec=ModelSpec(aspect=aspect), **A20).depth for aspect in (8, 32, 128)]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] > 2 * depths[2]


@pytest.mark.parametrize("label", LABELS)
def test_solving_is_repeatable_and_fast(label):
    seconds, answers = [], set()
    for _ in range(3):
        start = time.process_time()
        answers.add(budget.solve(parse_budget(label), spec=ModelSpec(), **A20))
        seconds.append(time.process_time() - start)
    assert len(answers) == 1
    assert min(seconds) < 0.05


def test_an_impossible_budget_names_the_smallest_reachable_one():
    spec, sizes = ModelSpec(name="mlp"), {"n_features": 20, "n_window_stats": 0, "context": 252}
    with pytest.raises(BudgetError, match=r"10,000 parameters are too few for mlp.*smallest has 40,\d+") as caught:
        budget.solve(10_000, spec=spec, **sizes)
    smallest = int(re.search(r"use a budget of ([\d,]+) or more", str(caught.value)).group(1).replace(",", ""))
    assert count(budget.solve(smallest, spec=spec, **sizes)).total == smallest
    assert count(budget.solve(round(smallest / 1.015), spec=spec, **sizes)).total == smallest
    with pytest.raises(BudgetError):
        budget.solve(round(smallest / 1.03), spec=spec, **sizes)


def test_a_patch_that_does_not_divide_the_context_is_the_users_error():
    with pytest.raises(ConfigError, match="a patch of 7 bars does not divide the context of 60 bars"):
        budget.solve(50_000, spec=ModelSpec(patch=7), **A20)


# ---- check ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "passes"), [(0.979, False), (0.981, True), (1.0, True), (1.019, True), (1.021, False)]
)
def test_two_per_cent_is_the_limit(share, passes):
    shape = budget.solve(1_000_000, spec=ModelSpec(), **A20)
    target = round(count(shape).total / share)
    if passes:
        budget.check(shape, target)
    else:
        with pytest.raises(BudgetError):
            budget.check(shape, target)


def test_a_miss_names_both_numbers_and_the_per_cent_and_a_mend_that_works():
    shape = budget.solve(1_000_000, spec=ModelSpec(), **A20)
    actual = count(shape).total
    with pytest.raises(BudgetError) as caught:
        budget.check(shape, 1_200_000, place="here")
    message = str(caught.value)
    assert message.startswith("here: ")
    assert f"{actual:,} parameters" in message
    assert "1,200,000 were requested" in message
    assert f"{actual / 1_200_000 - 1:+.2%}" in message
    feed_forward = int(re.search(r"set feed_forward to (\d+)", message).group(1))
    budget.check(shape.model_copy(update={"feed_forward": feed_forward}), 1_200_000)


def test_a_miss_that_the_feed_forward_cannot_mend_says_so():
    shape = budget.solve(2_000_000, spec=ModelSpec(), **A20)
    with pytest.raises(BudgetError, match="make it narrower"):
        budget.check(shape, 50_000)


# ---- shape_for --------------------------------------------------------------------------------------------------


def written(folder, name, text):
    (folder / name).write_text(text)
    return ModelSpec(shapes=str(folder))


def hand_made(label="50k"):
    shape = budget.solve(parse_budget(label), spec=ModelSpec(aspect=16), **A20)
    sizes = {"width": shape.width, "depth": shape.depth, "heads": shape.heads, "feed_forward": shape.feed_forward}
    return shape, "patchtst: " + str(sizes).replace("'", "")


def test_a_hand_written_shape_wins(tmp_path):
    shape, text = hand_made()
    spec = written(tmp_path, "50k.yaml", text)
    assert budget.shape_for("50k", spec=spec, **A20) == shape
    assert budget.solve(50_000, spec=spec, **A20) != shape


@pytest.mark.parametrize("label", ["50k", "50K", "50000", "0.05m"])
def test_a_file_serves_every_way_to_write_its_number(tmp_path, label):
    shape, text = hand_made()
    assert budget.shape_for(label, spec=written(tmp_path, "50k.yaml", text), **A20) == shape


def test_without_an_entry_or_a_file_the_solver_is_asked(tmp_path):
    spec = written(tmp_path, "50k.yaml", hand_made()[1])
    perceptron = spec.model_copy(update={"name": "mlp"})
    assert budget.shape_for("50k", spec=perceptron, **A20) == budget.solve(50_000, spec=perceptron, **A20)
    assert budget.shape_for("51k", spec=spec, **A20) == budget.solve(51_000, spec=spec, **A20)


def test_a_hand_written_shape_off_its_budget_is_refused_with_its_place(tmp_path):
    spec = written(tmp_path, "90k.yaml", "# mine\n" + hand_made()[1])
    with pytest.raises(BudgetError, match=r"90k\.yaml:2: patchtst: .*90,000 were requested") as caught:
        budget.shape_for("90k", spec=spec, **A20)
    assert caught.value.problems[0].mend


def test_the_default_folder_may_be_missing_but_not_one_that_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert budget.shape_for("50k", spec=ModelSpec(), **A20) == budget.solve(50_000, spec=ModelSpec(), **A20)
    with pytest.raises(ConfigError, match=r"model\.shapes: mine is not a folder"):
        budget.shape_for("50k", spec=ModelSpec(shapes="mine"), **A20)


@pytest.mark.parametrize("label", ["huge", "-2m", "0"])
def test_a_label_that_is_no_budget_is_refused(label):
    with pytest.raises(BudgetError, match="is not a budget"):
        budget.shape_for(label, spec=ModelSpec(), **A20)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_shapes_meet_their_budgets_and_their_own_words(path):
    spec = ModelSpec(shapes=str(SHIPPED))
    shape = budget.shape_for(path.stem, spec=spec, **A20)
    assert shape != budget.solve(parse_budget(path.stem), spec=spec, **A20)
    assert f"{count(shape).total:,} parameters" in path.read_text()
    for context, n_features, patch in ((512, 20, 16), (20, 5, 10)):
        other = spec.model_copy(update={"patch": patch})
        budget.shape_for(path.stem, spec=other, n_features=n_features, n_window_stats=2 * n_features, context=context)


def test_a_shape_for_2b_is_shipped():
    assert (SHIPPED / "2b.yaml").is_file()
