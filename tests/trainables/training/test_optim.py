import copy
import itertools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.models import registry
from trainables.schema import ResolvedTraining, TrainingSpec
from trainables.training import optim
from trainables.training.optim import MOMENTS, learning_rate, make_optimizer, set_learning_rate


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


def test_steps_do_not_import_torchs_compiler():
    """It takes more than a second of every worker's start; a new torch may need another way to leave it out."""
    code = (
        "import sys, torch, trainables.training.optim as optim\n"
        "model = torch.nn.Linear(2, 1)\n"
        "optimizer = optim.EagerAdamW(model.parameters(), fused=True)\n"
        "model(torch.ones(3, 2)).sum().backward()\n"
        "optimizer.step()\n"
        "optimizer.zero_grad()\n"
        "optimizer.load_state_dict(optimizer.state_dict())\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def after_steps(states, count=30, refused=(), load_at=None):
    """A small model after steps of each kind of moments, and its optimizer; it may be saved and loaded on the way."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))
    training = TrainingSpec().model_dump() | {
        "global_batch": 1,
        "lr": 0.01,
        "weight_decay": 0.1,
        "warmup": 0.0,
        "seed": 0,
    }
    training = ResolvedTraining(**{name: training[name] for name in ResolvedTraining.model_fields if name in training})
    optimizer = make_optimizer(model, training, states=states)
    random = torch.Generator().manual_seed(1)
    losses = []
    for step in range(count):
        if step == load_at:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = make_optimizer(model, training, states=states)
            optimizer.load_state_dict(state)
        x_BF = torch.randn(32, 8, generator=random)
        optimizer.zero_grad()
        loss = (model(x_BF).squeeze(1) - x_BF.sum(1)).square().mean()
        loss.backward()
        optimizer.found_inf = torch.tensor(float(step in refused))
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, model, optimizer


def test_moments_in_bf16_take_half_and_learn_as_well():
    exact, _, whole = after_steps("fp32")
    losses, _, half = after_steps("bf16")
    for name in MOMENTS:
        assert {state[name].dtype for state in half.state.values()} == {torch.bfloat16}
        assert {state[name].dtype for state in whole.state.values()} == {torch.float32}
    assert losses != exact
    assert losses[-1] < 0.5 * losses[0]
    assert losses == pytest.approx(exact, rel=0.02)


def test_moments_in_bf16_are_saved_loaded_refused_and_taken_in_parts_without_a_changed_bit(monkeypatch):
    expected = after_steps("bf16", count=8)[0]
    assert after_steps("bf16", count=8, load_at=5)[0] == expected
    monkeypatch.setattr(optim, "PART_PARAMETERS", 1)
    assert after_steps("bf16", count=8)[0] == expected
    _, model, before = after_steps("bf16", count=4)
    _, same, after = after_steps("bf16", count=6, refused=(4, 5))
    for one, other in ((model.state_dict(), same.state_dict()), (before.state_dict(), after.state_dict())):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
