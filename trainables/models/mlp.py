"""A residual multilayer perceptron on the flattened window, so that attention can be compared at equal budgets.

Its blocks are PatchTST's feed-forward branches: the models differ in attention and in how a window is embedded.

Shapes: B windows, L context bars, F features, S window stats, D width.
"""

from torch import Tensor, nn

from trainables.models.layers import FeedForward, Linear
from trainables.models.window_model import WindowModel
from trainables.schema import ModelShape


class WindowEmbedding(nn.Module):
    """One vector a window: all bars of all features, plus the window's stats."""

    def __init__(self, shape: ModelShape) -> None:
        """`shape` must be valid (`validity.require_valid`)."""
        super().__init__()
        self.project = Linear(shape.context * shape.n_features, shape.width)
        self.stats = Linear(shape.n_window_stats, shape.width, bias=False) if shape.n_window_stats else None
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None) -> Tensor:
        """Vectors of shape (B, D)."""
        x_BD = self.project(x_BLF.flatten(1))
        if self.stats is not None and stats_BS is not None:
            x_BD = x_BD + self.stats(stats_BS)
        dropped_BD: Tensor = self.dropout(x_BD)
        return dropped_BD


class MLP(WindowModel):
    """The perceptron as `WindowModel` frames it. `heads`, `patch` and `channels` of the shape have no meaning here."""

    def __init__(self, shape: ModelShape, *, activation_checkpointing: bool = False) -> None:
        """`shape` must be valid (`validity.require_valid`)."""
        super().__init__(
            shape,
            embedding=WindowEmbedding(shape),
            blocks=[FeedForward(shape, branches=shape.depth) for _ in range(shape.depth)],
            vectors=1,
            activation_checkpointing=activation_checkpointing,
        )
