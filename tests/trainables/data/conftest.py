"""Generated bars and datasets made of them."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from trainables.data import tiers
from trainables.data.dataset import CatalogEntry, Dataset
from trainables.data.fingerprint import content_sha256
from trainables.data.ohlcv import resample


def _bars(
    n: int = 900, seed: int = 0, start: str = "1990-01-01", freq: str = "B", volatility: float = 0.01
) -> pd.DataFrame:
    """A random walk with consistent open, high, low, close and volume; freq B is Monday to Friday, D every day."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, volatility, n)))
    opened = close * np.exp(rng.normal(0, volatility / 3, n))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, volatility / 2, n)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, volatility / 2, n)))
    volume = np.floor(rng.lognormal(13, 0.4, n))
    dates = pd.date_range(start, periods=n, freq=freq, name="date").astype("datetime64[ns]")
    return pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": volume}, index=dates)


def _dataset(frames: dict[str, pd.DataFrame], tier: str = "ohlcv", timescale: str = "daily") -> Dataset:
    """A dataset in memory, as `catalog` builds it, without files."""
    resampled = {asset: resample(daily, timescale) for asset, daily in sorted(frames.items())}
    computed = {asset: tiers.compute(frame, frames[asset], tier, asset) for asset, frame in resampled.items()}
    kinds = next(iter(computed.values())).kinds
    names = tuple(kinds)
    parts = []
    for asset, frame in resampled.items():
        added = computed[asset].values[[name for name in kinds if name not in frame]]
        parts.append(frame.join(added).rename_axis("date").reset_index().assign(asset=asset))
    long = pd.concat(parts, ignore_index=True)
    content = content_sha256(resampled, frames, names, "1")
    entry = CatalogEntry(
        name="generated",
        path="generated.parquet",
        sources=tuple(resampled),
        source_sha256={},
        columns={},
        sort=False,
        assets=tuple(resampled),
        timescale=timescale,
        tier=tier,
        features=names,
        kinds=kinds,
        features_version=1,
        rows=len(long),
        first_date=long["date"].min().date(),
        last_date=long["date"].max().date(),
        content_sha256=content,
        file_sha256="0" * 64,
        created_at=datetime.now(UTC),
    )
    return Dataset(long, names, entry)


@pytest.fixture(scope="session")
def make_bars() -> Callable[..., pd.DataFrame]:
    return _bars


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return _dataset
