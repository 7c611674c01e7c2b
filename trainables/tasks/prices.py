"""The tasks that ship: what happens to the price in the next bars.

Array names: T bars, now the bars that have `horizon` bars after them.
"""

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from trainables.parts import PartConfig
from trainables.tasks.registry import task

Array = npt.NDArray[np.float64]

# Relative difference of prices that counts as none. Prices are decimal numbers, and in binary close x (1 + threshold)
# is off by some 1e-16: compared exactly, 6 to 16 of 100 highs of 1 % more and 32 of 100 of 5 % more would be missed. A
# price in cents that does not reach a threshold of whole percents misses it by 1e-4, which is more than this up to a
# price of a million.
ROUNDING = 1e-10


class Horizon(PartConfig):
    """The key of `task` that all of them use."""

    horizon: int = Field(1, ge=1, description="bars ahead")


class _Ahead:
    """Labels that use `horizon` bars, and are not known where fewer follow, even if the outcome is certain by then."""

    def lookahead(self, config: Horizon) -> int:
        """All of the horizon, and nothing after it."""
        return config.horizon


@task("threshold")
class Threshold(_Ahead):
    """1 if the highest high (or close) of the next bars reaches close x (1 + threshold)."""

    class Config(Horizon):
        """Keys in `task`."""

        threshold: float = Field(0.01, gt=0, lt=1, description="rise that counts, as a share of the close")
        price: Literal["high", "close"] = Field("high", description="which price must reach the threshold")

    def labels(self, bars: pd.DataFrame, config: Config) -> Array:
        """0 or 1; a price of exactly the threshold reaches it."""
        highest = _extreme(bars[config.price], config.horizon, "max")
        return _labels(bars, config.horizon, lambda now, _: highest >= now * (1 + config.threshold) * (1 - ROUNDING))


class Unread(Horizon):
    """Keys that the first trials of these tasks have in their keys."""

    threshold: float = Field(0.01, gt=0, lt=1, deprecated=True, description="without effect on this task")
    price: Literal["high", "close"] = Field("high", deprecated=True, description="without effect on this task")


@task("direction")
class Direction(_Ahead):
    """1 if the close `horizon` bars later is above the close."""

    Config = Unread

    def labels(self, bars: pd.DataFrame, config: Unread) -> Array:
        """0 or 1; an equal price is no rise."""
        return _labels(bars, config.horizon, lambda now, later: later > now * (1 + ROUNDING))


@task("regression")
class Regression(_Ahead):
    """The log return from the close to the close `horizon` bars later."""

    Config = Unread
    outcome = "value"

    def labels(self, bars: pd.DataFrame, config: Unread) -> Array:
        """Log returns."""
        return _labels(bars, config.horizon, lambda now, later: np.log(later / now))


@task("drawdown")
class Drawdown(_Ahead):
    """1 if the lowest low (or close) of the next bars falls to close x (1 - threshold)."""

    class Config(Horizon):
        """Keys in `task`."""

        threshold: float = Field(0.02, gt=0, lt=1, description="fall that counts, as a share of the close")
        price: Literal["low", "close"] = Field("low", description="which price must fall to the threshold")

    def labels(self, bars: pd.DataFrame, config: Config) -> Array:
        """0 or 1; a price of exactly the threshold has fallen to it."""
        lowest = _extreme(bars[config.price], config.horizon, "min")
        return _labels(bars, config.horizon, lambda now, _: lowest <= now * (1 - config.threshold) * (1 + ROUNDING))


@task("bands")
class Bands(_Ahead):
    """Loss, neutral or gain: in which of three bands the close `horizon` bars later lies."""

    class Config(Horizon):
        """Keys in `task`."""

        loss: float = Field(-0.01, gt=-1, lt=1, description="change of the close at or below which it is a loss")
        gain: float = Field(0.01, gt=-1, lt=1, description="change of the close at or above which it is a gain")

        @model_validator(mode="after")
        def _apart(self) -> Self:
            if self.loss >= self.gain:
                raise ValueError(f"loss {self.loss:g} must be below gain {self.gain:g}")
            return self

    outcome = "classes"
    classes = ("loss", "neutral", "gain")

    def labels(self, bars: pd.DataFrame, config: Config) -> Array:
        """0, 1 or 2; a change of exactly a threshold is beyond it."""

        def band(now: Array, later: Array) -> Array:
            gain = later >= now * (1 + config.gain) * (1 - ROUNDING)
            return np.where(later <= now * (1 + config.loss) * (1 + ROUNDING), 0.0, np.where(gain, 2.0, 1.0))

        return _labels(bars, config.horizon, band)


def _extreme(price_T: "pd.Series[float]", horizon: int, which: Literal["min", "max"]) -> Array:
    """The lowest or highest of bars t+1 .. t+horizon, for each t that has them."""
    rolling = price_T.astype(np.float64).rolling(horizon)
    return np.asarray(rolling.max() if which == "max" else rolling.min(), dtype=np.float64)[horizon:]


def _labels(bars: pd.DataFrame, horizon: int, of: Callable[[Array, Array], npt.NDArray[np.generic]]) -> Array:
    """Labels of the closes now and `horizon` bars later; NaN where fewer bars follow."""
    close_T = bars["close"].to_numpy(dtype=np.float64)
    labels_T = np.full(len(close_T), np.nan)
    if len(close_T) > horizon:
        labels_T[:-horizon] = of(close_T[:-horizon], close_T[horizon:])
    return labels_T
