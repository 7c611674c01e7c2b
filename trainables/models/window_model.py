"""The frame of a model: an embedding of the window, residual blocks, a norm, a head.

Shapes: B windows, L context bars, F features, S window stats, N sequences or windows, D width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainables.models.layers import Head
from trainables.schema import ModelShape


class WindowModel(nn.Module):
    """Logits of windows; for a regression the predicted means.

    The first logits are near zero. A trainer that knows the base rate may set ``head.bias`` to the prior's logit.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        embedding: nn.Module,
        blocks: Iterable[nn.Module],
        vectors: int,
        activation_checkpointing: bool,
    ) -> None:
        """Assemble a model from an embedding and blocks that keep its shape.

        Args:
            shape: a valid shape (`validity.require_valid`).
            embedding: from ``x_BLF, stats_BS`` to vectors of the width, `vectors` of them a window.
            blocks: residual blocks, each from such vectors to such vectors.
            vectors: how many vectors of the width the head sees of a window.
            activation_checkpointing: keep only the blocks' inputs in a training pass and run each block again in the
                backward pass, with the same dropout: less memory, equal gradients, about a third more time.
        """
        super().__init__()
        self.n_window_stats = shape.n_window_stats
        self.activation_checkpointing = activation_checkpointing
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(shape.width)
        self.head = Head(vectors * shape.width)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None = None) -> Tensor:
        """Logits of shape (B,), float32 whatever the autocast.

        Raises:
            ValueError: `stats_BS` is missing, or is not what the model was built for.
        """
        given = 0 if stats_BS is None else stats_BS.shape[-1]
        if given != self.n_window_stats:
            raise ValueError(f"the model was built for {self.n_window_stats} window stats and was given {given}")
        x_ND = self.embedding(x_BLF, stats_BS)
        for block in self.blocks:
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_ND = checkpoint(block, x_ND, use_reentrant=False, preserve_rng_state=True)
            else:
                x_ND = block(x_ND)
        logits_B: Tensor = self.head(self.norm(x_ND).reshape(x_BLF.shape[0], -1))
        return logits_B
