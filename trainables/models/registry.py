"""Models by name."""

from torch import nn

from trainables.models.mlp import MLP
from trainables.models.patchtst import PatchTST
from trainables.models.validity import require_valid
from trainables.schema import ModelName, ModelShape

MODELS: dict[ModelName, type[PatchTST] | type[MLP]] = {"patchtst": PatchTST, "mlp": MLP}


def build(shape: ModelShape, *, activation_checkpointing: bool = False) -> nn.Module:
    """A model on the default device, initialized from torch's global generator.

    Its ``forward(x_BLF, stats_BS=None)`` takes windows of shape (B, context, n_features) and window stats of shape
    (B, n_window_stats), None if there are none, and returns logits of shape (B,); for a regression, means.

    Raises:
        ConfigError: the patch does not divide the context, the heads do not divide the width, or the stats cannot be
            shared out to the channels.
    """
    require_valid(shape)
    return MODELS[shape.name](shape, activation_checkpointing=activation_checkpointing)
