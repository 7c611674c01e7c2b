"""All architectures that ship keep these promises; what only one of them has is in its own file."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainables.models import registry
from trainables.models.budget import model_of
from trainables.models.registry import Architecture
from trainables.schema import DataShape, ModelSpec

BATCH, CONTEXT, FEATURES = 6, 12, 3
DATA = DataShape(n_features=FEATURES, context=CONTEXT)
STATS = DATA.model_copy(update={"n_window_stats": 2 * FEATURES})
SIZES = {"width": 16, "depth": 2, "heads": 2, "feed_forward": 24}
ARCHITECTURES = {
    "mixed": {"name": "patchtst", "patch": 4},
    "overlapping": {"name": "patchtst", "patch": 4, "stride": 2},
    "independent": {"name": "patchtst", "patch": 4, "channels": "independent"},
    "mlp": {"name": "mlp"},
    "itransformer": {"name": "itransformer"},
    "tsmixer": {"name": "tsmixer"},
    "lstm": {"name": "lstm"},
}
# An LSTM has neither a feed-forward nor a residual stream, and its recurrent weights are torch's.
RESIDUAL = [name for name in ARCHITECTURES if name != "lstm"]


@pytest.fixture(params=ARCHITECTURES)
def keys(request):
    return ARCHITECTURES[request.param]


@pytest.fixture(params=RESIDUAL)
def residual(request):
    return ARCHITECTURES[request.param]


@pytest.fixture(name="x_BLF")
def windows():
    return torch.randn(BATCH, CONTEXT, FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(name="stats_BS")
def window_stats():
    return torch.randn(BATCH, 2 * FEATURES, generator=torch.Generator().manual_seed(2))


def build(keys, seed=0, data=DATA, dropout=0.0, activation_checkpointing=False, **sizes):
    spec = ModelSpec(**keys, dropout=dropout)
    wanted = Architecture.of(spec, data).shape_type.model_fields
    model = model_of(spec, {name: size for name, size in {**SIZES, **sizes}.items() if name in wanted}, data)
    torch.manual_seed(seed)
    return registry.build(model, activation_checkpointing=activation_checkpointing)


def gradients(model, x_BLF, seed):
    torch.manual_seed(seed)
    model(x_BLF).square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_one_float32_logit_a_window(keys, x_BLF):
    logits_B = build(keys)(x_BLF)
    assert logits_B.shape == (BATCH,)
    assert logits_B.dtype == torch.float32


def test_nothing_squashes_the_logit(keys, x_BLF):
    model = build(keys)
    before_B = model(x_BLF)
    with torch.no_grad():
        model.head.bias.add_(-100.0)
    torch.testing.assert_close(model(x_BLF), before_B - 100.0)
    with torch.no_grad():
        model.head.bias.zero_()
        model.head.weight.mul_(1000.0)
    torch.testing.assert_close(model(x_BLF), before_B * 1000.0, rtol=1e-4, atol=1e-2)
    assert not any(isinstance(module, nn.Sigmoid | nn.LogSigmoid | nn.Softmax) for module in model.modules())


def test_windows_do_not_see_each_other(keys, x_BLF):
    model = build(keys)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model(x_BLF[order]), model(x_BLF)[order])
    changed_BLF = x_BLF.clone()
    changed_BLF[2] += 1.0
    moved_B = (model(changed_BLF) - model(x_BLF)).abs() > 1e-6
    assert moved_B.tolist() == [False, False, True, False, False, False]


def test_every_bar_and_feature_matters(keys, x_BLF):
    x_BLF.requires_grad_()
    build(keys)(x_BLF).sum().backward()
    assert (x_BLF.grad != 0).all()


def test_the_order_of_bars_matters(keys, x_BLF):
    model = build(keys)
    flipped_BLF = x_BLF.flip(1)
    assert ((model(flipped_BLF) - model(x_BLF)).abs() > 1e-6).all()


def test_first_predictions_lie_close_to_one_half_at_any_depth(residual, x_BLF):
    for depth in (1, 48):
        logits_B = build(residual, depth=depth)(x_BLF)
        assert 0.0 < logits_B.abs().max() < 0.5


def test_the_residual_stream_does_not_grow_with_depth(residual, x_BLF):
    spreads = []
    for depth in (1, 64):
        model = build(residual, depth=depth, width=64, heads=4, feed_forward=256)
        model.norm.register_forward_pre_hook(lambda _, args: spreads.append(args[0].std().item()))
        model(x_BLF)
    assert spreads[1] < 2 * spreads[0]


def test_initialization_follows_the_seed(keys):
    first, again, other = (build(keys, seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_initial_weights_are_cut_normal_and_biases_zero(residual):
    model = build(residual, width=64, feed_forward=256)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif name.endswith("widen.weight"):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05)
            assert parameter.abs().max().item() == pytest.approx(0.06)


def test_dropout_acts_in_training_only(keys, x_BLF):
    model = build(keys, dropout=0.5)
    assert not torch.equal(model(x_BLF), model(x_BLF))
    model.eval()
    assert torch.equal(model(x_BLF), model(x_BLF))
    plain = build(keys)
    torch.testing.assert_close(model(x_BLF), plain(x_BLF))


def test_activation_checkpointing_gives_equal_gradients_with_dropout(keys, x_BLF):
    plain = build(keys, dropout=0.3)
    checkpointed = build(keys, dropout=0.3, activation_checkpointing=True)
    calls = []
    inner = next(module for module in checkpointed.blocks[0].modules() if isinstance(module, nn.Dropout))
    inner.register_forward_pre_hook(lambda *_: calls.append(1))
    expected, actual = gradients(plain, x_BLF, seed=3), gradients(checkpointed, x_BLF, seed=3)
    assert len(calls) == 2  # forward, and again in the backward pass
    assert all(gradient.any() for gradient in expected.values())
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    with torch.no_grad():
        checkpointed.eval()(x_BLF)
    assert len(calls) == 3


def test_stats_reach_the_logit(keys, x_BLF, stats_BS):
    model = build(keys, data=STATS)
    stats_BS.requires_grad_()
    model(x_BLF, stats_BS).sum().backward()
    assert (stats_BS.grad != 0).all()
    assert model.embedding.stats.weight.grad.any()


@pytest.mark.parametrize(("n_window_stats", "given"), [(2 * FEATURES, None), (2 * FEATURES, 3), (0, 2 * FEATURES)])
def test_missing_or_unexpected_stats_are_refused(keys, x_BLF, n_window_stats, given):
    model = build(keys, data=DATA.model_copy(update={"n_window_stats": n_window_stats}))
    with pytest.raises(ValueError, match=f"built for {n_window_stats} window stats and was given {given or 0}"):
        model(x_BLF, None if given is None else torch.zeros(BATCH, given))


def test_under_autocast_blocks_run_in_bfloat16_and_logits_stay_float32(residual, x_BLF):
    model = build(residual)
    seen = []
    linear = next(module for module in model.blocks.modules() if isinstance(module, nn.Linear))
    linear.register_forward_hook(lambda _, args, output: seen.append(output.dtype))
    exact_B = model(x_BLF)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_B = model(x_BLF)
    assert seen == [torch.float32, torch.bfloat16]
    assert logits_B.dtype == torch.float32
    assert not torch.equal(logits_B, logits_B.bfloat16().float())
    torch.testing.assert_close(logits_B, exact_B, atol=0.02, rtol=0.1)
    logits_B.sum().backward()


def test_under_autocast_a_recurrence_trains_and_its_logits_stay_float32(x_BLF):
    model = build(ARCHITECTURES["lstm"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_B = model(x_BLF)
    assert logits_B.dtype == torch.float32
    torch.testing.assert_close(logits_B, model(x_BLF), atol=0.02, rtol=0.1)
    logits_B.sum().backward()


def test_forward_works_on_the_meta_device(keys, x_BLF):
    with torch.device("meta"):
        model = build(keys)
    assert model(x_BLF.to("meta")).shape == (BATCH,)


def test_a_model_can_learn_a_rule(keys):
    generator = torch.Generator().manual_seed(0)
    x_BLF = torch.randn(256, CONTEXT, FEATURES, generator=generator)
    y_B = (x_BLF[:, -1, 0] > x_BLF[:, 0, 1]).float()
    model = build(keys)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(model(x_BLF), y_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.15
