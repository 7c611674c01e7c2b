"""Layers that our models share, with their initialization.

Weights are normal with a standard deviation of 0.02, those that write to the residual stream with less, biases zero.

Shapes: B windows, L context bars, F features, S window stats, D width, N sequences or windows.
"""

import math
from collections import OrderedDict
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.shapes import AttentionBlocks
from trainables.schema import DataShape

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
        if self.weight.is_meta:
            return  # counting has no values to fill, and would take most of its time here
        cut = CUT_DEVIATIONS * self.deviation
        with torch.no_grad():
            # `trunc_normal_` draws again what it cuts: 3.5 s of one core for 100M weights; this takes 0.27 s.
            self.weight.normal_(0.0, self.deviation).clamp_(-cut, cut)
            if self.bias is not None:
                self.bias.zero_()


class BarEmbedding(nn.Module):
    """A vector for each bar: all its features, plus the window's stats."""

    def __init__(self, data: DataShape, width: int, dropout: float) -> None:
        """A projection of the bars, and one of the stats if there are any."""
        super().__init__()
        self.project = Linear(data.n_features, width)
        self.stats = Linear(data.n_window_stats, width, bias=False) if data.n_window_stats else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None) -> Tensor:
        """Vectors of shape (B, L, D)."""
        x_BLD = self.project(x_BLF)
        if self.stats is not None and stats_BS is not None:
            x_BLD = x_BLD + self.stats(stats_BS).unsqueeze(1)
        dropped_BLD: Tensor = self.dropout(x_BLD)
        return dropped_BLD


class Branch(nn.Module):
    """What is added to the residual stream; `gain` multiplies it (`trainables.models.mup`)."""

    gain: float = 1.0

    def add(self, x_ND: Tensor, branch_ND: Tensor) -> Tensor:
        """The stream with the branch's share."""
        return x_ND + branch_ND if self.gain == 1.0 else x_ND + self.gain * branch_ND


class FeedForward(Branch):
    """A residual branch: norm, a wider layer with GELU, back to the width, dropout."""

    def __init__(self, width: int, inner: int, *, dropout: float, branches: int) -> None:
        """`branches`: how many write to the residual stream in the whole model."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = Linear(width, inner)
        self.narrow = Linear(inner, width, deviation=branch_deviation(branches))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_ND: Tensor) -> Tensor:
        """`x_ND`, of any leading dimensions, plus what the branch makes of it."""
        branch_ND: Tensor = self.dropout(self.narrow(F.gelu(self.widen(self.norm(x_ND)))))
        return self.add(x_ND, branch_ND)


class Attention(Branch):
    """A residual branch: norm, self-attention over a sequence's tokens, dropout.

    Products of queries and keys are multiplied by `scale`; None = 1 / root of d.

    Shapes: N sequences, P tokens, H heads, d width of a head.
    """

    scale: float | None = None

    def __init__(self, width: int, heads: int, *, dropout: float, branches: int) -> None:
        """`branches`: how many write to the residual stream in the whole model."""
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width, deviation=branch_deviation(branches))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NPD: Tensor) -> Tensor:
        """`x_NPD` plus what the branch makes of it."""
        n_sequences, n_tokens, _ = x_NPD.shape
        qkv: Tensor = self.qkv(self.norm(x_NPD))
        q_NHPd, k_NHPd, v_NHPd = qkv.view(n_sequences, n_tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        rate = self.dropout.p if self.training else 0.0
        attended_NHPd = F.scaled_dot_product_attention(q_NHPd, k_NHPd, v_NHPd, dropout_p=rate, scale=self.scale)
        branch_NPD: Tensor = self.dropout(self.out(attended_NHPd.transpose(1, 2).flatten(2)))
        return self.add(x_NPD, branch_NPD)


def transformer_blocks(shape: AttentionBlocks, dropout: float) -> list[nn.Module]:
    """Pre-norm blocks of attention and feed-forward."""
    branches = 2 * shape.depth
    return [
        nn.Sequential(
            OrderedDict(
                attention=Attention(shape.width, shape.heads, dropout=dropout, branches=branches),
                feed_forward=FeedForward(shape.width, shape.feed_forward, dropout=dropout, branches=branches),
            )
        )
        for _ in range(shape.depth)
    ]


class Head(Linear):
    """Logits from all that is known of a window, computed in float32 even under autocast.

    bfloat16 would keep eight bits of a logit and make ties among predictions. `gain` multiplies the features.
    """

    gain: float = 1.0

    def __init__(self, fan_in: int, n_outputs: int = 1) -> None:
        """Small weights and a zero bias, so that the first predictions lie close together."""
        super().__init__(fan_in, n_outputs, deviation=HEAD_GAIN / math.sqrt(fan_in))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of shape (B,), or (B, K) for K > 1 outputs, from features of shape (B, fan_in)."""
        device = features.device.type
        available = torch.amp.is_autocast_available(device)  # it is not on the meta device
        with torch.autocast(device, enabled=False) if available else nullcontext():
            logits = super().forward(features.float() if self.gain == 1.0 else self.gain * features.float())
        return logits.squeeze(-1) if self.out_features == 1 else logits


def branch_deviation(branches: int) -> float:
    """Standard deviation of weights that write to the residual stream, one of `branches` that do.

    The stream's variance would grow with their number otherwise (Radford et al. 2019, section 2.3).
    """
    return DEVIATION / math.sqrt(branches)
