"""PatchTST (Nie et al. 2023, "A time series is worth 64 words") with one output a window.

Pre-norm blocks (Xiong et al. 2020), GELU, learned positions, a norm, a head over all tokens. Patches follow one another
without overlap, unless `stride` is smaller than `patch`; the last one always ends with the window's last bar. Dropout
acts on the tokens, on attention weights and on what each branch adds to the tokens, in training only.

Shapes: B windows, L context bars, F features, P patches, S window stats, D width, and N sequences: N = B where channels
are mixed, N = B * F where they are independent.
"""

from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from trainables.models import mup
from trainables.models.layers import DEVIATION, Linear, transformer_blocks
from trainables.models.parametrization import Scale
from trainables.models.registry import architecture
from trainables.models.shapes import AttentionBlocks
from trainables.models.window_model import WindowModel
from trainables.parts import PartConfig
from trainables.schema import DataShape


class PatchConfig(PartConfig):
    """Keys of `model`."""

    patch: int = Field(10, ge=1, description="bars in a patch")
    stride: int | None = Field(
        None, ge=1, description="bars from one patch to the next; smaller than patch: they overlap; null = patch"
    )
    channels: Literal["mixed", "independent"] = Field("mixed", description="patches over all features, or per feature")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    @field_validator("stride")
    @classmethod
    def _equal_models_have_equal_keys(cls, stride: int | None, info: ValidationInfo) -> int | None:
        return info.data.get("patch") if stride is None else stride

    @property
    def step(self) -> int:
        """Bars from one patch to the next."""
        return self.stride or self.patch

    def patches(self, context: int) -> int:
        """Patches in a window."""
        return (context - self.patch) // self.step + 1


class PatchEmbedding(nn.Module):
    """Tokens of a window: each patch, plus its learned position, plus the window's stats.

    Mixed channels give one sequence a window: a token holds all features of a patch. Independent channels give one
    sequence a feature, with shared weights; a feature's stats then go to its own sequence alone, since they describe
    nothing else.
    """

    def __init__(self, data: DataShape, width: int, config: PatchConfig) -> None:
        """`config` must suit the data."""
        super().__init__()
        self.patch, self.step = config.patch, config.step
        self.mixed = config.channels == "mixed"
        channels, sequences = (data.n_features, 1) if self.mixed else (1, data.n_features)
        self.project = Linear(config.patch * channels, width)
        self.stats = Linear(data.n_window_stats // sequences, width, bias=False) if data.n_window_stats else None
        self.position_PD = nn.Parameter(torch.empty(config.patches(data.context), width).normal_(0.0, DEVIATION))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLF: Tensor, stats_BS: Tensor | None) -> Tensor:
        """Tokens of shape (N, P, D); with independent channels the features of one window follow one another.

        `stats_BS` holds S / F blocks of F numbers, a block a kind of statistic, in the order of the features.
        """
        n_features = x_BLF.shape[-1]
        patches = x_BLF.unfold(1, self.patch, self.step)  # (B, P, F, patch)
        patches = patches.transpose(2, 3).flatten(2) if self.mixed else patches.transpose(1, 2).flatten(0, 1)
        tokens_NPD = self.project(patches) + self.position_PD
        if self.stats is not None and stats_BS is not None:
            if not self.mixed:
                stats_BS = stats_BS.reshape(x_BLF.shape[0], -1, n_features).transpose(1, 2).flatten(0, 1)
            tokens_NPD = tokens_NPD + self.stats(stats_BS).unsqueeze(1)
        dropped_NPD: Tensor = self.dropout(tokens_NPD)
        return dropped_NPD


@architecture("patchtst", version=1)
class PatchTST:
    """A transformer over patches of the window (Nie et al. 2023)."""

    Config = PatchConfig

    def check(self, config: PatchConfig, data: DataShape) -> None:
        """Patches must cover the window, and stats must belong to channels."""
        patch, context = config.patch, data.context
        if patch > context or (context - patch) % config.step:
            if config.step == patch:
                divisors = ", ".join(str(size) for size in range(1, context + 1) if context % size == 0)
                raise ValueError(f"model.patch {patch} does not divide task.context {context}; use one of {divisors}")
            raise ValueError(
                f"patches of {patch} bars every {config.step} do not end with the last of {context} bars; "
                f"task.context less model.patch must be a multiple of model.stride"
            )
        if config.channels == "independent" and data.n_window_stats % data.n_features:
            raise ValueError(
                f"{data.n_window_stats} window stats cannot be shared out to {data.n_features} channels; "
                "give as many stats for each feature, or use channels: mixed"
            )

    def build(self, shape: AttentionBlocks, config: PatchConfig, data: DataShape) -> WindowModel:
        """PatchTST as `WindowModel` frames it."""
        sequences = 1 if config.channels == "mixed" else data.n_features
        return WindowModel(
            data,
            shape.width,
            embedding=PatchEmbedding(data, shape.width, config),
            blocks=transformer_blocks(shape, config.dropout),
            vectors=sequences * config.patches(data.context),
        )

    def mup(self, model: WindowModel, shape: AttentionBlocks, base: AttentionBlocks) -> dict[str, Scale]:
        """Factors of its parameters relative to a base shape."""
        return mup.scales(model, shape, base)
