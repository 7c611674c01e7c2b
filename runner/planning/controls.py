"""Bars for the controls of a sweep: its own in random order, and as many with a planted truth.

The first have the same returns, ranges and volumes, so the same labels' shares, and no order: whatever a model finds
there is chance. In the second the next bar's direction follows a function of the bars before. Assets, dates and numbers
of bars are those of the sweep.

Array names: T bars.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from runner.config.sweep_file import Sweep
from runner.rundir.paths import DATA
from trainables.data.ohlcv import load_sources
from trainables.data.synthetic import MAX_ASSETS, Universe
from trainables.files import replacing
from trainables.schema import DataSpec

NULL, TEACHER = "null", "teacher"
KINDS = (NULL, TEACHER)
FOLDER = "controls"


def overrides(sweep: Sweep, kind: str, data_root: Path = DATA, seed: int = 0) -> list[str]:
    """Write a control's bars, one file per asset, and give what to set in the sweep: its name and its sources.

    Args:
        sweep: as understood.
        kind: `NULL` or `TEACHER`.
        data_root: folder of the datasets.
        seed: of the order, or of the teacher.

    Raises:
        DataError: a source of the sweep cannot be read or does not validate.
    """
    spec = sweep.settings.data
    folder = (data_root / FOLDER / f"{sweep.settings.name}-{kind}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (asset, frame) in enumerate(load_sources(spec).frames.items()):
        path = folder / f"{asset}.parquet"
        bars = shuffled(frame, number + seed * MAX_ASSETS) if kind == NULL else taught(frame, number, seed)
        with replacing(path) as aside:
            bars.to_parquet(aside, index=False)
        paths.append(str(path))
    plain = DataSpec(source=tuple(paths))
    return [
        f"name={sweep.settings.name}-{kind}",
        f"data.source={json.dumps(paths)}",
        "data.columns={}",
        f"data.format={json.dumps(plain.format.model_dump(mode='json'))}",
    ]


def shuffled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The bars in random order: each keeps its return, its prices relative to the close, and its volume."""
    close_T = frame["close"].to_numpy()
    order_T = 1 + np.random.default_rng(seed).permutation(len(close_T) - 1)
    moves_T = np.log(close_T[1:] / close_T[:-1])
    new_T = close_T[0] * np.exp(np.append(0.0, np.cumsum(moves_T[order_T - 1])))
    order_T = np.append(0, order_T)
    prices = {name: new_T * (frame[name].to_numpy() / close_T)[order_T] for name in ("open", "high", "low")}
    return pd.DataFrame({"date": frame.index, **prices, "close": new_T, "volume": frame["volume"].to_numpy()[order_T]})


def taught(frame: pd.DataFrame, asset: int, seed: int) -> pd.DataFrame:
    """As many bars at the same dates, with a teacher."""
    return Universe("teacher", bars=len(frame), asset=asset, seed=seed).frame().assign(date=frame.index)
