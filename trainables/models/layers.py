"""Layers that both models share, with their initialization.

Weights are normal with a standard deviation of 0.02, those that write to the residual stream with less, biases zero.

Shapes: B windows, D width, N sequences or windows.
"""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.schema import ModelShape

DEVIATION = 0.02  # Devlin et al. 2019 (BERT), Radford et al. 2019 (GPT-2): weights and positions
CUT_DEVIATIONS = 3.0  # Groeneveld et al. 2024 (OLMo): weights are cut at three standard deviations
HEAD_GAIN = 0.1  # ours: the first logits then spread by about 0.1, the first probabilities by about 0.025


class Linear(nn.Linear):
    """``nn.Linear`` whose only initialization is ours, so that a model of 2b parameters is filled once, not twice."""

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = True, deviation: float = DEVIATION) -> None:
        """Normal weights of standard deviation `deviation`, cut at three of them; zero bias."""
        self.deviation = deviation
        super().__init__(fan_in, fan_out, bias=bias)

    def reset_parameters(self) -> None:
        """Draw the weights from torch's global generator."""
        cut = CUT_DEVIATIONS * self.deviation
        with torch.no_grad():
            # `trunc_normal_` draws again what it cuts: 3.5 s of one core for 100M weights; this takes 0.27 s.
            self.weight.normal_(0.0, self.deviation).clamp_(-cut, cut)
            if self.bias is not None:
                self.bias.zero_()


class FeedForward(nn.Module):
    """A residual branch: norm, a wider layer with GELU, back to the width, dropout."""

    def __init__(self, shape: ModelShape, *, branches: int) -> None:
        """`branches`: how many write to the residual stream in the whole model."""
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.widen = Linear(shape.width, shape.feed_forward)
        self.narrow = Linear(shape.feed_forward, shape.width, deviation=branch_deviation(branches))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_ND: Tensor) -> Tensor:
        """`x_ND`, of any leading dimensions, plus what the branch makes of it."""
        branch_ND: Tensor = self.dropout(self.narrow(F.gelu(self.widen(self.norm(x_ND)))))
        return x_ND + branch_ND


class Head(Linear):
    """One logit from all that is known of a window, computed in float32 even under autocast.

    bfloat16 would keep eight bits of a logit and make ties among predictions.
    """

    def __init__(self, fan_in: int) -> None:
        """Small weights and a zero bias, so that the first predictions lie close together."""
        super().__init__(fan_in, 1, deviation=HEAD_GAIN / math.sqrt(fan_in))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of shape (B,) from features of shape (B, fan_in)."""
        device = features.device.type
        available = torch.amp.is_autocast_available(device)  # it is not on the meta device
        with torch.autocast(device, enabled=False) if available else nullcontext():
            return super().forward(features.float()).squeeze(-1)


def branch_deviation(branches: int) -> float:
    """Standard deviation of weights that write to the residual stream, one of `branches` that do.

    The stream's variance would grow with their number otherwise (Radford et al. 2019, section 2.3).
    """
    return DEVIATION / math.sqrt(branches)
