"""A stack of LSTMs (Hochreiter and Schmidhuber 1997) over the bars of a window; the last bar's state gives the logit.

Forget gates start at a bias of 1 (Jozefowicz et al. 2015), all else as torch initializes it.

Shapes: B windows, L context bars, F features, S window stats, D width.
"""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.models.layers import BarEmbedding
from trainables.models.registry import architecture
from trainables.models.shapes import Shape
from trainables.models.window_model import WindowModel
from trainables.parts import PartConfig
from trainables.schema import DataShape

_STEPS_A_DOUBLING = 128  # widths between one power of two and the next: parameters then rise by 1.6 % at most


class Width(Shape):
    """The one size that a budget decides."""

    width: int = Field(ge=1, description="width of the states")


class Recurrence(nn.Module):
    """One LSTM over the bars, dropout on its outputs."""

    def __init__(self, width: int, dropout: float, *, last: bool) -> None:
        """`last`: only the state at the last bar is passed on."""
        super().__init__()
        self.last = last
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        biases = dict(self.lstm.named_parameters())
        with torch.no_grad():
            # torch adds two biases, in the order of its gates: input, forget, cell, output.
            biases["bias_ih_l0"][width : 2 * width].fill_(1.0)
            biases["bias_hh_l0"][width : 2 * width].zero_()

    def forward(self, x_BLD: Tensor) -> Tensor:
        """States of shape (B, L, D), or (B, D) of the last bar."""
        states_BLD: Tensor = self.lstm(x_BLD)[0]
        dropped: Tensor = self.dropout(states_BLD[:, -1] if self.last else states_BLD)
        return dropped


@architecture("lstm", version=1)
class LSTM:
    """Recurrent layers over the bars of a window."""

    class Config(PartConfig):
        """Keys of `model`."""

        layers: int = Field(2, ge=1, le=16, description="LSTMs on top of each other")
        dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    Shape = Width

    def ladder(self, config: Config, data: DataShape) -> Iterator[Width]:
        """All widths; above 256 in steps that stay below a hundredth of the width."""
        width = 1
        while True:
            yield Width(width=width)
            width += max(1, (1 << (width.bit_length() - 1)) // _STEPS_A_DOUBLING)

    def build(self, shape: Width, config: Config, data: DataShape) -> WindowModel:
        """The stack as `WindowModel` frames it."""
        return WindowModel(
            data,
            shape.width,
            embedding=BarEmbedding(data, shape.width, config.dropout),
            blocks=[
                Recurrence(shape.width, config.dropout, last=layer == config.layers - 1)
                for layer in range(config.layers)
            ],
            vectors=1,
        )
