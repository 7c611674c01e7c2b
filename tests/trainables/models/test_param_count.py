import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.models import registry
from trainables.models.param_count import ParamCount, built, count
from trainables.schema import ModelShape

small = st.integers(1, 6)


@st.composite
def shapes(draw):
    heads, patch, n_features = draw(small), draw(small), draw(small)
    return ModelShape(
        name=draw(st.sampled_from(["patchtst", "mlp"])),
        width=heads * draw(st.integers(1, 12)),
        depth=draw(st.integers(1, 4)),
        heads=heads,
        feed_forward=draw(st.integers(1, 50)),
        n_features=n_features,
        n_window_stats=n_features * draw(st.integers(0, 3)),
        context=patch * draw(st.integers(2, 8)),
        patch=patch,
        channels=draw(st.sampled_from(["mixed", "independent"])),
        dropout=0.1,
    )


@settings(deadline=None, max_examples=150)
@given(shapes())
def test_the_closed_form_equals_the_built_count_in_every_group(shape):
    with torch.device("meta"):
        model = registry.build(shape)
    assert built(model) == count(shape)
    assert count(shape).total == sum(parameter.numel() for parameter in model.parameters())


@settings(deadline=None)
@given(shapes(), st.sampled_from(["width", "depth", "feed_forward"]))
def test_a_larger_size_has_more_parameters(shape, size):
    step = shape.heads if size == "width" else 1
    larger = shape.model_copy(update={size: getattr(shape, size) + step})
    assert count(larger).total > count(shape).total


def test_groups_add_up():
    groups = ParamCount(embedding=5, blocks=30, head=2)
    assert groups.total == 37
    assert groups.non_embedding == 32


def test_a_count_done_by_hand():
    shape = ModelShape(
        name="patchtst",
        width=8,
        depth=2,
        heads=2,
        feed_forward=10,
        n_features=3,
        n_window_stats=6,
        context=12,
        patch=4,
        channels="mixed",
        dropout=0.0,
    )
    embedding = (4 * 3 + 1) * 8 + 3 * 8 + 6 * 8  # projection, positions, stats
    attention = 16 + (8 + 1) * 24 + (8 + 1) * 8
    feed_forward = 16 + (8 + 1) * 10 + (10 + 1) * 8
    blocks = 2 * (attention + feed_forward) + 16
    assert count(shape) == ParamCount(embedding=embedding, blocks=blocks, head=3 * 8 + 1)


def test_frozen_parameters_are_not_counted():
    shape = ModelShape(
        name="mlp",
        width=8,
        depth=1,
        heads=1,
        feed_forward=8,
        n_features=2,
        n_window_stats=0,
        context=4,
        patch=1,
        channels="mixed",
        dropout=0.0,
    )
    model = registry.build(shape)
    model.head.requires_grad_(False)
    assert built(model).head == 0
    assert built(model).blocks == count(shape).blocks
