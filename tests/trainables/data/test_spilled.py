"""Tables in files are as they were."""

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal

from trainables.data import catalog
from trainables.data.spilled import Spilled
from trainables.schema import DataSpec


def test_tables_are_in_a_file_and_as_they_were(tmp_path: Path) -> None:
    dates = pd.DatetimeIndex(pd.date_range("2020-01-01", periods=100, freq="h", name="date", unit="ns"), freq=None)
    tables = {name: pd.DataFrame({"a": np.arange(100.0), "b": seed}, index=dates) for seed, name in enumerate("xyz", 1)}
    tables = {name: table.astype(np.float64) for name, table in tables.items()}
    held = Spilled(tmp_path)
    held.update(tables)
    held["none"] = tables["x"].iloc[:0]
    assert_frame_equal(held["none"], tables["x"].iloc[:0])
    del held["none"]
    assert len(list(tmp_path.iterdir())) == 1, "one file a process"
    for name, table in tables.items():
        assert_frame_equal(held[name], table)
    assert list(held.pick(["z", "x"])) == ["z", "x"]
    assert_frame_equal(held.pick(["z"])["z"], tables["z"])
    assert len(held.like()) == 0


def test_a_dataset_is_the_same_whatever_memory_it_may_take(tmp_path: Path) -> None:
    minutes = pd.date_range("2020-01-06", periods=6000, freq="min")
    random = np.random.default_rng(0)
    (tmp_path / "bars").mkdir()
    for name in ("x", "y"):
        close = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, len(minutes))))
        table = pd.DataFrame(
            {"date": minutes, "open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
        )
        table.assign(volume=random.integers(1, 99, 6000), own=random.random(6000)).to_csv(
            tmp_path / "bars" / f"{name}.csv", index=False
        )
    asked = {
        "source": str(tmp_path / "bars"), "tier": "ohlcv", "timescale": "5min", "session": {"timezone": "UTC"},
        "features": {"columns": ["own"]},
    }  # fmt: skip
    small, large = (
        catalog.prepare(DataSpec.model_validate(asked | {"memory_limit": limit}), tmp_path / limit)
        for limit in ("1MB", "1GB")
    )
    same = {"created_at"}
    assert small.model_dump(exclude=same) == large.model_dump(exclude=same)
