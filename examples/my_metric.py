"""A metric of one's own: how often a signal is right when it is given.

    isotherm run configs/sweeps/quickstart.yaml --plugin examples/my_metric.py --set "metrics=[top_precision]"

With a key: `--set "metrics=[{name: top_precision, share: 0.05}]"`. It has columns in `results.parquet` and in the
report, with 95 % intervals, for trials and baselines alike.
"""

import numpy as np
from pydantic import Field

import isotherm


class Keys(isotherm.PartConfig):
    """Keys in `metrics`."""

    share: float = Field(0.1, gt=0, le=1, description="share of windows that are called positive")


@isotherm.metric("top_precision", version=1, config=Keys)
def precision(labels_N: np.ndarray, outputs_N: np.ndarray, config: Keys) -> float:
    """Share of true positives among the windows with the largest outputs."""
    called = max(1, round(config.share * len(labels_N)))
    chosen = np.argsort(outputs_N, kind="stable")[-called:]
    return float(np.mean(labels_N[chosen] > 0))
