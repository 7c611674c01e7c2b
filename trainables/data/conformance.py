"""A conformance kit: holds a feature tier against what Isotherm relies on."""

from typing import Any

import numpy as np
import pandas as pd

from trainables.data import causality, tiers
from trainables.data.representation import represent
from trainables.data.tier_registry import TIERS, AssetBars, Tier
from trainables.errors import DataError
from trainables.parts import Part, PartConfig

BARS = 900
_UNITS = (64.0, 64.0, 64.0, 64.0, 0.125)  # powers of two: exact in floating point


def check_tier(part: str | Tier, **config: Any) -> None:
    """Return if a feature tier keeps its contract, on generated daily bars.

    Checked: columns of one number a bar, each of a known kind; finite once warmed up; the same when computed twice;
    no change of the bars; nothing that looks ahead (`causality`); values as presented that do not depend on the unit of
    prices and volumes, which shows a wrong kind.

    Args:
        part: the registered function, or its name.
        config: keys of the tier that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
    """
    found = TIERS.find(part)
    values = found.configure(config)
    bars = random_bars(BARS)
    kept = bars.copy()
    try:
        computed = tiers.columns(found, values, AssetBars(bars, bars), "generated")
        again = tiers.columns(found, values, AssetBars(bars, bars), "generated")
        names = list(computed.kinds)
        tiers.first_complete(computed.values.to_numpy(), pd.DatetimeIndex(bars.index), names, "generated bars")
        causality.prove(found, values, {"generated": AssetBars(bars, bars)})
        here, there = (_presented(found, values, frame) for frame in (bars, bars * list(_UNITS)))
    except DataError as error:
        raise AssertionError(str(error)) from error
    assert bars.equals(kept), "a tier must not change the bars that it is given"
    assert again.values.equals(computed.values), "computed twice, a tier must give the same values"
    for column, name in enumerate(names):
        assert np.allclose(here[:, column], there[:, column], rtol=1e-6, atol=1e-9, equal_nan=True), (
            f"{name} as {computed.kinds[name]} depends on the unit of prices or volumes; give it another kind"
        )


def random_bars(count: int, seed: int = 0) -> pd.DataFrame:
    """Bars of a random walk, Monday to Friday, indexed by date."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, count)))
    opened = close * np.exp(random.normal(0, 0.004, count))
    up, down = (np.exp(np.abs(random.normal(0, 0.005, count))) for _ in range(2))
    dates = pd.date_range("2000-01-03", periods=count, freq="B", name="date").astype("datetime64[ns]")
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * up,
        "low": np.minimum(opened, close) / down,
        "close": close,
        "volume": np.floor(random.lognormal(13, 0.4, count)),
    }
    return pd.DataFrame(columns, index=dates)


def _presented(part: Part[Tier], config: PartConfig, bars: pd.DataFrame) -> np.ndarray:
    computed = tiers.columns(part, config, AssetBars(bars, bars), "generated")
    added = computed.values[[name for name in computed.kinds if name not in bars.columns]]
    return represent(bars.join(added).reset_index(), computed.kinds, "relative").values_TF
