"""The metrics that ship, for `metrics` of a sweep file."""

import numpy as np
import pandas as pd

from trainables.parts import PartConfig
from trainables.training.metric_registry import Floats, metric


@metric("hit_rate")
def hit_rate(labels_N: Floats, outputs: Floats, config: PartConfig) -> float:
    """Share of windows where the likelier class is right; of values: where the sign is."""
    if outputs.ndim == 2:
        return float(np.mean(outputs.argmax(axis=1) == labels_N))
    return float(np.mean((outputs > 0) == (labels_N > 0)))


@metric("rank_correlation")
def rank_correlation(labels_N: Floats, outputs: Floats, config: PartConfig) -> float | None:
    """Spearman's correlation of output and label; none for several classes, or where one of the two never changes."""
    if outputs.ndim == 2 or np.ptp(outputs) == 0 or np.ptp(labels_N) == 0:
        return None
    return float(np.corrcoef(pd.Series(outputs).rank(), pd.Series(labels_N).rank())[0, 1])
