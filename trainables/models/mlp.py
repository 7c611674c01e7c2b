"""A residual multilayer perceptron on the flattened window, so that attention can be compared at equal budgets.

Its blocks are PatchTST's feed-forward branches: the models differ in attention and in how a window is embedded.

Shapes: B windows, L context bars, F features, S window stats, D width.
"""

from pydantic import Field
from torch import Tensor, nn

from trainables.models import mup
from trainables.models.layers import FeedForward, Linear
from trainables.models.parametrization import Scale
from trainables.models.registry import architecture
from trainables.models.shapes import Blocks
from trainables.models.window_model import WindowModel
from trainables.parts import PartConfig
from trainables.schema import DataShape


class WindowEmbedding(nn.Module):
    """One vector a window: all bars of all features, plus the window's stats."""

    def __init__(self, data: DataShape, width: int, dropout: float) -> None:
        """A projection of the bars, and one of the stats if there are any."""
        super().__init__()
        self.project = Linear(data.context * data.n_features, width)
        self.stats = Linear(data.n_window_stats, width, bias=False) if data.n_window_stats else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None) -> Tensor:
        """Vectors of shape (B, D)."""
        x_BD = self.project(x_BLF.flatten(1))
        if self.stats is not None and stats_BS is not None:
            x_BD = x_BD + self.stats(stats_BS)
        dropped_BD: Tensor = self.dropout(x_BD)
        return dropped_BD


@architecture("mlp", version=1)
class MLP:
    """A residual perceptron on the flattened window."""

    class Config(PartConfig):
        """Keys of `model`."""

        dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    Shape = Blocks

    def build(self, shape: Blocks, config: Config, data: DataShape) -> WindowModel:
        """The perceptron as `WindowModel` frames it."""
        return WindowModel(
            data,
            shape.width,
            embedding=WindowEmbedding(data, shape.width, config.dropout),
            blocks=[
                FeedForward(shape.width, shape.feed_forward, dropout=config.dropout, branches=shape.depth)
                for _ in range(shape.depth)
            ],
            vectors=1,
        )

    def mup(self, model: WindowModel, shape: Blocks, base: Blocks) -> dict[str, Scale]:
        """Factors of its parameters relative to a base shape."""
        return mup.scales(model, shape, base)
