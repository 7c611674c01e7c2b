"""TSMixer (Chen et al. 2023, "TSMixer: An all-MLP architecture for time series forecasting").

Blocks that mix bars and features in turn, each a residual branch: a linear layer over time that all channels share,
then a feed-forward over channels that all bars share. As in the paper's extended form the channels are projected to a
width of their own first. Layer norms over channels stand where the paper has batch norms: a trial's result must not
depend on how a batch is cut into micro-batches.

Shapes: B windows, L context bars, F features, S window stats, D width.
"""

from collections import OrderedDict

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from trainables.models.layers import BarEmbedding, FeedForward, Linear, branch_deviation
from trainables.models.registry import architecture
from trainables.models.shapes import Blocks
from trainables.models.window_model import WindowModel
from trainables.parts import PartConfig
from trainables.schema import DataShape


class TimeMixing(nn.Module):
    """A residual branch: norm, a linear layer over bars with ReLU, dropout."""

    def __init__(self, width: int, context: int, *, dropout: float, branches: int) -> None:
        """`branches`: how many write to the residual stream in the whole model."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = Linear(context, context, deviation=branch_deviation(branches))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`x_BLD` plus what the branch makes of it."""
        branch_BDL: Tensor = self.dropout(F.relu(self.mix(self.norm(x_BLD).transpose(1, 2))))
        return x_BLD + branch_BDL.transpose(1, 2)


@architecture("tsmixer", version=1)
class TSMixer:
    """Perceptrons over bars and over channels in turn (Chen et al. 2023)."""

    class Config(PartConfig):
        """Keys of `model`."""

        dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    Shape = Blocks

    def build(self, shape: Blocks, config: Config, data: DataShape) -> WindowModel:
        """TSMixer as `WindowModel` frames it."""
        width, dropout, branches = shape.width, config.dropout, 2 * shape.depth
        blocks = [
            nn.Sequential(
                OrderedDict(
                    time=TimeMixing(width, data.context, dropout=dropout, branches=branches),
                    feed_forward=FeedForward(width, shape.feed_forward, dropout=dropout, branches=branches),
                )
            )
            for _ in range(shape.depth)
        ]
        embedding = BarEmbedding(data, width, dropout)
        return WindowModel(data, width, embedding=embedding, blocks=blocks, vectors=data.context)
