"""A baseline of one's own: the outcome of the training windows that look most like the one at hand.

    isotherm run configs/sweeps/quickstart.yaml --plugin examples/my_baseline.py \
        --set "baselines=[prior, linear, {name: neighbours, count: 50}]"

It is fitted on the same windows and splits as the trials, and is in results, report and figures.
"""

import numpy as np
from pydantic import Field
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import isotherm


@isotherm.baseline("neighbours", version=1)
class Neighbours:
    """Mean label of the nearest training windows."""

    class Config(isotherm.PartConfig):
        """Keys in `baselines`."""

        count: int = Field(100, ge=1, description="windows that are averaged")

    def fit(self, windows: isotherm.SplitWindows, config: Config) -> None:
        """Keep the training windows: last value, mean and deviation of each feature."""
        self.prior = windows.labels_N.mean()
        nearest = KNeighborsRegressor(min(config.count, len(windows)), weights="distance")
        self.model = make_pipeline(StandardScaler(), nearest).fit(windows.summary_NS, windows.labels_N)

    def predict(self, windows: isotherm.SplitWindows) -> np.ndarray:
        """A logit for each window, pulled towards the base rate; of values the mean."""
        mean_N = self.model.predict(windows.summary_NS)
        if not windows.classes:
            return mean_N
        rate_N = 0.9 * self.prior + 0.1 * mean_N
        return np.log(rate_N / (1 - rate_N))
