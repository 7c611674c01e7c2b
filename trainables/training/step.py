"""One optimizer step in one function, and one evaluation batch in another. The resource probe measures these same two.

Tensor names: B windows of a batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.profiler import record_function

from trainables.data.windows import Windows
from trainables.errors import DivergedError
from trainables.schema import Dtype
from trainables.training.losses import Loss


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step did: the loss over the global batch, and the gradient's norm before clipping."""

    loss: float
    gradient_norm: float


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    windows: Windows,
    index_B: Tensor,
    *,
    micro_batch: int,
    loss: Loss,
    clip: float,
    dtype: Dtype,
    step: int,
) -> StepResult:
    """One optimizer step over the windows `index_B` (the global batch), taken `micro_batch` windows at a time.

    The loss is the weighted sum over the global batch over its total weight, so the gradient does not depend on
    `micro_batch` (but for rounding and dropout), also where the last piece is smaller. torch's profiler sees the
    phases gather, forward, backward, clip and optimizer.

    Args:
        model: in any mode; it is left in training mode.
        optimizer: with the learning rate of this step already set.
        windows: where the batch is gathered from.
        index_B: int64, positions in `windows`, on its device.
        micro_batch: windows that are in memory at once.
        loss: what is minimised.
        clip: largest global L2 norm of the gradient.
        dtype: ``bf16`` turns autocast on where the device is CUDA.
        step: number of this step, for the error.

    Raises:
        DivergedError: loss or gradient norm is not finite. Parameters and optimizer are as before.
    """
    if not model.training:
        model.train()
    optimizer.zero_grad(set_to_none=True)
    total_weight = loss.total_weight(windows.labels_N.index_select(0, index_B))
    pieces = []
    for piece_B in torch.split(index_B, micro_batch):
        with record_function("gather"):
            batch = windows.batch(piece_B)
        with record_function("forward"):
            with _autocast(index_B.device, dtype):
                outputs_B = model(batch.x_BLF, batch.stats_BS)
            value = loss.weighted_sum(outputs_B.float(), batch.y_B) / total_weight
        with record_function("backward"):
            value.backward()  # type: ignore[no-untyped-call]
        pieces.append(value.detach())
    with record_function("clip"):
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        result = StepResult(*torch.stack([torch.stack(pieces).sum(), norm]).tolist())  # one wait for the device
        for name, number in (("loss", result.loss), ("gradient norm", result.gradient_norm)):
            if not math.isfinite(number):
                raise DivergedError(step, name)
        if result.gradient_norm > clip:
            clip_grads_with_norm_(parameters, clip, norm)
    with record_function("optimizer"):
        optimizer.step()
    return result


@torch.no_grad()
def eval_step(model: nn.Module, windows: Windows, index_B: Tensor, *, dtype: Dtype) -> Tensor:
    """Model outputs of the windows `index_B`: float32 logits_B, logits_BK of K classes, standardised
    means_B of values, on their device.

    The model is left in evaluation mode.
    """
    if model.training:
        model.eval()
    batch = windows.batch(index_B)
    with _autocast(index_B.device, dtype):
        outputs_B: Tensor = model(batch.x_BLF, batch.stats_BS)
    return outputs_B.float()


def _autocast(device: torch.device, dtype: Dtype) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16" and device.type == "cuda")
