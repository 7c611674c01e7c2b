"""A loss of one's own: cross-entropy whose gradient is bounded where a label is far off (generalised cross-entropy).

isotherm plan configs/sweeps/quickstart.yaml --plugin examples/my_loss.py --set 'training.loss={name: robust, q: 0.5}'
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import isotherm


@isotherm.loss("robust", version=1)
class Robust:
    """``(1 - p_t^q) / q`` (Zhang and Sabuncu 2018, eq. 6): cross-entropy for q near 0, absolute error for q = 1."""

    class Config(isotherm.PartConfig):
        q: float = Field(0.7, gt=0, le=1, description="how little windows count that are far off")

    def of_windows(self, outputs_B: Tensor, y_B: Tensor, config: Config) -> Tensor:
        log_p_B = F.logsigmoid(outputs_B * (2 * y_B - 1))  # of the label that came true
        return -torch.expm1(config.q * log_p_B) / config.q
