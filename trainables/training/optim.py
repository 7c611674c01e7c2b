"""The optimizer and the learning rate over a trial's steps."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.adamw import adamw

from trainables.models.eager import leave_out_compiler
from trainables.models.parametrization import STANDARD, Scale
from trainables.schema import OptimizerStates, ResolvedTraining

# Brown et al. 2020, 'Language Models are Few-Shot Learners', appendix B; also Hoffmann et al. 2022 and Touvron et al.
# 2023. The second moment forgets over 20 steps rather than 1,000, which suits runs of a few hundred steps.
BETAS = (0.9, 0.95)
EPSILON = 1e-8  # the same sources
LR_FACTOR = "lr_factor"  # of a parameter group
MOMENTS = ("exp_avg", "exp_avg_sq")
PART_PARAMETERS = 2**24  # updated at once: their moments in float32, which are not kept, take 128 MiB

leave_out_compiler(Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict)


class EagerAdamW(AdamW):
    """torch's AdamW, of which every step imports torch's compiler to break a graph that there is not."""

    step = torch.no_grad()(getattr(AdamW.step, "__wrapped__", AdamW.step))


class Bf16AdamW(EagerAdamW):
    """AdamW that keeps both moments in bf16, 4 bytes a parameter in place of 8, and computes in float32.

    Moments are rounded to the nearest of 8 binary digits after each step. That suits a second moment that forgets over
    20 steps, as `BETAS` has it: one that changed by less than 0.2 % a step would stay where it is.
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient, a part of them at a time."""
        for group in self.param_groups:
            part: list[Tensor] = []
            for parameter in (one for one in group["params"] if one.grad is not None):
                if part and sum(map(Tensor.numel, part)) + parameter.numel() > PART_PARAMETERS:
                    self._update(group, part)
                    part = []
                part.append(parameter)
            self._update(group, part)

    def _update(self, group: dict[str, Any], part: list[Tensor]) -> None:
        states = [self._state_of(parameter) for parameter in part]
        means, squares = ([state[name].float() for state in states] for name in MOMENTS)
        adamw(
            part,
            [parameter.grad for parameter in part if parameter.grad is not None],
            means,
            squares,
            [],
            [state["step"] for state in states],
            fused=True,
            capturable=group["capturable"],
            found_inf=getattr(self, "found_inf", None),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for state, *values in zip(states, means, squares, strict=True):
            for name, value in zip(MOMENTS, values, strict=True):
                state[name].copy_(value)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state |= {name: torch.zeros_like(parameter, dtype=torch.bfloat16) for name in MOMENTS}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state of either optimizer; torch's own way would make all of it float32 for a moment."""
        super().load_state_dict(state_dict | {"state": {}})
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            self.state[parameter] = {
                name: value.to(parameter.device, torch.bfloat16 if name in MOMENTS else value.dtype, copy=True)
                for name, value in state_dict["state"].get(number, {}).items()
            }


def make_optimizer(
    model: nn.Module,
    training: ResolvedTraining,
    scales: Mapping[str, Scale] = MappingProxyType({}),
    *,
    rates_on: torch.device | None = None,
    states: OptimizerStates = "fp32",
) -> EagerAdamW:
    """AdamW (Loshchilov and Hutter 2019) over a model's parameters, fused.

    Weight decay acts on the matrices of linear layers alone: biases, norms and positions have no scale that the data
    cannot set.

    Args:
        model: any.
        training: learning rate and weight decay.
        scales: factors of both by parameter name; others have none.
        rates_on: keeps learning rates in tensors on this device, so that steps captured as a CUDA graph can change
            them; None keeps plain numbers.
        states: dtype of the moments.
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
    kind = Bf16AdamW if states == "bf16" else EagerAdamW
    optimizer = kind(list(groups.values()), lr=training.lr, betas=BETAS, eps=EPSILON, fused=True)
    if rates_on is not None:
        put_rates_on(optimizer, rates_on)
    return optimizer


def learning_rate(step: int, *, total_steps: int, training: ResolvedTraining) -> float:
    """Learning rate of a step counted from 0: linear warm-up, then the schedule.

    ``cosine`` falls to zero over the rest (Loshchilov and Hutter 2017, eq. 5, without restarts), ``constant`` stays,
    ``wsd`` stays and falls to zero in the last steps (Hu et al. 2024, "MiniCPM"), as 1 - sqrt(share of them), which
    Hägele et al. 2024 (arXiv 2405.18392, section 3) found better than a straight line; they use a fifth of all steps.

    A pure function of the step: there is nothing to restore on resume. Warm-up starts above zero and the last step is
    not quite at zero, so that no step is wasted.
    """
    peak, warmup_steps = training.lr, training.warming(total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if training.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
    if training.schedule == "constant" or training.cooldown is None:
        return peak
    stable = training.stable_until(total_steps)
    return peak * (1 - math.sqrt(max(0, step - stable) / (total_steps - stable)))


def put_rates_on(optimizer: Optimizer, device: torch.device) -> None:
    """Keep the learning rates of all parameter groups in tensors on a device, as capturing a step needs it."""
    for group in optimizer.param_groups:
        group["lr"] = torch.full((), float(group["lr"]), device=device)
        group["capturable"] = device.type == "cuda"


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all parameter groups the learning rate of the next step, times their own factor."""
    for group in optimizer.param_groups:
        own = rate * group.get(LR_FACTOR, 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own
