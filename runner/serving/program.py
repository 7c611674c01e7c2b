"""Scaling and model as one torch program: windows of features as presented in, logits or values out.

Shape suffixes: B windows, L context bars, F features, S = 2F window statistics, K classes.
"""

import torch
from torch import Tensor, nn

from trainables.data.new_bars import Fitted
from trainables.data.scaling import SCALE_FLOOR
from trainables.schema import TrialSpec


class Program(nn.Module):
    """A trial's model with its scaling inside.

    Args:
        model: in eval mode.
        spec: of the trial.
        fitted: what was taken from its training windows.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: nn.Module, spec: TrialSpec, fitted: Fitted) -> None:
        super().__init__()
        self.model = model
        self.scaling = spec.data.scaling
        self.values = spec.task.outcome == "value"
        if fitted.standard is not None:
            self.register_buffer("mean", torch.from_numpy(fitted.standard.mean_F))
            self.register_buffer("deviation", torch.from_numpy(fitted.standard.std_F))
        self.label_mean, self.label_deviation = fitted.label_mean, fitted.label_variance**0.5

    def forward(self, x_BLF: Tensor, unit_BF: Tensor | None = None, origin_BF: Tensor | None = None) -> Tensor:
        """Logits [B] or [B, K], float32; of values predicted means in label units.

        Args:
            x_BLF: float64 features as presented (`trainables.data.representation`), oldest bar first.
            unit_BF: with `scaling: revin` of raw features alone: what a difference of each is measured in at the last
                bar; 1 in the relative representation.
            origin_BF: likewise: what its level is measured from; 0 in the relative representation.
        """
        stats_BS: Tensor | None = None
        if self.scaling == "zscore":
            x_BLF = (x_BLF - self.mean) / self.deviation
        elif self.scaling == "revin":
            mean_BF, variance_BF = x_BLF.mean(dim=1), x_BLF.var(dim=1, unbiased=False)
            unit = torch.ones_like(mean_BF) if unit_BF is None else unit_BF
            origin = torch.zeros_like(mean_BF) if origin_BF is None else origin_BF
            deviation_BF = (variance_BF + (SCALE_FLOOR * unit) ** 2).sqrt()
            raw_BS = torch.cat([(deviation_BF / unit).log(), (mean_BF - origin) / unit], dim=1)
            stats_BS = ((raw_BS - self.mean) / self.deviation).float()
            x_BLF = (x_BLF - mean_BF[:, None]) / deviation_BF[:, None]
        outputs: Tensor = self.model(x_BLF.float(), stats_BS).float()
        return outputs * self.label_deviation + self.label_mean if self.values else outputs


def needs_units(spec: TrialSpec) -> bool:
    """Whether a program takes units and origins, too."""
    return spec.data.scaling == "revin" and spec.data.representation == "raw"
