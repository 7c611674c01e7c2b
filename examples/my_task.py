"""A task of one's own: will the price move by more than it usually does, in either direction?

isotherm plan configs/sweeps/quickstart.yaml --plugin examples/my_task.py --set 'task={kind: burst, times: 1.5}'
"""

import numpy as np
import pandas as pd
from pydantic import Field

import isotherm


@isotherm.task("burst", version=1)
class Burst:
    """1 if the return of the next `horizon` bars is beyond `times` the deviation of such returns in the past."""

    outcome = "binary"

    class Config(isotherm.PartConfig):
        horizon: int = Field(1, ge=1, description="bars ahead; its value is that of task.horizon")
        times: float = Field(1.5, gt=0, description="standard deviations that count as a burst")
        memory: int = Field(60, ge=10, description="bars of which the deviation is taken")

    def lookahead(self, config: Config) -> int:
        return config.horizon

    def labels(self, bars: pd.DataFrame, config: Config) -> np.ndarray:
        log_close = np.log(bars["close"])
        usual = log_close.diff().rolling(config.memory).std() * np.sqrt(config.horizon)
        move = log_close.shift(-config.horizon) - log_close
        burst = (move.abs() > config.times * usual).astype(float)
        return burst.where(move.notna() & usual.notna()).to_numpy()  # NaN: not known, and no window
