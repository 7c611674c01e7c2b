"""Bars with a planted structure: the next close follows from the last two bars by a fixed teacher."""

from pathlib import Path

import numpy as np
import pandas as pd

SEEN = 2  # bars that the teacher reads, four numbers each
NOISE = 0.3  # of the next return, in deviations of the teacher's part


def write_bars(folder: Path, *, assets: int, bars: int) -> list[str]:
    """Write one CSV file per asset and return their paths; equal arguments give equal files.

    Open, high, low and volume of each bar are independent of all before. The teacher is a sum of products of pairs of
    these numbers, so that no single one of them says anything about the next close.
    """
    random = np.random.default_rng(12)
    pairs_XX = np.triu(random.normal(size=(4 * SEEN, 4 * SEEN)), 1)
    paths = []
    for number in range(assets):
        shown_TX = random.uniform(-1, 1, size=(bars, 4))
        read_TX = np.concatenate([np.roll(shown_TX, back, axis=0) for back in range(1, SEEN + 1)], axis=1)
        taught_T = np.einsum("ti,ij,tj->t", read_TX, pairs_XX, read_TX)
        moves_T = NOISE * random.normal(size=bars) + taught_T / taught_T.std()
        frame = _as_bars(100 * np.exp(0.005 * np.cumsum(moves_T)), shown_TX)
        path = folder / f"asset{number}.csv"
        frame.to_csv(path, index=False)
        paths.append(str(path))
    return paths


def _as_bars(close_T: np.ndarray, shown_TX: np.ndarray) -> pd.DataFrame:
    """Bars whose open, high, low and volume show four numbers between -1 and 1."""
    open_T = close_T * (1 + 0.005 * shown_TX[:, 0])
    columns = {
        "date": pd.bdate_range("1990-01-01", periods=len(close_T)),
        "open": open_T,
        "high": np.maximum(open_T, close_T) * (1 + 0.005 * (1 + shown_TX[:, 1])),
        "low": np.minimum(open_T, close_T) * (1 - 0.005 * (1 + shown_TX[:, 2])),
        "close": close_T,
        "volume": 1e6 * np.exp(shown_TX[:, 3]),
    }
    return pd.DataFrame(columns)
