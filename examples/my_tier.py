"""A feature tier of one's own: momentum over several spans, and how unusual the day's volume is.

    isotherm plan configs/sweeps/quickstart.yaml --plugin examples/my_tier.py --set data.tier=momentum

With a key: `--set data.tier.name=momentum --set data.tier.span=40`.
"""

import numpy as np
from pydantic import Field

import isotherm


class Keys(isotherm.PartConfig):
    """Keys in `data.tier`."""

    span: int = Field(20, ge=2, le=500, description="bars of the longest momentum")


@isotherm.feature_tier("momentum", version=1, config=Keys)
def momentum(bars: isotherm.AssetBars, config: Keys) -> dict[str, isotherm.Feature]:
    """Close, its change over three spans, the day's range and its volume."""
    change = {bars_back: _change(bars.close, bars_back) for bars_back in (1, config.span // 2, config.span)}
    return {
        "close": isotherm.Feature(bars.close, "close"),
        **{f"change_{bars_back}": isotherm.Feature(values, "range") for bars_back, values in change.items()},
        "day_range": isotherm.Feature(bars.high - bars.low, "range"),
        "volume": isotherm.Feature(bars.volume, "volume"),
    }


def _change(close: np.ndarray, bars_back: int) -> np.ndarray:
    """Difference to the close so many bars before; NaN while there is none."""
    return np.concatenate([np.full(bars_back, np.nan), close[bars_back:] - close[:-bars_back]])
