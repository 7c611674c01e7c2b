"""One optimizer step in one function, and one evaluation batch in another. The resource probe measures these same two.

Tensor names: B windows of a batch.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.profiler import record_function

from trainables.data.windows import Windows
from trainables.schema import Dtype
from trainables.training import precision
from trainables.training.losses import Loss
from trainables.training.ranks import ALONE, Ranks


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    windows: Windows,
    index_B: Tensor,
    *,
    next_B: Tensor | None = None,
    micro_batch: int,
    loss: Loss,
    clip: float,
    dtype: Dtype,
    refused: Tensor,
    ranks: Ranks = ALONE,
) -> Tensor:
    """One optimizer step over the windows `index_B` (the global batch), taken `micro_batch` windows at a time.

    Nothing in it waits for the device, so it can be captured as a CUDA graph. Where the loss or the gradient norm is
    not finite, parameters and optimizer stay as they are, in this step and, as `refused` stays set, in all later ones.

    The loss is the weighted sum over the global batch over its total weight, so the gradient does not depend on
    `micro_batch` (but for rounding and dropout), also where the last piece is smaller. torch's profiler sees the
    phases gather, forward, backward, clip and optimizer.

    Of several ranks each takes its part of the global batch; what is returned is the same on all.

    Args:
        model: in any mode; it is left in training mode.
        optimizer: fused, with the learning rate of this step already set.
        windows: where the batch is gathered from.
        index_B: int64, positions in `windows`, at its table's home.
        next_B: likewise of the next step, gathered meanwhile.
        micro_batch: windows that are in memory at once.
        loss: what is minimised.
        clip: largest global L2 norm of the gradient.
        dtype: ``bf16`` turns autocast on where the device computes in it.
        refused: float32 scalar on the device, 0; 1 from the first step on that is not finite.
        ranks: of the trial.

    Returns:
        float32 [2] on the device: the loss over the global batch, and the gradient's norm before clipping.
    """
    if not model.training:
        model.train()
    optimizer.zero_grad(set_to_none=True)
    total_weight = loss.total_weight(windows.labels(index_B))
    pieces = []
    taken: list[Tensor | None] = list(torch.split(ranks.part(index_B), micro_batch))
    taken.append(None if next_B is None else ranks.part(next_B)[:micro_batch])
    for piece_B, following_B in pairwise(taken):
        assert piece_B is not None
        with record_function("gather"):
            batch = windows.batch(piece_B, following_B)
        with record_function("forward"):
            with _autocast(windows.device, dtype):
                outputs_B = model(batch.x_BLF, batch.stats_BS)
            value = loss.weighted_sum(outputs_B.float(), batch.y_B) / total_weight
        with record_function("backward"):
            ranks.backward(value)
        pieces.append(value.detach())
    with record_function("clip"):
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        ranks.sum_gradients(gradients)
        norm = ranks.norm(get_total_norm(gradients))
        total = torch.stack(pieces).sum()
        ranks.sum([total])
        numbers_2 = torch.stack([total, norm])
        refused.copy_(torch.maximum(refused, (~torch.isfinite(numbers_2)).any().float()))
        clip_grads_with_norm_(parameters, clip, norm)
    with record_function("optimizer"):
        optimizer.found_inf = refused  # type: ignore[attr-defined]  # a fused optimizer does nothing where it is 1
        optimizer.step()
    return numbers_2


@torch.no_grad()
def eval_step(
    model: nn.Module, windows: Windows, index_B: Tensor, *, next_B: Tensor | None = None, dtype: Dtype
) -> Tensor:
    """Model outputs of the windows `index_B`: float32 logits_B, logits_BK of K classes, standardised
    means_B of values, on their device.

    The model is left in evaluation mode.
    """
    if model.training:
        model.eval()
    batch = windows.batch(index_B, next_B)
    with _autocast(windows.device, dtype):
        outputs_B: Tensor = model(batch.x_BLF, batch.stats_BS)
    return outputs_B.float()


def _autocast(device: torch.device, dtype: Dtype) -> torch.autocast:
    has_bf16 = device.type == "cuda" or precision.cpu_has_bf16()
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16" and has_bf16)
