"""An architecture of one's own: dilated causal convolutions over the bars of a window.

isotherm plan configs/sweeps/quickstart.yaml --plugin examples/my_architecture.py --set model.name=tcn
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import isotherm


class CausalBlock(nn.Module):
    """x plus a convolution over this bar and earlier ones, then a feed-forward."""

    def __init__(self, width: int, inner: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(width)
        self.convolve = nn.Conv1d(width, inner, kernel, dilation=dilation)
        self.narrow = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width))

    def forward(self, x_BLD: Tensor) -> Tensor:
        padded_BDL = F.pad(self.norm(x_BLD).transpose(1, 2), (self.past, 0))
        return x_BLD + self.narrow(self.convolve(padded_BDL).transpose(1, 2))


class Net(nn.Module):
    def __init__(self, shape: isotherm.Blocks, config: "TCN.Config", data: isotherm.DataShape) -> None:
        super().__init__()
        self.embedding = nn.Linear(data.n_features, shape.width)  # 'embedding', 'blocks' and 'head' are known names
        sizes = (shape.width, shape.feed_forward, config.kernel)
        self.blocks = nn.ModuleList(CausalBlock(*sizes, 2 ** (i % 5), config.dropout) for i in range(shape.depth))
        self.head = nn.Linear(shape.width + data.n_window_stats, data.n_outputs)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None = None) -> Tensor:
        x_BLD = self.embedding(x_BLF)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        last = x_BLD[:, -1] if stats_BS is None else torch.cat([x_BLD[:, -1], stats_BS], dim=1)
        return self.head(last).squeeze(-1)


@isotherm.architecture("tcn", version=1)
class TCN:
    class Config(isotherm.PartConfig):
        kernel: int = Field(3, ge=2, description="bars that a convolution sees")
        dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    Shape = isotherm.Blocks

    def build(self, shape: isotherm.Blocks, config: Config, data: isotherm.DataShape) -> nn.Module:
        return Net(shape, config, data)
