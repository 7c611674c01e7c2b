"""The optimizer and the learning rate over a trial's steps."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from trainables.models.parametrization import STANDARD, Scale
from trainables.schema import ResolvedTraining

# Brown et al. 2020, 'Language Models are Few-Shot Learners', appendix B; also Hoffmann et al. 2022 and Touvron et al.
# 2023. The second moment forgets over 20 steps rather than 1,000, which suits runs of a few hundred steps.
BETAS = (0.9, 0.95)
EPSILON = 1e-8  # the same sources
LR_FACTOR = "lr_factor"  # of a parameter group


def make_optimizer(
    model: nn.Module, training: ResolvedTraining, scales: Mapping[str, Scale] = MappingProxyType({})
) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019) over a model's parameters, fused.

    Weight decay acts on the matrices of linear layers alone: biases, norms and positions have no scale that the data
    cannot set.

    Args:
        model: any.
        training: learning rate and weight decay.
        scales: factors of both by parameter name; others have none.
    """
    matrices = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    named = sorted(model.named_parameters(), key=lambda one: one[1] not in matrices)  # matrices first, as ever
    for name, parameter in named:
        scale = scales.get(name, STANDARD)
        decay = training.weight_decay * scale.weight_decay if parameter in matrices else 0.0
        # Without factors groups are as checkpoints from before there were any have them.
        own = {} if scale.lr == 1 else {LR_FACTOR: scale.lr}
        group = groups.setdefault((scale.lr, decay), {"params": [], "weight_decay": decay, **own})
        group["params"].append(parameter)
    return AdamW(list(groups.values()), lr=training.lr, betas=BETAS, eps=EPSILON, fused=True)


def learning_rate(step: int, *, total_steps: int, training: ResolvedTraining) -> float:
    """Learning rate of a step counted from 0: linear warm-up over a fraction of all steps, then the schedule.

    ``cosine`` falls to zero over the rest (Loshchilov and Hutter 2017, eq. 5, without restarts), ``constant`` stays,
    ``wsd`` stays and falls to zero in the last steps (Hu et al. 2024, "MiniCPM"), as 1 - sqrt(share of them), which
    Hägele et al. 2024 (arXiv 2405.18392, section 3) found better than a straight line; they use a fifth of all steps.

    A pure function of the step: there is nothing to restore on resume. Warm-up starts above zero and the last step is
    not quite at zero, so that no step is wasted.
    """
    peak, warmup_steps = training.lr, round(training.warmup * total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if training.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
    if training.schedule == "constant" or training.cooldown is None:
        return peak
    falling = max(1, round(training.cooldown * total_steps))
    done = max(0, step - max(warmup_steps, total_steps - falling))
    return peak * (1 - math.sqrt(done / min(falling, total_steps - warmup_steps)))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all parameter groups the learning rate of the next step, times their own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(LR_FACTOR, 1.0)
