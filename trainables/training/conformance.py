"""A conformance kit: holds a loss against what Isotherm relies on."""

import pickle
from typing import Any

import torch
from torch import Tensor

from trainables.schema import LossSpec, Outcome, TrainingSpec
from trainables.training import loss_registry
from trainables.training.loss_registry import LOSSES, outcomes_of
from trainables.training.losses import Loss
from trainables.training.metrics import Prior

BATCH, PIECE = 24, 7
EXTREME = 60.0  # a logit, or a standardised mean, of a model that is very sure
PRIOR = Prior(0.25, 0.1875, (0.25, 0.25, 0.5))


def check_loss(part: str | type[Any], **config: Any) -> None:
    """Return if a loss keeps its contract.

    Checked for each of its outcomes: one finite number for each window, and finite gradients, also of very sure
    outputs; equal gradients however a batch is taken in pieces, unless it says ``whole_batch``; weights that are
    positive; smaller loss for outputs that agree with the labels; a config that survives pickle; a graph on the model's
    device.

    Args:
        part: the registered class, or its name.
        config: keys of the loss that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
    """
    name = part if isinstance(part, str) else _name_of(part)
    found = LOSSES.get(name)
    loss_registry.resolved(TrainingSpec(loss=LossSpec.model_validate({"name": name, **config})))
    values = found.configure(config)
    assert pickle.loads(pickle.dumps(values)) == values, "the config must survive pickle"
    for outcome in outcomes_of(found.target):
        chosen = Loss(found.target(), values, PRIOR, balanced=False, outcome=outcome)
        outputs, y_B, agreeing = _windows(outcome)
        _check_windows(chosen, outputs, y_B)
        _check_windows(chosen, EXTREME * outputs.sign(), y_B)
        _check_pieces(chosen, outputs, y_B)
        right, wrong = (_mean(chosen, sign * agreeing, y_B) for sign in (1, -1))
        assert right < wrong, (
            f"outputs that agree with the labels must have the smaller loss, not {right:g} over {wrong:g}"
        )
        _check_devices(chosen, outputs)


def _windows(outcome: Outcome) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, labels, and outputs that agree with them."""
    random = torch.Generator().manual_seed(1)
    y_B = torch.randn(BATCH, generator=random)
    if outcome == "value":
        return torch.randn(BATCH, generator=random), y_B, (y_B - PRIOR.mean) / PRIOR.deviation
    if outcome == "binary":
        y_B = (torch.arange(BATCH) % 4 == 0).float()
        return torch.randn(BATCH, generator=random), y_B, 2 * y_B - 1
    number_B = torch.arange(BATCH) % len(PRIOR.shares)
    agreeing_BK = torch.nn.functional.one_hot(number_B, len(PRIOR.shares)).float()
    return torch.randn(agreeing_BK.shape, generator=random), number_B.float(), agreeing_BK


def _name_of(target: type[Any]) -> str:
    names = [part.name for part in LOSSES if part.target is target]
    assert names, f"{target.__name__} is not registered; decorate it with isotherm.loss"
    return names[0]


def _check_windows(chosen: Loss, outputs_B: Tensor, y_B: Tensor) -> None:
    loss_B = chosen.of_windows(outputs_B, y_B)
    assert loss_B.shape == y_B.shape, f"one number a window, {tuple(y_B.shape)}, is expected, not {tuple(loss_B.shape)}"
    assert torch.isfinite(loss_B).all(), f"the loss of outputs such as {outputs_B[:3].tolist()} must be finite"
    assert torch.isfinite(_gradient(chosen, outputs_B, y_B, BATCH)).all(), (
        f"gradients of outputs such as {outputs_B[:3].tolist()} must be finite"
    )
    if hasattr(chosen.target, "weights"):
        weight_B = chosen.own_weights(y_B)
        assert weight_B.shape == y_B.shape, f"weights have shape {tuple(weight_B.shape)}, not {tuple(y_B.shape)}"
        assert bool((weight_B >= 0).all()), "weights must be at least 0"
        assert float(weight_B.sum()) > 0, "weights must not all be 0"


def _check_pieces(chosen: Loss, outputs_B: Tensor, y_B: Tensor) -> None:
    whole, pieces = (_gradient(chosen, outputs_B, y_B, size) for size in (BATCH, PIECE))
    assert getattr(chosen.target, "whole_batch", False) or torch.allclose(whole, pieces, rtol=1e-4, atol=1e-7), (
        "the gradient must not depend on how a batch is taken in pieces: a loss that compares windows with each other "
        "needs whole_batch = True"
    )
    assert bool(whole.any()), "no gradient reaches the outputs"


def _check_devices(chosen: Loss, outputs: Tensor) -> None:
    try:
        value = chosen.weighted_sum(outputs.to("meta"), torch.empty(BATCH, device="meta"))
    except RuntimeError as error:
        raise AssertionError(f"on another device the loss fails: {error}") from error
    assert value.is_meta, f"the loss is on {value.device}, outputs and labels are not"


def _gradient(chosen: Loss, outputs_B: Tensor, y_B: Tensor, size: int) -> Tensor:
    leaf_B = outputs_B.clone().requires_grad_()
    total = chosen.total_weight(y_B)
    for outputs, labels in zip(torch.split(leaf_B, size), torch.split(y_B, size), strict=True):
        value = chosen.weighted_sum(outputs, labels) / total
        assert value.requires_grad, "no gradient reaches the outputs"
        value.backward()  # type: ignore[no-untyped-call]
    assert leaf_B.grad is not None
    return leaf_B.grad


def _mean(chosen: Loss, outputs_B: Tensor, y_B: Tensor) -> float:
    return float(chosen.weighted_sum(outputs_B, y_B) / chosen.total_weight(y_B))
