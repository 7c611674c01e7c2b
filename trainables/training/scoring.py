"""From a model's outputs to the numbers of a trial: one place that knows task, labels and splits.

Array names: N windows of a split, K classes.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from trainables.data.window_index import MAX_JUDGED
from trainables.data.windows import TrialData, Windows
from trainables.errors import DivergedError
from trainables.schema import EarlyStopping, MetricSpec, ResolvedTask
from trainables.training import predictions
from trainables.training.bootstrap import Floats
from trainables.training.metric_registry import METRICS, lower_is_better
from trainables.training.metrics import Prior, Scorer, Scores, is_collapsed
from trainables.training.result import split_columns

ROW_COLUMNS = ("val_loss", "skill", "val_spread", "val_auc", "val_ap", "val_brier")
PREFIXES = {"validation": "val", "test": "test"}


class TrialScorer:
    """Scores outputs for the splits of one trial. A split's labels are read when it is first scored, not before."""

    def __init__(self, data: TrialData, task: ResolvedTask) -> None:
        train = data.train.spread(MAX_JUDGED)
        self.splits: dict[str, Windows] = {"train": train, "validation": data.validation, "test": data.test}
        if data.selection is not None:
            self.splits["selection"] = data.selection
        self.prior = Prior(data.label_mean, data.label_variance, data.label_shares)
        self.values = task.outcome == "value"  # predictions are means, in need of a variance
        self._task = task
        self._scorers: dict[str, Scorer] = {}

    @property
    def chooser(self) -> str:
        """The split whose metric says which epoch is best."""
        return "selection" if "selection" in self.splits else "validation"

    def in_label_units(self, outputs_N: Floats, step: int) -> Floats:
        """Logits as they are; predicted means of values, which the model gives standardised, in the label's units.

        Raises:
            DivergedError: one is not finite.
        """
        if not np.isfinite(outputs_N).all():
            raise DivergedError(step, "model output")
        return outputs_N * self.prior.deviation + self.prior.mean if self.values else outputs_N

    def residual_variance(self, outputs_N: Floats) -> float:
        """Mean squared error of predicted means over the training split, in label units squared."""
        labels_N = self.splits["train"].labels_N.cpu().double().numpy()
        return float(np.mean((outputs_N - labels_N) ** 2))

    def scores(self, split: str, outputs_N: Floats, residual_variance: float | None) -> Scores:
        """Numbers of a split, without intervals."""
        return self._scorer(split).scores(outputs_N, residual_variance)

    def of_epoch(
        self, outputs: Mapping[str, Floats], residual_variance: float | None, rule: EarlyStopping | None
    ) -> tuple[dict[str, float], float, bool]:
        """What an epoch's row shows; the value by which epochs are chosen, and whether lower is better.

        That is NaN where it has no value (AUC of one class).
        """
        numbers = split_columns("val", self.scores("validation", outputs["validation"], residual_variance))
        shown = {name: value for name in ROW_COLUMNS if (value := numbers[name]) is not None}
        chooser, metric = self.chooser, rule.metric.removeprefix("val_") if rule else "loss"
        if chooser != "validation":
            scores = self.scores(chooser, outputs[chooser], residual_variance)
            shown["selection_loss"] = scores.loss
            shown |= {"selection_auc": scores.auc} if scores.auc is not None else {}
        value = self._scorer(chooser).value(MetricSpec(name=metric), outputs[chooser], residual_variance)
        if rule is not None and math.isfinite(value):
            shown[rule.metric if chooser == "validation" else f"selection_{metric}"] = value
        return shown, value, lower_is_better(METRICS.get(metric))

    def columns(
        self, outputs: Mapping[str, Floats], residual_variance: float | None
    ) -> tuple[dict[str, float | None], bool | None]:
        """Columns of the results table, and whether validation is collapsed; None if there is no validation.

        Outputs for the selection part have no columns: they were chosen by what they would show.
        """
        columns: dict[str, float | None] = {}
        collapsed = None
        for split, prefix in PREFIXES.items():
            if split not in outputs:
                continue
            scorer, outputs_N = self._scorer(split), outputs[split]
            scores = scorer.scores(outputs_N, residual_variance)
            intervals = scorer.intervals(outputs_N, residual_variance)
            columns |= split_columns(prefix, scores, intervals)
            if split == "validation":
                collapsed = is_collapsed(scores, intervals)
        return columns, collapsed

    def training_columns(self, outputs_N: Floats, residual_variance: float | None) -> dict[str, float | None]:
        """Skill on the training windows, scored as validation is: the gap between the two shows over-fitting."""
        return {"train_skill": self.scores("train", outputs_N, residual_variance).skill}

    def predictions(self, outputs: Mapping[str, Floats]) -> pd.DataFrame:
        """One row per window (`predictions.table`)."""
        parts = [
            predictions.table(part.dates_N, part.assets_N, split, part.labels_N.float().cpu().numpy(), outputs_N)
            for split, outputs_N in outputs.items()
            for part in [self.splits[split]]
        ]
        columns = [*predictions.PLACE, *predictions.columns(self._task.n_outputs)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def _scorer(self, split: str) -> Scorer:
        if split not in self._scorers:
            windows = self.splits[split]
            labels_N = windows.labels_N.cpu().double().numpy()
            self._scorers[split] = Scorer(labels_N, windows.dates_N, task=self._task, prior=self.prior)
        return self._scorers[split]
