"""Scaling and model as one torch program: windows of features as presented in, logits or values out.

Shape suffixes: B windows, L context bars, F features, S = 2F window statistics, K classes.
"""

import torch
from torch import Tensor, nn

from trainables.data.new_bars import Fitted
from trainables.data.windows import scaled
from trainables.schema import TrialSpec
from trainables.training.calibration import Calibrator


class Program(nn.Module):
    """A trial's model with its scaling inside.

    Args:
        model: in eval mode.
        spec: of the trial.
        fitted: what was taken from its training windows.
        calibrated: of binary logits, fitted on validation.
    """

    mean: Tensor
    deviation: Tensor
    at: Tensor
    probability: Tensor

    def __init__(self, model: nn.Module, spec: TrialSpec, fitted: Fitted, calibrated: Calibrator | None = None) -> None:
        super().__init__()
        self.model = model
        self.scaling = spec.data.scaling
        self.values = spec.task.outcome == "value"
        if fitted.standard is not None:
            self.register_buffer("mean", torch.from_numpy(fitted.standard.mean_F))
            self.register_buffer("deviation", torch.from_numpy(fitted.standard.std_F))
        self.label_mean, self.label_deviation = fitted.label_mean, fitted.label_variance**0.5
        self.calibrated = calibrated or Calibrator()
        self.isotonic = self.calibrated.at_G is not None and self.calibrated.probability_G is not None
        if self.isotonic:
            self.register_buffer("at", torch.from_numpy(self.calibrated.at_G))
            self.register_buffer("probability", torch.from_numpy(self.calibrated.probability_G))

    def forward(self, x_BLF: Tensor, unit_BF: Tensor | None = None, origin_BF: Tensor | None = None) -> Tensor:
        """Logits [B] or [B, K], float32, calibrated where that is asked for; of values predicted means in label units.

        Args:
            x_BLF: float64 features as presented (`trainables.data.representation`), oldest bar first.
            unit_BF: with `scaling: revin` of raw features alone: what a difference of each is measured in at the last
                bar; 1 in the relative representation.
            origin_BF: likewise: what its level is measured from; 0 in the relative representation.
        """
        standard = (self.mean, self.deviation) if self.scaling in ("zscore", "revin") else None
        x_BLF, stats_BS = scaled(x_BLF, self.scaling == "revin", standard, unit_BF, origin_BF)
        stats_BS = None if stats_BS is None else stats_BS.float()
        outputs: Tensor = self.model(x_BLF.float(), stats_BS).float()
        if self.values:
            outputs = outputs * self.label_deviation + self.label_mean
        elif self.isotonic:
            outputs = torch.logit(self._interpolated(outputs.double())).float()
        else:
            outputs = outputs * self.calibrated.slope + self.calibrated.shift
        return outputs

    def _interpolated(self, logit_B: Tensor) -> Tensor:
        """What `numpy.interp` gives."""
        inside_B = logit_B.clamp(self.at[0], self.at[-1])
        right_B = torch.searchsorted(self.at, inside_B).clamp(1, len(self.at) - 1)
        low_B, high_B = self.at[right_B - 1], self.at[right_B]
        share_B = (inside_B - low_B) / (high_B - low_B)
        found_B: Tensor = torch.lerp(self.probability[right_B - 1], self.probability[right_B], share_B)
        return found_B


def needs_units(spec: TrialSpec) -> bool:
    """Whether a program takes units and origins, too."""
    return spec.data.scaling == "revin" and spec.data.representation == "raw"
