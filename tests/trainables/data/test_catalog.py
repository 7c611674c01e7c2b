import errno
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from trainables.data import catalog, features, sources, tiers
from trainables.data.dataset import unused_words
from trainables.errors import DataError
from trainables.schema import DataSpec


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def source(make_bars, tmp_path):
    path = tmp_path / "spy.parquet"
    make_bars(n=400).to_parquet(path)
    return path


def test_the_lineage_of_a_dataset(root, make_bars, source):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    assert catalog.entries(root) == {entry.name: entry}
    assert (entry.rows, entry.assets, entry.sources) == (400, ("spy",), (str(source),))
    assert (str(entry.first_date), str(entry.last_date)) == ("1990-01-01", "1991-07-12")
    assert entry.features == tuple(features.A20)
    assert len(entry.content_sha256) == len(entry.file_sha256) == len(entry.source_sha256[str(source)]) == 64
    assert (root / entry.path).is_file()
    assert entry.path == f"{catalog.name_of(spec)}.parquet"


def test_a_loaded_dataset_holds_bars_and_raw_features(root, make_bars, tmp_path):
    one, two = make_bars(n=300, seed=1), make_bars(n=250, seed=2, start="1995-01-02")
    two.to_csv(tmp_path / "b.csv")
    one.to_csv(tmp_path / "a.csv")
    dataset = catalog.load(
        catalog.prepare(DataSpec(source=(str(tmp_path / "b.csv"), str(tmp_path / "a.csv"))), root), root
    )
    frame = dataset.frame
    assert list(frame.columns) == ["date", "asset", "open", "high", "low", "close", "volume", *dataset.features]
    assert frame["asset"].unique().tolist() == ["a", "b"]  # sorted by asset, then date
    assert str(frame["date"].dtype) == "datetime64[ns]"
    expected = tiers.compute(two, two, "a20").values
    np.testing.assert_array_equal(frame.iloc[300:][list(dataset.features)], expected)
    np.testing.assert_array_equal(frame.iloc[:300]["close"], one["close"])


def test_a_valid_set_in_a_folder_that_is_read_only_is_used(root, source, monkeypatch):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    for path in root.glob(".catalog*"):
        path.unlink()

    @contextmanager
    def refused(folder):
        raise OSError(errno.EROFS, "Read-only file system", str(folder / ".catalog.lock"))
        yield

    monkeypatch.setattr(catalog, "locked", refused)
    before = sorted(root.iterdir())
    assert catalog.prepare(spec, root) == entry
    assert sorted(root.iterdir()) == before, "nothing is written, not even a lock"
    with pytest.raises(DataError, match="Read-only file system"):
        catalog.prepare(spec, root, rebuild=True)
    with pytest.raises(DataError, match="Read-only file system"):
        catalog.prepare(DataSpec(source=str(source), timescale="weekly"), root)
    (root / entry.path).write_bytes(b"other")
    with pytest.raises(DataError, match=r"\.parquet") as caught:
        catalog.prepare(spec, root)
    assert "Read-only" not in str(caught.value), "what is wrong is the set, not the folder"


def test_an_equal_entry_is_not_built_again(root, source):
    entry = catalog.prepare(DataSpec(source=str(source)), root)
    written = (root / entry.path).stat().st_mtime_ns
    again = catalog.prepare(DataSpec(source=str(source), representation="raw", fraction=0.5), root)
    assert again == entry
    assert (root / entry.path).stat().st_mtime_ns == written


def test_one_flipped_byte_is_caught_everywhere(root, source):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    path = root / entry.path
    data = bytearray(path.read_bytes())
    for position in (0, len(data) // 2, len(data) - 1):
        data[position] ^= 1
        path.write_bytes(data)
        assert [(item.ok, item.name) for item in catalog.verify(root)] == [(False, entry.name)]
        for use in (lambda: catalog.load(entry, root), lambda: catalog.prepare(spec, root)):
            with pytest.raises(DataError, match="the file has changed since") as caught:
                use()
            assert str(path) in caught.value.problems[0].place
            assert "isotherm data prepare" in caught.value.problems[0].fix
        data[position] ^= 1
    path.write_bytes(data)
    assert all(item.ok for item in catalog.verify(root))


def test_a_changed_file_is_rebuilt_when_asked(root, source):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    (root / entry.path).write_bytes(b"garbage")
    rebuilt = catalog.prepare(spec, root, rebuild=True)
    assert rebuilt.content_sha256 == entry.content_sha256
    catalog.load(rebuilt, root)


def test_a_removed_file_is_reported_and_built_again(root, source):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    (root / entry.path).unlink()
    assert [item.message for item in catalog.verify(root)] == ["the dataset file is missing"]
    with pytest.raises(DataError, match="missing"):
        catalog.load(entry, root)
    assert catalog.prepare(spec, root).file_sha256 == entry.file_sha256


def test_a_changed_source_is_refused_until_a_rebuild(root, source, make_bars):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    make_bars(n=401).to_parquet(source)
    with pytest.raises(DataError, match="the source has changed since") as caught:
        catalog.prepare(spec, root)
    assert caught.value.problems[0].place == str(source)
    rebuilt = catalog.prepare(spec, root, rebuild=True)
    assert rebuilt.rows == 401
    assert rebuilt.content_sha256 != entry.content_sha256
    assert catalog.prepare(spec, root) == rebuilt


def test_a_missing_source_is_said_and_the_dataset_used(root, source, caplog):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    source.unlink()
    assert catalog.prepare(spec, root) == entry
    assert "cannot be compared with its source" in caplog.text


def test_the_content_hash_outlives_a_rewritten_source(root, source, make_bars):
    spec = DataSpec(source=str(source))
    entry = catalog.prepare(spec, root)
    pd.read_parquet(source).to_parquet(source, compression="gzip", row_group_size=37)
    rebuilt = catalog.prepare(spec, root, rebuild=True)
    assert rebuilt.source_sha256 != entry.source_sha256
    assert rebuilt.content_sha256 == entry.content_sha256
    csv = source.with_suffix(".csv")
    make_bars(n=400).to_csv(csv)
    assert catalog.prepare(DataSpec(source=str(csv)), root).content_sha256 == entry.content_sha256


def test_different_questions_have_different_files():
    specs = [
        DataSpec(),
        DataSpec(source="nasdaq"),
        DataSpec(source=("sp500", "nasdaq")),
        DataSpec(tier="ohlcv"),
        DataSpec(timescale="weekly"),
        DataSpec(sort=True),
        DataSpec(columns={"close": "Adj Close"}),
        DataSpec(source="a/spy.csv"),
        DataSpec(source="b/spy.csv"),
        DataSpec(source=tuple(f"folder/asset number {n}.csv" for n in range(40))),
    ]
    names = [catalog.name_of(spec) for spec in specs]
    assert len(set(names)) == len(specs)
    assert names[0].startswith("sp500-daily-a20-")
    assert max(map(len, names)) < 100
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-+") for name in names)
    assert catalog.name_of(DataSpec(scaling="revin", fraction=0.5)) == names[0]  # applied later, not in the file


def test_wrong_sources_leave_nothing_behind(root, make_bars, tmp_path):
    make_bars(n=150).to_csv(tmp_path / "short.csv")
    with pytest.raises(DataError, match="sma_200 is still warming up"):
        catalog.prepare(DataSpec(source=str(tmp_path / "short.csv")), root)
    assert not list(root.glob("*.parquet"))
    assert catalog.entries(root) == {}


def test_features_of_all_assets_are_judged_together(root, make_bars, tmp_path):
    for name in ("a", "b"):
        make_bars(n=199).to_csv(tmp_path / f"{name}.csv")
    with pytest.raises(DataError) as caught:
        catalog.prepare(DataSpec(source=(str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))), root)
    assert [problem.place for problem in caught.value.problems] == ["a", "b"]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "entries": {}}', '{"format": 1, "entries": {"x": {}}}'])
def test_a_broken_catalog_is_refused_by_name(root, text):
    root.mkdir()
    (root / "catalog.json").write_text(text)
    with pytest.raises(DataError, match=r"catalog\.json: is not a catalog"):
        catalog.verify(root)


def test_no_catalog_is_no_entries(root):
    assert catalog.verify(root) == []


def test_a_data_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match="cannot be used as the data folder"):
        catalog.prepare(DataSpec(), tmp_path / "data")


def test_the_catalog_can_be_moved(root, source, tmp_path):
    entry = catalog.prepare(DataSpec(source=str(source)), root)
    root.rename(tmp_path / "elsewhere")
    assert all(item.ok for item in catalog.verify(tmp_path / "elsewhere"))
    catalog.load(entry, tmp_path / "elsewhere")


def test_the_catalog_is_plain_json(root, source):
    entry = catalog.prepare(DataSpec(source=str(source)), root)
    document = json.loads((root / "catalog.json").read_text())
    assert document["entries"][entry.name]["content_sha256"] == entry.content_sha256


def test_writers_take_turns(root):
    asked = [DataSpec(source="goog", tier="ohlcv", timescale=scale) for scale in ("daily", "2d", "3d", "5d", "weekly")]
    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(lambda spec: catalog.prepare(spec, root), asked))
    assert len(catalog.entries(root)) == len(asked)  # no writer lost another's entry
    assert all(item.ok for item in catalog.verify(root))


def test_loading_is_fast(root):
    entry = catalog.prepare(DataSpec(), root)
    catalog.load(entry, root)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        catalog.load(entry, root)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3  # about 0.03 measured; every trial's worker pays it once


def test_columns_that_nothing_is_read_from_are_named_in_the_entry(tmp_path):
    bars = sources.read("sp500").frame.iloc[:400]
    own = {f"own_{number}": np.arange(400.0) for number in range(300)}
    wide = pd.concat([bars, pd.DataFrame({**own, "label": 1.0}, index=bars.index)], axis=1)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    bars.drop(columns="Adj Close").to_csv(tmp_path / "bare.csv", index=False)
    spec = DataSpec(source=(str(tmp_path / "wide.csv"), str(tmp_path / "bare.csv")), tier="ohlcv")
    entry = catalog.prepare(spec, tmp_path / "data")
    assert entry.unused_columns == {str(tmp_path / "wide.csv"): ("Adj Close", *own, "label")}
    assert catalog.entries(tmp_path / "data")[entry.name] == entry
    (words,) = unused_words(entry.unused_columns)
    assert words.startswith(f"302 columns of {tmp_path / 'wide.csv'}: Adj Close, own_0, own_1, ")
    assert words.endswith("own_10 and 290 more")
    assert catalog.prepare(DataSpec(source=("goog",), tier="ohlcv"), tmp_path / "data").unused_columns == {}
