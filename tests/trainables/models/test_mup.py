"""The coordinate check of muP: activations change by as much at every size (Yang et al. 2022, appendix D)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainables.errors import ConfigError
from trainables.models import budget, registry
from trainables.models.conformance import check_architecture
from trainables.models.parametrization import Scale
from trainables.models.patchtst import PatchTST
from trainables.schema import DataShape, ModelSpec, ResolvedModel
from trainables.training.optim import LR_FACTOR, make_optimizer, set_learning_rate

DATA = DataShape(n_features=4, context=12)
STEPS, RATE = 5, 3e-3


def sizes(width: int = 64, depth: int = 2) -> dict[str, int]:
    return {"width": width, "depth": depth, "heads": 4, "feed_forward": 4 * width}


def model_of(name: str, shape: dict[str, int], base: dict[str, int] | None) -> ResolvedModel:
    spec = ModelSpec.model_validate({"name": name, "dropout": 0.0, **({"patch": 3} if name == "patchtst" else {})})
    if name == "mlp":
        shape, base = ({k: v for k, v in one.items() if k != "heads"} if one else None for one in (shape, base))
    return budget.model_of(spec, shape, DATA).model_copy(update={"base": base})


def change(make_spec, model: ResolvedModel, seed: int = 0) -> dict[str, float]:
    """Root mean square of what some steps change of the last block's output and of the logits."""
    torch.manual_seed(seed)
    built = registry.build(model)
    optimizer = make_optimizer(built, make_spec().training, registry.scales(model, built))
    random = torch.Generator().manual_seed(1)
    x_BLF = torch.randn(32, DATA.context, DATA.n_features, generator=random)
    y_B = (x_BLF[:, -1, 0] > 0).float()
    seen: dict[str, torch.Tensor] = {}
    built.blocks[-1].register_forward_hook(lambda module, inputs, output: seen.update(stream=output.detach()))
    set_learning_rate(optimizer, RATE)
    found = []
    for _ in range(STEPS + 1):
        logits_B = built(x_BLF)
        found.append({**seen, "logits": logits_B.detach()})
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits_B, y_B).backward()
        optimizer.step()
    return {name: (found[-1][name] - found[0][name]).square().mean().sqrt().item() for name in found[0]}


def slope(sizes: list[int], values: list[float]) -> float:
    """By which power of a size a value grows, from the smallest to the largest."""
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


@pytest.mark.parametrize("name", ["patchtst", "itransformer", "mlp"])
def test_activations_change_by_as_much_at_every_width(make_spec, name):
    widths = [64, 128, 256, 512]
    for base, flat in ((sizes(), True), (None, False)):
        changes = [change(make_spec, model_of(name, sizes(width), base)) for width in widths]
        slopes = {one: slope(widths, [value[one] for value in changes]) for one in changes[0]}
        if flat:
            assert all(abs(value) < 0.25 for value in slopes.values()), slopes
        else:
            assert slopes["stream"] > 0.8, f"without muP they must grow: {slopes}"


def test_activations_change_by_as_much_at_every_depth(make_spec):
    depths = [2, 4, 8, 16]
    for base, flat in ((sizes(), True), (None, False)):
        changes = [change(make_spec, model_of("patchtst", sizes(depth=depth), base)) for depth in depths]
        slopes = {one: slope(depths, [value[one] for value in changes]) for one in changes[0]}
        assert (abs(slopes["stream"]) < 0.25) is flat, slopes


def test_at_its_base_mup_is_the_standard_parametrization(make_spec):
    standard, based = (change(make_spec, model_of("patchtst", sizes(), base)) for base in (None, sizes()))
    assert based == pytest.approx(standard, rel=1e-4)


def test_groups_have_the_rates_and_decays_of_their_parameters(make_spec):
    model = model_of("patchtst", sizes(256, 4), sizes())
    built = registry.build(model)
    optimizer = make_optimizer(built, make_spec(weight_decay=0.1).training, registry.scales(model, built))
    set_learning_rate(optimizer, 1e-2)
    names = {parameter: name for name, parameter in built.named_parameters()}
    of = {names[p]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert set(of) == set(names.values())
    hidden = [name for name in of if name.startswith("blocks") and name.endswith("weight") and "norm" not in name]
    assert len(hidden) == 4 * 4
    assert all(of[name] == pytest.approx((2.5e-3, 0.4)) for name in hidden)
    assert of["head.weight"] == of["embedding.project.weight"] == (1e-2, 0.1)
    assert of["embedding.position_PD"] == of["blocks.0.attention.qkv.bias"] == (1e-2, 0.0)
    deviation = built.get_parameter("blocks.3.feed_forward.narrow.weight").std().item()
    assert deviation == pytest.approx(0.02 / math.sqrt(2 * 2) / math.sqrt(4), rel=0.02)


def test_without_mup_groups_are_as_in_earlier_checkpoints(make_spec):
    spec = make_spec()
    optimizer = make_optimizer(registry.build(spec.model), spec.training)
    assert len(optimizer.param_groups) == 2
    assert not any(LR_FACTOR in group for group in optimizer.param_groups)
    assert '"base"' not in spec.canonical()


def test_an_architecture_that_does_not_say_how_it_is_scaled_is_refused():
    spec = ModelSpec(name="lstm")
    model = budget.model_of(spec, {"width": 16}, DATA).model_copy(update={"base": {"width": 8}})
    with pytest.raises(ConfigError, match="'lstm' has no method mup"):
        registry.build(model)


def test_a_factor_of_a_parameter_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(PatchTST, "mup", lambda self, model, shape, base: {"block.weight": Scale(lr=0.5)})
    with pytest.raises(ConfigError, match=r"mup names block\.weight, which the model does not have"):
        registry.build(model_of("patchtst", sizes(128), sizes()))


def test_multipliers_are_set_wherever_a_trials_model_is_built():
    built: nn.Module = registry.build(model_of("patchtst", sizes(256, 4), sizes()))
    attention = built.blocks[0].attention
    assert (attention.scale, attention.gain, built.head.gain) == (math.sqrt(16) / 64, 0.5, 0.25)


def test_the_conformance_kit_finds_a_factor_at_the_base(monkeypatch):
    monkeypatch.setattr(PatchTST, "mup", lambda self, model, shape, base: {"head.weight": Scale(lr=0.5)})
    with pytest.raises(AssertionError, match=r"at its base no parameter is scaled, but head\.weight is"):
        check_architecture("patchtst", target=20_000)
