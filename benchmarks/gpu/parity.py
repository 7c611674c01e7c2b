"""One step on the device against the same step on the CPU in fp32: loss and gradients."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.gpu.cases import trial_spec
from benchmarks.gpu.stages import Row, Setting
from runner.probe.trial import random_windows
from trainables.models import registry
from trainables.schema import Dtype
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior
from trainables.training.step import train_step


def parity(setting: Setting) -> Iterator[Row]:
    """Relative differences of the loss and of the gradients' L2 norm of differences, for fp32 and bf16."""
    for size in setting.sizes[:2]:
        expected, gradients = _step(size, setting.batch, torch.device("cpu"), "fp32")
        for dtype in ("fp32", "bf16"):
            got, others = _step(size, setting.batch, torch.device(setting.device), dtype)
            pairs = list(zip(gradients, others, strict=True))
            off = [(one - other).norm() / one.norm().clamp_min(1e-12) for one, other in pairs]
            whole = torch.cat([(one - other).flatten() for one, other in pairs]).norm()
            yield {
                "budget": size,
                "dtype": dtype,
                "loss": got,
                "loss_off": abs(got / expected - 1),
                "gradient_off": float(whole / torch.cat([one.flatten() for one in gradients]).norm()),
                "worst_parameter_off": float(max(off)),
            }


def _step(size: str, batch: int, device: torch.device, dtype: Dtype) -> tuple[float, list[Tensor]]:
    spec = trial_spec(size, batch=batch, dtype=dtype, dropout=0.0)
    torch.manual_seed(0)
    model: nn.Module = registry.build(spec.model).to(device)
    windows = random_windows(spec, 2000, 1000, device)
    numbers_2 = train_step(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0, fused=True),
        windows,
        torch.arange(batch, device=device),
        micro_batch=batch // 2,
        loss=make_loss(spec.training, spec.task.outcome, Prior(0.5, 0.25)),
        clip=float("inf"),
        dtype=dtype,
        refused=torch.zeros((), device=device),
    )
    return float(numbers_2[0]), [p.grad.detach().float().cpu() for p in model.parameters() if p.grad is not None]
