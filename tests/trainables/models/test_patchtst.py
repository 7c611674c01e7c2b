import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainables.models import registry
from trainables.models.budget import model_of
from trainables.schema import DataShape, ModelSpec

FEATURES, PATCH, PATCHES, WIDTH = 3, 4, 5, 16
DATA = DataShape(n_features=FEATURES, n_window_stats=2 * FEATURES, context=PATCH * PATCHES)
MIXED: dict[str, str | int] = {"channels": "mixed"}
INDEPENDENT: dict[str, str | int] = {"channels": "independent"}


def build(keys, data=DATA):
    torch.manual_seed(0)
    spec = ModelSpec(**{"patch": PATCH, "dropout": 0.0, **keys})
    return registry.build(model_of(spec, {"width": WIDTH, "depth": 2, "heads": 4, "feed_forward": 32}, data))


@pytest.fixture(name="x_BLF")
def windows():
    return torch.randn(2, PATCH * PATCHES, FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(name="stats_BS")
def window_stats():
    return torch.randn(2, 2 * FEATURES, generator=torch.Generator().manual_seed(2))


def final_tokens(model, x_BLF, stats_BS):
    """What the last norm makes of the tokens, by window: (B, sequences, P, D)."""
    seen = []
    handle = model.norm.register_forward_hook(lambda _, args, output: seen.append(output.detach()))
    model(x_BLF, stats_BS)
    handle.remove()
    return seen[0].view(len(x_BLF), -1, PATCHES, WIDTH)


def test_a_mixed_token_is_a_linear_map_of_all_features_of_its_patch(x_BLF, stats_BS):
    embedding = build(MIXED).embedding
    patch = x_BLF[1, 2 * PATCH : 3 * PATCH].flatten()
    expected_D = embedding.project(patch) + embedding.position_PD[2] + embedding.stats(stats_BS[1])
    torch.testing.assert_close(embedding(x_BLF, stats_BS)[1, 2], expected_D)


def test_an_independent_token_is_a_linear_map_of_its_own_feature_and_its_own_stats(x_BLF, stats_BS):
    embedding = build(INDEPENDENT).embedding
    patch = x_BLF[1, 2 * PATCH : 3 * PATCH, 2]
    own_stats = stats_BS[1, [2, FEATURES + 2]]  # blocks of F: all scales, then all levels
    expected_D = embedding.project(patch) + embedding.position_PD[2] + embedding.stats(own_stats)
    torch.testing.assert_close(embedding(x_BLF, stats_BS)[1 * FEATURES + 2, 2], expected_D)


def test_mixed_channels_make_one_sequence_and_independent_channels_one_a_feature(x_BLF, stats_BS):
    assert final_tokens(build(MIXED), x_BLF, stats_BS).shape[1] == 1
    assert final_tokens(build(INDEPENDENT), x_BLF, stats_BS).shape[1] == FEATURES


@pytest.mark.parametrize("what", ["bars", "scale", "level"])
def test_independent_sequences_do_not_see_each_other(x_BLF, stats_BS, what):
    model = build(INDEPENDENT)
    before = final_tokens(model, x_BLF, stats_BS)
    if what == "bars":
        x_BLF[..., 1] += torch.linspace(0.0, 2.0, PATCH * PATCHES)
    else:
        stats_BS[:, {"scale": 1, "level": FEATURES + 1}[what]] += 1.0
    moved = (final_tokens(model, x_BLF, stats_BS) - before).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert moved.tolist() == [False, True, False]


def test_independent_channels_share_their_weights(x_BLF, stats_BS):
    model, order = build(INDEPENDENT), torch.tensor([2, 0, 1])
    permuted = final_tokens(model, x_BLF[..., order], torch.cat([stats_BS[:, order], stats_BS[:, FEATURES + order]], 1))
    torch.testing.assert_close(permuted, final_tokens(model, x_BLF, stats_BS)[:, order])


def test_a_token_attends_to_all_others(x_BLF, stats_BS):
    model = build(MIXED)
    before = final_tokens(model, x_BLF, stats_BS)
    x_BLF[:, -PATCH:] += 1.0
    assert ((final_tokens(model, x_BLF, stats_BS) - before).abs().amax(dim=-1) > 1e-6).all()


def test_without_positions_patches_are_a_set(x_BLF, stats_BS):
    model = build(MIXED)
    shuffled_BLF = x_BLF.view(2, PATCHES, PATCH, FEATURES)[:, [3, 1, 4, 0, 2]].flatten(1, 2)
    assert not torch.allclose(final_tokens(model, shuffled_BLF, stats_BS)[:, :, 3], first_token(model, x_BLF, stats_BS))
    with torch.no_grad():
        model.embedding.position_PD.zero_()
    torch.testing.assert_close(
        final_tokens(model, shuffled_BLF, stats_BS)[:, :, 3], first_token(model, x_BLF, stats_BS), atol=1e-5, rtol=1e-4
    )


def first_token(model, x_BLF, stats_BS):
    return final_tokens(model, x_BLF, stats_BS)[:, :, 0]


def test_attention_weights_are_dropped_in_training_only(x_BLF, stats_BS):
    model = build({**MIXED, "dropout": 0.5})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()  # attention alone is left in training
    assert not torch.equal(model(x_BLF, stats_BS), model(x_BLF, stats_BS))
    model.eval()
    assert torch.equal(model(x_BLF, stats_BS), model(x_BLF, stats_BS))


def test_attention_agrees_with_its_plain_formula(x_BLF, stats_BS):
    model = build(MIXED).eval()
    fused_B = model(x_BLF, stats_BS)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(model(x_BLF, stats_BS), fused_B)
    attention = model.blocks[0].attention
    tokens_NPD = model.embedding(x_BLF, stats_BS)
    q, k, v = (
        part.view(2, PATCHES, 4, WIDTH // 4).transpose(1, 2)
        for part in attention.qkv(attention.norm(tokens_NPD)).chunk(3, dim=-1)
    )
    weights = (q @ k.transpose(-1, -2) / (WIDTH // 4) ** 0.5).softmax(-1)
    expected = tokens_NPD + attention.out((weights @ v).transpose(1, 2).reshape(2, PATCHES, WIDTH))
    torch.testing.assert_close(attention(tokens_NPD), expected)


def test_windows_may_be_strided_views(stats_BS):
    wide = torch.randn(2, PATCH * PATCHES, 2 * FEATURES)
    for shape in (MIXED, INDEPENDENT):
        model = build(shape)
        view = wide[..., ::2]
        assert torch.equal(model(view, stats_BS), model(view.contiguous(), stats_BS))


def test_overlapping_patches_are_cut_every_stride_bars_and_end_with_the_last_bar(x_BLF, stats_BS):
    embedding = build({**MIXED, "stride": 2}).embedding
    tokens_BPD = embedding(x_BLF, stats_BS)
    assert tokens_BPD.shape[1] == (PATCH * PATCHES - PATCH) // 2 + 1
    for index, first in ((3, 6), (8, PATCH * PATCHES - PATCH)):
        patch = x_BLF[1, first : first + PATCH].flatten()
        expected_D = embedding.project(patch) + embedding.position_PD[index] + embedding.stats(stats_BS[1])
        torch.testing.assert_close(tokens_BPD[1, index], expected_D)
