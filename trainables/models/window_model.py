"""The frame of a model: an embedding of the window, blocks, a norm, a head.

Shapes: B windows, L context bars, F features, S window stats, K outputs, N sequences or windows, D width.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from trainables.models.layers import Head
from trainables.schema import DataShape


class WindowModel(nn.Module):
    """Logits of windows; for a regression the predicted means.

    The first logits are near zero. A trainer that knows the base rate may set ``head.bias`` to the prior's logit.
    """

    def __init__(
        self, data: DataShape, width: int, *, embedding: nn.Module, blocks: Iterable[nn.Module], vectors: int
    ) -> None:
        """Assemble a model from an embedding and blocks that keep its shape.

        Args:
            data: what the model sees, and how many numbers it gives.
            width: of the vectors.
            embedding: from ``x_BLF, stats_BS`` to vectors of the width, `vectors` of them a window.
            blocks: each from such vectors to such vectors.
            vectors: how many vectors of the width the head sees of a window.
        """
        super().__init__()
        self.n_window_stats = data.n_window_stats
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = Head(vectors * width, data.n_outputs)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None = None) -> Tensor:
        """Logits of shape (B,), or (B, K) for K > 1 outputs; float32 whatever the autocast.

        Raises:
            ValueError: `stats_BS` is missing, or is not what the model was built for.
        """
        given = 0 if stats_BS is None else stats_BS.shape[-1]
        if given != self.n_window_stats:
            raise ValueError(f"the model was built for {self.n_window_stats} window stats and was given {given}")
        x_ND = self.embedding(x_BLF, stats_BS)
        for block in self.blocks:
            x_ND = block(x_ND)
        logits_B: Tensor = self.head(self.norm(x_ND).reshape(x_BLF.shape[0], -1))
        return logits_B
