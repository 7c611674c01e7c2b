"""PatchTST (Nie et al. 2023, "A time series is worth 64 words") with one output a window.

Pre-norm blocks (Xiong et al. 2020), GELU, learned positions, a norm, a head over all tokens; patches do not overlap.
Dropout acts on the tokens, on attention weights and on what each branch adds to the tokens, in training only.

Shapes: B windows, L context bars, F features, P patches, S window stats, D width, H heads, d width of a head, and
N sequences: N = B where channels are mixed, N = B * F where they are independent.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.layers import DEVIATION, FeedForward, Linear, branch_deviation
from trainables.models.window_model import WindowModel
from trainables.schema import ModelShape


class PatchEmbedding(nn.Module):
    """Tokens of a window: each patch, plus its learned position, plus the window's stats.

    Mixed channels give one sequence a window: a token holds all features of a patch. Independent channels give one
    sequence a feature, with shared weights; a feature's stats then go to its own sequence alone, since they describe
    that feature, and sequences stay independent up to the head.
    """

    def __init__(self, shape: ModelShape) -> None:
        """`shape` must be valid (`validity.require_valid`)."""
        super().__init__()
        self.patch = shape.patch
        self.mixed = shape.channels == "mixed"
        channels, sequences = (shape.n_features, 1) if self.mixed else (1, shape.n_features)
        self.project = Linear(shape.patch * channels, shape.width)
        stats = shape.n_window_stats // sequences
        self.stats = Linear(stats, shape.width, bias=False) if stats else None
        self.position_PD = nn.Parameter(torch.empty(shape.context // shape.patch, shape.width).normal_(0.0, DEVIATION))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None) -> Tensor:
        """Tokens of shape (N, P, D); with independent channels the features of one window follow one another.

        `stats_BS` holds S / F blocks of F numbers, a block a kind of statistic, in the order of the features.
        """
        n_windows, _, n_features = x_BLF.shape
        if self.mixed:
            patches = x_BLF.reshape(n_windows, -1, self.patch * n_features)
        else:
            patches = x_BLF.transpose(1, 2).reshape(n_windows * n_features, -1, self.patch)
        tokens_NPD = self.project(patches) + self.position_PD
        if self.stats is not None and stats_BS is not None:
            if not self.mixed:
                stats_BS = stats_BS.reshape(n_windows, -1, n_features).transpose(1, 2).flatten(0, 1)
            tokens_NPD = tokens_NPD + self.stats(stats_BS).unsqueeze(1)
        dropped_NPD: Tensor = self.dropout(tokens_NPD)
        return dropped_NPD


class Attention(nn.Module):
    """A residual branch: norm, self-attention over a sequence's tokens, dropout."""

    def __init__(self, shape: ModelShape, *, branches: int) -> None:
        """`branches`: how many write to the residual stream in the whole model."""
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.width)
        self.qkv = Linear(shape.width, 3 * shape.width)
        self.out = Linear(shape.width, shape.width, deviation=branch_deviation(branches))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_NPD: Tensor) -> Tensor:
        """`x_NPD` plus what the branch makes of it."""
        n_sequences, n_patches, _ = x_NPD.shape
        qkv: Tensor = self.qkv(self.norm(x_NPD))
        q_NHPd, k_NHPd, v_NHPd = qkv.view(n_sequences, n_patches, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        rate = self.dropout.p if self.training else 0.0
        attended_NHPd = F.scaled_dot_product_attention(q_NHPd, k_NHPd, v_NHPd, dropout_p=rate)
        branch_NPD: Tensor = self.dropout(self.out(attended_NHPd.transpose(1, 2).flatten(2)))
        return x_NPD + branch_NPD


class PatchTST(WindowModel):
    """PatchTST as `WindowModel` frames it."""

    def __init__(self, shape: ModelShape, *, activation_checkpointing: bool = False) -> None:
        """`shape` must be valid (`validity.require_valid`)."""
        branches = 2 * shape.depth
        sequences = 1 if shape.channels == "mixed" else shape.n_features
        super().__init__(
            shape,
            embedding=PatchEmbedding(shape),
            blocks=[_block(shape, branches) for _ in range(shape.depth)],
            vectors=sequences * (shape.context // shape.patch),
            activation_checkpointing=activation_checkpointing,
        )


def _block(shape: ModelShape, branches: int) -> nn.Module:
    attention, feed_forward = Attention(shape, branches=branches), FeedForward(shape, branches=branches)
    return nn.Sequential(OrderedDict(attention=attention, feed_forward=feed_forward))
