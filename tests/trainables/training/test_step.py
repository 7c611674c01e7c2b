import copy
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.models import registry
from trainables.training import precision
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior
from trainables.training.optim import make_optimizer
from trainables.training.step import eval_step, train_step


@pytest.fixture(scope="module")
def parts(make_spec, data):
    def make(**changes):
        spec = make_spec(**{"dropout": 0.0, **changes})
        torch.manual_seed(0)
        model = registry.build(spec.model)
        loss = make_loss(spec.training, spec.task.outcome, Prior(data.label_mean, data.label_variance))
        return model, make_optimizer(model, spec.training), loss

    return make


class Numbers(NamedTuple):
    loss: float
    gradient_norm: float


def step(parts, data, index_B, *, micro_batch, clip=1e9, dtype="fp32", refused=None):
    model, optimizer, loss = parts
    numbers_2 = train_step(
        model,
        optimizer,
        data.train,
        index_B,
        micro_batch=micro_batch,
        loss=loss,
        clip=clip,
        dtype=dtype,
        refused=torch.zeros(()) if refused is None else refused,
    )
    return Numbers(*numbers_2.tolist())


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 60),
    micro_batch=st.integers(1, 70),
    loss=st.sampled_from(["bce", "focal"]),
    class_weight=st.sampled_from(["none", "balanced"]),
    seed=st.integers(0, 1000),
)
def test_accumulated_gradients_equal_those_of_one_batch(parts, data, batch, micro_batch, loss, class_weight, seed):
    index_B = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:batch]
    whole, pieces = (parts(loss=loss, class_weight=class_weight) for _ in range(2))
    one = step(whole, data, index_B, micro_batch=batch)
    many = step(pieces, data, index_B, micro_batch=micro_batch)
    expected = gradients(whole[0])
    assert torch.allclose(gradients(pieces[0]), expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()) + 1e-9)
    assert many.loss == pytest.approx(one.loss, rel=1e-5)
    assert many.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)


def test_the_loss_is_that_of_the_global_batch(parts, data):
    model, _, _ = trained = parts()
    index_B = torch.arange(90)
    with torch.no_grad():
        batch = data.train.batch(index_B)
        logits_B = model(batch.x_BLF, batch.stats_BS)
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits_B, batch.y_B)
    assert step(trained, data, index_B, micro_batch=40).loss == pytest.approx(float(expected), rel=1e-5)


def test_a_gradient_above_the_limit_is_scaled_down_to_it(parts, data):
    trained = parts()
    norm = step(trained, data, torch.arange(64), micro_batch=64, clip=1e-3).gradient_norm
    assert norm > 1e-3
    assert float(gradients(trained[0]).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_a_gradient_below_the_limit_is_left_alone(parts, data):
    trained = parts()
    norm = step(trained, data, torch.arange(64), micro_batch=64, clip=1e3).gradient_norm
    assert float(gradients(trained[0]).norm()) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_refused_and_changes_nothing(parts, data, poison):
    model, optimizer, _ = trained = parts()
    step(trained, data, torch.arange(64), micro_batch=64)
    weight = model.head.weight[0, 0].item()
    with torch.no_grad():
        model.head.weight[0, 0] = poison
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    refused = torch.zeros(())
    numbers = step(trained, data, torch.arange(64), micro_batch=30, refused=refused)
    assert not math.isfinite(numbers.loss)
    with torch.no_grad():
        model.head.weight[0, 0] = before[0]["head.weight"][0, 0] = weight
    assert math.isfinite(step(trained, data, torch.arange(64), micro_batch=30, refused=refused).loss)
    assert refused == 1, "later steps are refused, too"
    after = (model.state_dict(), optimizer.state_dict()["state"])
    assert all(torch.equal(a, b) for a, b in _pairs(before, after))


def test_a_gradient_that_is_not_finite_is_refused_where_the_loss_is_finite(parts, data):
    model, optimizer, loss = parts()
    model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    weights = copy.deepcopy(model.state_dict())
    numbers = step((model, optimizer, loss), data, torch.arange(32), micro_batch=32)
    assert math.isfinite(numbers.loss)
    assert not math.isfinite(numbers.gradient_norm)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def _pairs(before, after):
    for name, value in before[0].items():
        yield value, after[0][name]
    for number, values in before[1].items():
        for name, value in values.items():
            yield value, after[1][number][name]


def test_training_steps_lower_the_loss(parts, data):
    trained = parts()
    index_B = torch.arange(200)
    first = step(trained, data, index_B, micro_batch=64).loss
    for _ in range(1, 25):
        last = step(trained, data, index_B, micro_batch=64).loss
    assert last < 0.8 * first


def test_evaluation_has_no_dropout_and_no_gradient_and_training_switches_both_back_on(parts, data):
    model, _, _ = trained = parts(dropout=0.5)
    index_B = torch.arange(16)
    first, second = (eval_step(model, data.validation, index_B, dtype="fp32") for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert first.shape == (16,)
    assert not first.requires_grad
    assert not model.training
    step(trained, data, index_B, micro_batch=16)
    assert model.training


def test_bf16_is_left_to_devices_that_compute_in_it(parts, data, monkeypatch):
    model, _, _ = parts()
    index_B = torch.arange(16)
    exact = eval_step(model, data.validation, index_B, dtype="fp32")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert torch.equal(eval_step(model, data.validation, index_B, dtype="bf16"), exact)
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    rounded = eval_step(model, data.validation, index_B, dtype="bf16")
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)
