import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.models import budget, registry
from trainables.models.budget import model_of
from trainables.models.flops import training_flop_per_window
from trainables.models.param_count import ParamCount, built, count, on_meta
from trainables.schema import DataShape, ModelSpec

small = st.integers(1, 6)


@st.composite
def models(draw):
    heads, n_features, patch = draw(small), draw(small), draw(small)
    data = DataShape(
        n_features=n_features, n_window_stats=n_features * draw(small), context=patch * draw(st.integers(2, 8))
    )
    name = draw(st.sampled_from(["patchtst", "mlp", "itransformer", "tsmixer"]))
    sizes = {"width": heads * draw(st.integers(1, 12)), "depth": draw(small), "feed_forward": draw(st.integers(1, 50))}
    if name in ("patchtst", "itransformer"):
        sizes["heads"] = heads
    keys = {"patch": patch, "channels": draw(st.sampled_from(["mixed", "independent"]))} if name == "patchtst" else {}
    return model_of(ModelSpec(name=name, **keys), sizes, data)


@settings(deadline=None, max_examples=40)
@given(models())
def test_the_count_is_that_of_the_built_model_in_every_group(model):
    net = registry.build(model)
    assert built(net) == count(model)
    assert model.n_params == count(model).total == sum(parameter.numel() for parameter in net.parameters())


@settings(deadline=None, max_examples=40)
@given(models(), st.sampled_from(["width", "depth", "feed_forward"]))
def test_a_larger_size_has_more_parameters(model, size):
    step = model.shape.get("heads", 1) if size == "width" else 1
    sizes = {**model.shape, size: model.shape[size] + step}
    spec = ModelSpec(name=model.name, **model.config)
    assert model_of(spec, sizes, model.data).n_params > model.n_params


def test_groups_add_up():
    groups = ParamCount(embedding=5, blocks=30, head=2)
    assert groups.total == 37
    assert groups.non_embedding == 32


def test_a_count_done_by_hand():
    sizes = {"width": 8, "depth": 2, "heads": 2, "feed_forward": 10}
    model = model_of(ModelSpec(patch=4), sizes, DataShape(n_features=3, n_window_stats=6, context=12))
    embedding = (4 * 3 + 1) * 8 + 3 * 8 + 6 * 8  # projection, positions, stats
    attention = 16 + (8 + 1) * 24 + (8 + 1) * 8
    feed_forward = 16 + (8 + 1) * 10 + (10 + 1) * 8
    blocks = 2 * (attention + feed_forward) + 16
    assert count(model) == ParamCount(embedding=embedding, blocks=blocks, head=3 * 8 + 1)


def test_frozen_parameters_are_not_counted():
    spec, data = ModelSpec(name="mlp"), DataShape(n_features=2, context=4)
    model = model_of(spec, {"width": 8, "depth": 1, "feed_forward": 8}, data)
    net = registry.build(model)
    net.head.requires_grad_(False)
    assert built(net).head == 0
    assert built(net).blocks == count(model).blocks


def test_a_model_without_the_customary_names_is_counted_as_a_whole():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    assert built(net) == ParamCount(embedding=0, blocks=11, head=0)


def test_arithmetic_of_a_perceptron_done_by_hand():
    data = DataShape(n_features=2, context=4)
    model = model_of(ModelSpec(name="mlp"), {"width": 8, "depth": 3, "feed_forward": 16}, data)
    forward = 2 * (4 * 2 * 8 + 3 * 2 * 8 * 16 + 8)  # two operations for each weight
    assert training_flop_per_window(model) == 3 * forward


@pytest.mark.parametrize("name", ["patchtst", "itransformer", "lstm", "tsmixer"])
def test_arithmetic_of_every_architecture_is_counted(name):
    data = DataShape(n_features=5, n_window_stats=10, context=60)
    model = budget.solve(30_000, spec=ModelSpec(name=name), data=data)
    assert training_flop_per_window(model) > 6 * (30_000 - 60 * 60)


def test_random_numbers_are_left_out_on_the_meta_device_alone():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rate_4 = torch.rand(4, device="cpu")
            self.first = torch.nn.Parameter(torch.randn(3, 4))
            self.second = torch.nn.Parameter(torch.rand((2, 2), generator=None))
            self.third = torch.nn.init.orthogonal_(torch.empty(3, 3))
            self.fourth = torch.nn.init.normal_(torch.empty(8, device="cpu").uniform_(3, 4), mean=9.0)

    class Chosen:
        def build(self, shape):
            torch.manual_seed(1)
            return Net()

    net = on_meta(Chosen(), None)
    torch.manual_seed(1)
    assert torch.equal(net.rate_4, torch.rand(4))
    assert built(net).total == 16
    assert net.first.is_meta
    assert net.second.is_meta
    assert net.third.is_meta
    assert net.fourth.mean() > 5
