"""iTransformer (Liu et al. 2024, "iTransformer: Inverted transformers are effective for time series forecasting").

A token is a feature, not a moment: the whole series of one feature, projected to the width. Attention runs over
features, the feed-forward over what is known of one. Pre-norm blocks and the head are those of our PatchTST, so that
the two differ in what a token is. There are no positions: features are told apart by the head, which sees all tokens.

Shapes: B windows, L context bars, F features, S window stats, D width.
"""

from pydantic import Field
from torch import Tensor, nn

from trainables.models import mup
from trainables.models.layers import Linear, transformer_blocks
from trainables.models.parametrization import Scale
from trainables.models.registry import architecture
from trainables.models.shapes import AttentionBlocks
from trainables.models.window_model import WindowModel
from trainables.parts import PartConfig
from trainables.schema import DataShape


class SeriesEmbedding(nn.Module):
    """A token for each feature: its bars, plus its own stats."""

    def __init__(self, data: DataShape, width: int, dropout: float) -> None:
        """Stats must come in blocks of F numbers, a block for each kind of statistic."""
        super().__init__()
        self.project = Linear(data.context, width)
        own_stats = data.n_window_stats // data.n_features
        self.stats = Linear(own_stats, width, bias=False) if own_stats else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None) -> Tensor:
        """Tokens of shape (B, F, D)."""
        tokens_BFD = self.project(x_BLF.transpose(1, 2))
        if self.stats is not None and stats_BS is not None:
            own_BFs = stats_BS.reshape(x_BLF.shape[0], -1, x_BLF.shape[-1]).transpose(1, 2)
            tokens_BFD = tokens_BFD + self.stats(own_BFs)
        dropped_BFD: Tensor = self.dropout(tokens_BFD)
        return dropped_BFD


@architecture("itransformer", version=1)
class ITransformer:
    """A transformer whose tokens are features (Liu et al. 2024)."""

    class Config(PartConfig):
        """Keys of `model`."""

        dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    def check(self, config: Config, data: DataShape) -> None:
        """Stats must belong to features."""
        if data.n_window_stats % data.n_features:
            raise ValueError(f"{data.n_window_stats} window stats cannot be shared out to {data.n_features} features")

    def build(self, shape: AttentionBlocks, config: Config, data: DataShape) -> WindowModel:
        """iTransformer as `WindowModel` frames it."""
        return WindowModel(
            data,
            shape.width,
            embedding=SeriesEmbedding(data, shape.width, config.dropout),
            blocks=transformer_blocks(shape, config.dropout),
            vectors=data.n_features,
        )

    def mup(self, model: WindowModel, shape: AttentionBlocks, base: AttentionBlocks) -> dict[str, Scale]:
        """Factors of its parameters relative to a base shape."""
        return mup.scales(model, shape, base)
