import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.models import registry
from trainables.schema import ResolvedTraining, TrainingSpec
from trainables.training.optim import learning_rate, make_optimizer, set_learning_rate


def rates(total_steps, warmup, peak=1.0, **schedule):
    asked = TrainingSpec().model_dump() | {"global_batch": 1, "lr": peak, "weight_decay": 0.0, "warmup": warmup}
    fields = {name: value for name, value in (asked | schedule).items() if name in ResolvedTraining.model_fields}
    training = ResolvedTraining(**fields)
    return [learning_rate(step, total_steps=total_steps, training=training) for step in range(total_steps)]


@settings(deadline=None)
@given(
    total_steps=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from(["cosine", "wsd", "constant"]),
    cooldown=st.floats(0.01, 1),
)
def test_the_rate_is_positive_rises_to_its_peak_and_then_falls(total_steps, warmup, schedule, cooldown):
    found = rates(total_steps, warmup, schedule=schedule, cooldown=cooldown)
    top = max(0, round(warmup * total_steps) - 1)
    assert all(0 < rate <= 1.0 + 1e-12 for rate in found)
    assert found[top] == pytest.approx(1.0)
    assert all(a < b for a, b in itertools.pairwise(found[: top + 1]))
    assert all(a >= b for a, b in itertools.pairwise(found[top:]))


def test_warm_up_is_linear_and_the_rest_is_half_a_cosine():
    found = rates(100, 0.1, peak=2.0)
    assert found[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert found[10] == 2.0
    assert found[55] == pytest.approx(1.0)
    assert found[99] == pytest.approx(1 + math.cos(math.pi * 89 / 90))


def test_wsd_is_constant_and_falls_in_its_last_part_alone():
    constant, wsd = (rates(100, 0.1, schedule=name, cooldown=0.2) for name in ("constant", "wsd"))
    assert constant[10:] == [1.0] * 90
    assert wsd[:81] == constant[:81]
    assert wsd[80:] == pytest.approx([1 - math.sqrt(done / 20) for done in range(20)])
    assert rates(100, 0.1, schedule="wsd", cooldown=1.0)[10] == 1.0, "warm-up comes first"


def test_all_groups_get_the_rate(make_spec):
    spec = make_spec()
    optimizer = make_optimizer(registry.build(spec.model), spec.training)
    set_learning_rate(optimizer, 0.125)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}


def test_only_the_matrices_of_linear_layers_decay(make_spec):
    spec = make_spec(weight_decay=0.3)
    model = registry.build(spec.model)
    optimizer = make_optimizer(model, spec.training)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        name: 0.3 if name.endswith("weight") and "norm" not in name else 0.0 for name, _ in model.named_parameters()
    }
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == expected
    assert expected["embedding.position_PD"] == 0.0


def test_the_fused_optimizer_makes_the_steps_of_the_plain_one(make_spec):
    spec = make_spec()
    weights = []
    for fused in (True, False):
        torch.manual_seed(1)
        model = nn.Linear(5, 3)
        optimizer = make_optimizer(model, spec.training)
        assert optimizer.defaults["fused"]
        if not fused:
            optimizer = torch.optim.AdamW(
                [{**group, "fused": False} for group in optimizer.param_groups], lr=spec.training.lr
            )
        for step in range(3):
            optimizer.zero_grad()
            (model(torch.full((2, 5), step + 1.0)) ** 2).sum().backward()
            optimizer.step()
        weights.append(model.weight.detach())
    assert torch.allclose(*weights, rtol=1e-5)
