"""Many assets by one name, assets that start and end, membership, and values across the assets of a date."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data import catalog, membership, ohlcv, scaling, sources
from trainables.data.barfile import plain
from trainables.data.conformance import random_bars
from trainables.data.window_index import index_windows
from trainables.errors import ConfigError, DataError
from trainables.schema import DataSpec, ResolvedData, ResolvedTask, SampleSpec, SplitSpec


@pytest.fixture(scope="module")
def frames(make_bars):
    """Assets that start and end on different days, one of them too short for anything."""
    return {
        "aa": make_bars(1500, seed=1),
        "bb": make_bars(1500, seed=2).iloc[200:],
        "cc": make_bars(1500, seed=3).iloc[:700],
        "short": make_bars(50, seed=4),
    }


def long(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame.assign(symbol=asset) for asset, frame in frames.items()]).reset_index()


@pytest.fixture(scope="module")
def places(frames, tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("universe")
    for name in ("folder", "hive", "years"):
        (root / name).mkdir()
    for asset, frame in frames.items():
        frame.to_csv(root / "folder" / f"{asset}.csv")
        (root / "hive" / f"symbol={asset}").mkdir()
        half = len(frame) // 2
        for part, piece in enumerate((frame.iloc[:half], frame.iloc[half:])):
            piece.reset_index().to_parquet(root / "hive" / f"symbol={asset}" / f"part-{part}.parquet")
    whole = long(frames)
    whole.to_csv(root / "all.csv", index=False)
    for year, rows in whole.groupby(whole["date"].dt.year):
        (root / "years" / f"year={year}").mkdir()
        rows.to_parquet(root / "years" / f"year={year}" / "part-0.parquet")
    found = {"folder": "folder", "pattern": "folder/*.csv", "long": "all.csv#*", "hive": "hive", "years": "years"}
    return {name: str(root / path) for name, path in found.items()}


@pytest.mark.parametrize("name", ["folder", "pattern", "long", "hive", "years"])
def test_each_form_gives_every_asset_its_bars(places, frames, name, caplog):
    spec = DataSpec(source=places[name])
    bars = ohlcv.load_sources(spec)
    assert list(bars.frames) == ["aa", "bb", "cc"]
    for asset, frame in bars.frames.items():
        np.testing.assert_allclose(frame, frames[asset], rtol=1e-12)
        assert frame.index.equals(frames[asset].index)
    assert "left out, fewer than 100 rows: short" in caplog.text
    assert bars.source_sha256.keys() == {places[name]}


@pytest.fixture(scope="module")
def prepared(places, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    spec = DataSpec(source=places["folder"], tier="ohlcv")
    return root, spec, catalog.prepare(spec, root)


def test_one_content_whatever_the_form(prepared, places, tmp_path):
    _, _, entry = prepared
    other = catalog.prepare(DataSpec(source=places["long"], tier="ohlcv"), tmp_path)
    assert other.content_sha256 == entry.content_sha256
    assert other.assets == ("aa", "bb", "cc")


def test_a_changed_file_of_a_folder_is_a_changed_source(places, frames, tmp_path):
    (tmp_path / "prices").mkdir()
    frames["aa"].to_csv(tmp_path / "prices" / "aa.csv")
    spec = DataSpec(source=str(tmp_path / "prices"), tier="ohlcv")
    catalog.prepare(spec, tmp_path / "data")
    catalog.prepare(spec, tmp_path / "data")
    frames["bb"].to_csv(tmp_path / "prices" / "bb.csv")
    with pytest.raises(DataError, match="the source has changed"):
        catalog.prepare(spec, tmp_path / "data")


def test_an_end_is_no_gap_and_a_warm_up_leaves_short_assets_out(places, tmp_path, frames, caplog):
    (tmp_path / "prices").mkdir()
    frames["aa"].to_csv(tmp_path / "prices" / "aa.csv")
    frames["cc"].iloc[:150].to_csv(tmp_path / "prices" / "cc.csv")  # sma_200 has no value
    entry = catalog.prepare(DataSpec(source=str(tmp_path / "prices")), tmp_path / "data")
    assert entry.assets == ("aa",)
    assert "too short for the features' warm-up: cc" in caplog.text


def test_windows_end_while_the_asset_is_a_member(prepared, frames, tmp_path):
    _, spec, _ = prepared
    table = "ticker,from,to\naa,1991-01-01,1992-12-31\naa,1994-01-03,\nbb,,\n"
    (tmp_path / "members.csv").write_text(table)
    spec = spec.model_copy(update={"members": str(tmp_path / "members.csv")})
    entry = catalog.prepare(spec, tmp_path / "data")
    dataset = catalog.load(entry, tmp_path / "data")
    index = index_windows(dataset, spec, ResolvedTask(context=20))
    ends = pd.concat([pd.DataFrame({"asset": part.assets_N, "date": part.dates_N}) for part in index.splits.values()])
    aa = ends.loc[ends["asset"] == "aa", "date"]
    assert set(ends["asset"]) == {"aa", "bb"}  # cc is never a member
    assert aa.min() == pd.Timestamp("1991-01-01")
    assert not aa.between("1993-01-01", "1994-01-02").any()
    assert entry.content_sha256 != prepared[2].content_sha256
    (tmp_path / "members.csv").write_text("ticker,from,to\nzz,,\n")
    with pytest.raises(DataError, match="names none of the assets"):
        catalog.prepare(spec, tmp_path / "data", rebuild=True)


@pytest.mark.parametrize("place", [".hidden/_work/prices", "../prices"])
def test_a_folder_may_lie_anywhere_and_what_is_hidden_inside_is_not_read(
    frames, tmp_path, monkeypatch, place, make_bars
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = Path(place)
    (folder / "_old").mkdir(parents=True)
    for name in ("aa.csv", "_old/bb.csv", ".cc.csv"):
        make_bars(200).to_csv(folder / name)
    for source in (place, str(folder.absolute())):
        assert list(ohlcv.load_sources(DataSpec(source=source)).frames) == ["aa"]


def test_symbols_are_text_as_written(make_bars, tmp_path):
    """'NA' is a ticker, 'TRUE' is none of two truths, and '000001' is not 1."""
    for name, symbols in (("us", ["AAA", "BBB", "NA", "TRUE"]), ("cn", ["000001", "000858", "600519"])):
        frames = {symbol: make_bars(200, seed=seed) for seed, symbol in enumerate(symbols)}
        source = str(tmp_path / f"{name}.csv")
        long(frames).to_csv(source, index=False)
        bars = ohlcv.load_sources(DataSpec(source=f"{source}#*"))
        assert list(bars.frames) == symbols
        one = ohlcv.load_sources(DataSpec(source=f"{source}#{symbols[1]}")).frames[symbols[1]]
        np.testing.assert_allclose(one, frames[symbols[1]], rtol=1e-12)
    (tmp_path / "members.csv").write_text("asset,from,to\n000001,,\n600519,,\n000858,,\n")
    members = membership.read(str(tmp_path / "members.csv"), DataSpec(), symbols)
    assert all(members.on(symbol, bars.frames[symbol].index).all() for symbol in symbols)


def test_symbols_that_are_numbers_in_a_file_are_compared_as_text(make_bars, tmp_path):
    frames = {"858": make_bars(200), "600519": make_bars(200, seed=1)}
    table = long(frames).astype({"symbol": int})
    for name, one in (("int", table), ("float", table.astype({"symbol": float}))):
        one.to_parquet(tmp_path / f"{name}.parquet")
        source = f"{tmp_path / name}.parquet"
        assert sorted(ohlcv.load_sources(DataSpec(source=f"{source}#*")).frames) == ["600519", "858"]
        found = ohlcv.load_sources(DataSpec(source=f"{source}#858")).frames["858"]
        np.testing.assert_allclose(found, frames["858"])


def test_missing_values_next_to_symbols_are_those_of_pandas(make_bars, tmp_path):
    frame = make_bars(len(plain._MISSING)).reset_index().assign(note=plain._MISSING, symbol="NA")
    frame.to_csv(tmp_path / "a.csv", index=False)
    read = sources.read(str(tmp_path / "a.csv")).frame
    pd.testing.assert_frame_equal(read.drop(columns="symbol"), pd.read_csv(tmp_path / "a.csv").drop(columns="symbol"))
    assert read["note"].isna().all()


def test_members_that_do_not_match_are_told(tmp_path, caplog):
    path = tmp_path / "members.csv"
    path.write_text("asset,from,to\naa,2010-01-01,\nzz,,\nyy,,\n")
    membership.read(str(path), DataSpec(), ["aa", "bb"])
    assert f"{path}: 2 of 3 names are no asset: zz, yy" in caplog.text
    assert f"{path}: 1 of 2 assets have no row and are never members: bb" in caplog.text
    caplog.clear()
    membership.read(str(path), DataSpec(), ["aa", "zz", "yy"])
    assert not caplog.text


def test_members_with_dates_that_can_be_read_in_two_ways_are_refused(tmp_path):
    (tmp_path / "members.csv").write_text("asset,from,to\naa,01/02/2010,05/06/2012\n")
    with pytest.raises(DataError, match=r"members\.csv: from: .* as day/month/year") as caught:
        membership.read(str(tmp_path / "members.csv"), DataSpec(), ["aa"])
    assert "data.format: {dates:" in caught.value.problems[0].fix


def test_ranks_and_scores_across_the_assets_of_a_date():
    dates = np.array(["2020-01-02", "2020-01-03"] * 3, dtype="datetime64[ns]")
    values = np.array([[1.0], [5.0], [3.0], [5.0], [2.0], [np.nan]])
    among = np.array([True, True, True, True, True, False])
    ranks, scores = np.empty((6, 1)), np.empty((6, 1))
    scaling.across_assets(values, dates, among, rank=True, out=ranks)
    scaling.across_assets(values, dates, among, rank=False, out=scores)
    ranks, scores = ranks[:, 0], scores[:, 0]
    np.testing.assert_allclose(ranks, [-1 / 3, 0, 1 / 3, 0, 0, np.nan])
    deviation = np.std([1, 3, 2])
    np.testing.assert_allclose(scores, [-1 / deviation, 0, 1 / deviation, 0, 0, np.nan])


def test_scaling_across_assets_needs_several(prepared, make_dataset, make_bars):
    root, spec, entry = prepared
    spec = spec.model_copy(update={"scaling": "rank"})
    index = index_windows(catalog.load(entry, root), spec, ResolvedTask(context=20))
    assert np.nanmax(np.abs(index.data.values_TF)) <= 0.5
    with pytest.raises(ConfigError, match="there is one"):
        index_windows(make_dataset({"x": make_bars()}), spec, ResolvedTask(context=20))


def test_a_part_of_the_assets_and_dates_is_evenly_spread_and_in_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        random_bars(400, number).to_csv(tmp_path / f"a{number}.csv")
    spec = DataSpec(source=str(tmp_path / "*.csv"), tier="ohlcv")
    part = spec.model_copy(update={"sample": SampleSpec(assets=3, every=5)})
    entry = catalog.prepare(part, tmp_path / "data")
    assert entry.assets == ("a0", "a4", "a8")
    assert "data.sample: 3 of 9 assets: a0, a4, a8" in caplog.text
    assert catalog.name_of(part) != catalog.name_of(spec)
    dataset, task = catalog.load(entry, tmp_path / "data"), ResolvedTask(context=20)
    few, all_dates = index_windows(dataset, part, task), index_windows(dataset, spec, task)
    kept = all_dates.splits["train"].bars_N % 5 == 0
    assert few.splits["train"].dates_N.tolist() == all_dates.splits["train"].dates_N[kept].tolist()
    assert len(few.splits["test"]) == len(all_dates.splits["test"])
    assert few.effective == all_dates.effective
    plain, sampled = (
        ResolvedData(
            content_sha256="0" * 64, assets=("a",), features=("close",), tier="ohlcv", timescale="daily",
            representation="relative", scaling="none", splits=SplitSpec(), fraction=1.0, every=every,
        ).model_dump()
        for every in (1, 5)
    )  # fmt: skip
    assert "every" not in plain
    assert sampled["every"] == 5
    with pytest.raises(DataError, match="10 assets are asked for, and there are 9"):
        catalog.prepare(spec.model_copy(update={"sample": SampleSpec(assets=10)}), tmp_path / "data")
