import itertools
import json
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
from trainables.models.registry import of_trial
from trainables.schema import BUDGET_TOLERANCE, DataShape, ModelSpec, parse_budget

SHIPPED = Path(__file__).parents[3] / "configs" / "budgets"
LABELS = ("10k", "20k", "50k", "123457", "200k", "1m", "2m", "6m", "20m", "60m", "200m", "2b")
QUICK = ("10k", "123457", "1m", "6m")  # larger models are counted in seconds
# Solved by the closed forms that counted parameters before they were counted on the meta device.
BEFORE = json.loads((Path(__file__).parent / "solved_shapes.json").read_text())
PATCH_OF_CONTEXT = {20: 10, 60: 10, 120: 10, 252: 12, 512: 16}
ARCHITECTURES = (("patchtst", "mixed"), ("patchtst", "independent"), ("mlp", "mixed"))
SMALL = DataShape(n_features=5, n_window_stats=10, context=60)
A20 = {"data": DataShape(n_features=20, context=60)}

specs = st.builds(
    lambda choice, aspect: ModelSpec(aspect=aspect, **choice),
    st.sampled_from([{"name": "mlp"}, *({"channels": channels} for channels in ("mixed", "independent"))]),
    st.floats(4, 256),
)
targets = st.floats(4.0, 7.3).map(lambda exponent: round(10**exponent))


def solved(target, spec, sizes):
    """The solved model, or None with the smallest number that the solver names."""
    try:
        return budget.solve(target, spec=spec, **sizes), None
    except BudgetError as error:
        return None, int(re.search(r"the smallest has ([\d,]+)", str(error)).group(1).replace(",", ""))


@pytest.mark.parametrize("name", ["patchtst", "mlp"])
def test_solved_shapes_are_those_of_before(name):
    for one in (one for one in BEFORE if one["name"] == name):
        revin = 2 * one["n_features"] * one["revin"]
        data = DataShape(n_features=one["n_features"], n_window_stats=revin, context=one["context"])
        keys = {"channels": one["channels"], "patch": one["patch"]} if name == "patchtst" else {}
        model = budget.solve(
            parse_budget(one["budget"]), spec=ModelSpec(name=name, aspect=one["aspect"], **keys), data=data
        )
        assert model.shape == {size: one[size] for size in model.shape}, one
        counted = count(model)
        assert [counted.embedding, counted.blocks, counted.head] == one["groups"]


@pytest.mark.parametrize(("name", "channels"), ARCHITECTURES)
@pytest.mark.parametrize("context", PATCH_OF_CONTEXT)
def test_solved_shapes_meet_the_budget(name, channels, context):
    spec = ModelSpec(name=name, channels=channels, patch=PATCH_OF_CONTEXT[context])
    for n_features, revin, label in itertools.product((20, 5), (False, True), QUICK):
        target = parse_budget(label)
        sizes = {"data": DataShape(n_features=n_features, n_window_stats=2 * n_features * revin, context=context)}
        model, smallest = solved(target, spec, sizes)
        if model is None:
            assert smallest > target * 1.02
            assert target < 100_000
            continue
        assert abs(count(model).total / target - 1) <= (0.0025 if target >= 100_000 else 0.02)
        if target > 1_000_000:
            assert 16 <= model.shape["width"] / model.shape["depth"] <= 64
            assert 2.5 <= model.shape["feed_forward"] / model.shape["width"] <= 6


@pytest.mark.parametrize(("name", "channels"), ARCHITECTURES)
@pytest.mark.parametrize("label", LABELS)
def test_the_built_model_has_the_solved_number_of_parameters(name, channels, label):
    model = budget.solve(parse_budget(label), spec=ModelSpec(name=name, channels=channels), data=SMALL)
    with torch.device("meta"):
        net = registry.build(model)
    assert built(net) == count(model)
    assert abs(built(net).total / parse_budget(label) - 1) <= BUDGET_TOLERANCE


@settings(deadline=None, max_examples=25)
@given(specs, targets, st.floats(1.0, 1.1))
def test_a_larger_budget_never_has_fewer_parameters_nor_a_smaller_size(spec, target, factor):
    small, _ = solved(target, spec, A20)
    large, _ = solved(round(target * factor), spec, A20)
    if small is not None:
        assert large is not None
        assert count(small).total <= count(large).total
        assert small.shape["width"] <= large.shape["width"]
        assert small.shape["depth"] <= large.shape["depth"]


@settings(deadline=None, max_examples=25)
@given(specs, targets)
def test_sizes_suit_the_hardware(spec, target):
    model, _ = solved(target, spec, A20)
    if model is None:
        return
    assert abs(count(model).total / target - 1) <= BUDGET_TOLERANCE
    if model.name == "mlp":
        assert "heads" not in model.shape
    else:
        head_width, rest = divmod(model.shape["width"], model.shape["heads"])
        assert rest == 0
        assert head_width in (8, 16, 32, 64, 128)
        assert model.shape["width"] % 8 == 0
    if model.shape["width"] >= 512:
        assert model.shape["width"] % 64 == 0


def test_heads_grow_with_size():
    widths = {}
    for label in LABELS:
        model = budget.solve(parse_budget(label), spec=ModelSpec(), **A20)
        widths[label] = (model.shape["width"] // model.shape["heads"], model.shape["heads"])
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
    depths = [budget.solve(20_000_000, spec=ModelSpec(aspect=aspect), **A20).shape["depth"] for aspect in (8, 32, 128)]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] > 2 * depths[2]


@pytest.mark.parametrize("sizes", [{"depth": 1}, {"depth": 6}, {"heads": 3}, {"depth": 2, "heads": 5}])
@pytest.mark.parametrize("target", [50_000, 1_000_000, 30_000_000])
def test_depth_and_heads_can_be_given_within_the_budget(target, sizes):
    model = budget.solve(target, spec=ModelSpec(**sizes), **A20)
    assert {name: model.shape[name] for name in sizes} == sizes
    assert model.n_params == pytest.approx(target, rel=0.02)


def test_sizes_that_an_architecture_lacks_are_refused():
    with pytest.raises(ConfigError, match="heads cannot be given: shapes of mlp"):
        budget.solve(50_000, spec=ModelSpec(name="mlp", heads=2), **A20)
    with pytest.raises(ConfigError, match="depth cannot be given: shapes of lstm"):
        budget.solve(50_000, spec=ModelSpec(name="lstm", depth=2), **A20)
    with pytest.raises(BudgetError, match="too few for patchtst"):
        budget.solve(20_000, spec=ModelSpec(depth=100), **A20)


@pytest.mark.parametrize("label", LABELS)
def test_solving_is_repeatable_and_fast(label):
    seconds, answers = [], set()
    for _ in range(3):
        start = time.process_time()
        answers.add(budget.solve(parse_budget(label), spec=ModelSpec(), **A20).model_dump_json())
        seconds.append(time.process_time() - start)
    assert len(answers) == 1
    assert min(seconds) < 0.05, "counts are remembered"


def test_an_impossible_budget_names_the_smallest_reachable_one():
    spec, sizes = ModelSpec(name="mlp"), {"data": DataShape(n_features=20, context=252)}
    with pytest.raises(BudgetError, match=r"10,000 parameters are too few for mlp.*smallest has 40,\d+") as caught:
        budget.solve(10_000, spec=spec, **sizes)
    smallest = int(re.search(r"use a budget of ([\d,]+) or more", str(caught.value)).group(1).replace(",", ""))
    assert count(budget.solve(smallest, spec=spec, **sizes)).total == smallest
    assert count(budget.solve(round(smallest / 1.015), spec=spec, **sizes)).total == smallest
    with pytest.raises(BudgetError):
        budget.solve(round(smallest / 1.03), spec=spec, **sizes)


def test_a_patch_that_does_not_divide_the_context_is_the_users_error():
    with pytest.raises(ConfigError, match=r"model\.patch 7 does not divide task\.context 60"):
        budget.solve(50_000, spec=ModelSpec(patch=7), **A20)


# ---- check ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "passes"), [(0.979, False), (0.981, True), (1.0, True), (1.019, True), (1.021, False)]
)
def test_two_per_cent_is_the_limit(share, passes):
    model = budget.solve(1_000_000, spec=ModelSpec(), **A20)
    target = round(count(model).total / share)
    if passes:
        budget.check(*of_trial(model), target)
    else:
        with pytest.raises(BudgetError):
            budget.check(*of_trial(model), target)


def test_a_miss_names_both_numbers_and_the_per_cent_and_a_mend_that_works():
    model = budget.solve(1_000_000, spec=ModelSpec(), **A20)
    actual = count(model).total
    with pytest.raises(BudgetError) as caught:
        budget.check(*of_trial(model), 1_200_000, place="here")
    message = str(caught.value)
    assert message.startswith("here: ")
    assert f"{actual:,} parameters" in message
    assert "1,200,000 were requested" in message
    assert f"{actual / 1_200_000 - 1:+.2%}" in message
    feed_forward = int(re.search(r"set feed_forward to (\d+)", message).group(1))
    chosen, shape = of_trial(model)
    budget.check(chosen, shape.model_copy(update={"feed_forward": feed_forward}), 1_200_000)


def test_a_miss_that_the_feed_forward_cannot_mend_says_so():
    model = budget.solve(2_000_000, spec=ModelSpec(), **A20)
    with pytest.raises(BudgetError, match="make it narrower"):
        budget.check(*of_trial(model), 50_000)


# ---- shape_for --------------------------------------------------------------------------------------------------


def written(folder, name, text):
    (folder / name).write_text(text)
    return ModelSpec(shapes=str(folder))


def hand_made(label="50k"):
    model = budget.solve(parse_budget(label), spec=ModelSpec(aspect=16), **A20)
    sizes = {
        "width": model.shape["width"],
        "depth": model.shape["depth"],
        "heads": model.shape["heads"],
        "feed_forward": model.shape["feed_forward"],
    }
    return model, "patchtst: " + str(sizes).replace("'", "")


def test_a_hand_written_shape_wins(tmp_path):
    model, text = hand_made()
    spec = written(tmp_path, "50k.yaml", text)
    assert budget.shape_for("50k", spec=spec, **A20) == model
    assert budget.solve(50_000, spec=spec, **A20) != model


@pytest.mark.parametrize("label", ["50k", "50K", "50000", "0.05m"])
def test_a_file_serves_every_way_to_write_its_number(tmp_path, label):
    model, text = hand_made()
    assert budget.shape_for(label, spec=written(tmp_path, "50k.yaml", text), **A20) == model


def test_without_an_entry_or_a_file_the_solver_is_asked(tmp_path):
    spec = written(tmp_path, "50k.yaml", hand_made()[1])
    perceptron = spec.model_copy(update={"name": "mlp"})
    assert budget.shape_for("50k", spec=perceptron, **A20) == budget.solve(50_000, spec=perceptron, **A20)
    assert budget.shape_for("51k", spec=spec, **A20) == budget.solve(51_000, spec=spec, **A20)


def test_a_hand_written_shape_off_its_budget_is_refused_with_its_place(tmp_path):
    spec = written(tmp_path, "90k.yaml", "# mine\n" + hand_made()[1])
    with pytest.raises(BudgetError, match=r"90k\.yaml:2: patchtst: .*90,000 were requested") as caught:
        budget.shape_for("90k", spec=spec, **A20)
    assert caught.value.problems[0].fix


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
    model = budget.shape_for(path.stem, spec=spec, **A20)
    assert model != budget.solve(parse_budget(path.stem), spec=spec, **A20)
    assert f"{count(model).total:,} parameters" in path.read_text()
    for context, n_features, patch in ((512, 20, 16), (20, 5, 10)):
        other = ModelSpec(shapes=str(SHIPPED), patch=patch)
        data = DataShape(n_features=n_features, n_window_stats=2 * n_features, context=context)
        budget.shape_for(path.stem, spec=other, data=data)


def test_a_shape_for_2b_is_shipped():
    assert (SHIPPED / "2b.yaml").is_file()
