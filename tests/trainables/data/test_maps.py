import logging
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from trainables import tables
from trainables.data import catalog, window_index, windows, workers
from trainables.data.fingerprint import _POWERS, _digits
from trainables.data.maps import Maps
from trainables.data.window_index import index_windows
from trainables.schema import DataSpec, ResolvedData, ResolvedTask

TASK = ResolvedTask(context=20, kind="direction")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, make_bars):
    """A universe of three assets, one without its last bars, as a folder of files."""
    root = tmp_path_factory.mktemp("universe")
    (root / "bars").mkdir()
    for number, n in enumerate((900, 900, 860)):
        make_bars(n=n, seed=number).reset_index().to_parquet(root / "bars" / f"a{number}.parquet")
    spec = DataSpec(source=(str(root / "bars"),), tier="ohlcv")
    return root, spec, catalog.prepare(spec, root / "data")


def resolved(entry, **values):
    known = {name: getattr(entry, name) for name in ("content_sha256", "assets", "features", "tier", "timescale")}
    spec = DataSpec()
    shown = {name: getattr(spec, name) for name in ("representation", "scaling", "splits", "fraction")}
    return ResolvedData(**(known | shown | values))


def counted(log, value=1.0):
    def make(new):
        log.append(1)
        new("x", np.float32, (4, 3))[:] = value
        return {"n": 7}

    return make


def test_what_is_kept_is_made_once_and_made_anew_where_it_is_doubtful(tmp_path):
    made = []
    first = Maps(tmp_path / "m", "a").kept("g", counted(made))
    again = Maps(tmp_path / "m", "a").kept("g", counted(made))
    assert len(made) == 1
    assert again.info == {"n": 7}
    assert isinstance(again["x"], np.memmap)
    np.testing.assert_array_equal(first["x"], again["x"])
    again["x"][:] = 5  # copy on write: the file stays
    np.testing.assert_array_equal(Maps(tmp_path / "m", "a").kept("g", counted(made))["x"], 1)
    assert Maps(tmp_path / "m", "b").kept("g", counted(made, 2.0))["x"][0, 0] == 2  # of another dataset's file
    file = tmp_path / "m" / "g" / "x.npy"
    file.write_bytes(file.read_bytes()[:-4])
    assert Maps(tmp_path / "m", "b").kept("g", counted(made, 3.0))["x"][0, 0] == 3
    assert len(made) == 3
    assert [one.name for one in (tmp_path / "m").iterdir()] == ["g"]


def test_a_folder_that_cannot_be_written_keeps_them_in_memory(tmp_path):
    (tmp_path / "file").touch()
    made = []
    maps = Maps(tmp_path / "file" / "m", "a")
    assert maps.kept("g", counted(made)) is maps.kept("g", counted(made))
    assert len(made) == 1


def test_a_mapped_dataset_has_the_windows_of_one_in_memory(prepared):
    root, _, entry = prepared
    mapped = catalog.load(entry, root / "data")
    memory = windows.Dataset(mapped.frame, entry.features, entry)
    for scaling in ("zscore", "revin", "rank"):
        data = resolved(entry, scaling=scaling)
        one, other = (windows.build(each, data, TASK, torch.device("cpu")) for each in (mapped, memory))
        assert isinstance(one.train.table._mapped[0], np.memmap)
        assert (one.label_mean, one.label_variance, one.label_shares) == (
            other.label_mean, other.label_variance, other.label_shares
        )  # fmt: skip
        for name in ("train", "validation", "test"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert torch.equal(ours.ends_N, theirs.ends_N)
            assert (ours.assets_N == theirs.assets_N).all()
            index = torch.arange(len(ours))
            for a, b in zip(ours.batch(index), theirs.batch(index), strict=True):
                assert (a is None and b is None) or torch.equal(a, b)
    assert mapped.rows == memory.rows


def test_a_batch_that_was_gathered_ahead_is_the_same_batch(prepared, monkeypatch):
    root, _, entry = prepared
    monkeypatch.setattr(windows, "RESIDENT_BYTES", 0)  # pages are let go after each batch
    train = windows.build(catalog.load(entry, root / "data"), resolved(entry), TASK, torch.device("cpu")).train
    pieces = torch.split(torch.randperm(len(train), generator=torch.Generator().manual_seed(0)), 64)
    plain = [train.batch(piece) for piece in pieces]
    ahead = [train.batch(piece, after) for piece, after in zip(pieces, [*pieces[1:], None], strict=True)]
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one.x_BLF, other.x_BLF)
    train.batch(pieces[0], pieces[1])
    assert torch.equal(train.batch(pieces[2]).x_BLF, plain[2].x_BLF)  # another one than was announced
    assert train.table.waited_s > 0


def test_parts_that_judge_are_sampled_above_a_number_and_say_so(prepared, monkeypatch):
    root, spec, entry = prepared
    whole = index_windows(windows.Dataset(catalog.load(entry, root / "data").frame, entry.features, entry), spec, TASK)
    monkeypatch.setattr(window_index, "MAX_JUDGED", 50)
    some = index_windows(windows.Dataset(whole.dataset.frame, entry.features, entry), spec, TASK)
    assert len(some.splits["train"]) == len(whole.splits["train"])
    part, all_of_it = some.splits["test"], whole.splits["test"]
    assert (len(part), part.total) == (50, len(all_of_it))
    assert set(part.assets_N) == {"a0", "a1", "a2"}
    assert part.ends_N[[0, -1]].tolist() == all_of_it.ends_N[[0, -1]].tolist()
    assert some.effective == whole.effective


def test_rows_come_asset_by_asset_however_a_file_is_grouped(prepared, tmp_path, monkeypatch):
    root, _, entry = prepared
    table = pq.read_table(root / "data" / entry.path)
    pq.write_table(table, tmp_path / "small.parquet", row_group_size=97)
    monkeypatch.setattr(tables, "_BATCH_ROWS", 500)
    names = ["date", "close", "volume"]
    pieces = list(tables.pieces(tmp_path / "small.parquet", "asset", names, max_bytes=2**30))
    assert [asset for asset, _ in pieces] == ["a0", "a1", "a2"]
    for name in names:
        np.testing.assert_array_equal(np.concatenate([piece[name] for _, piece in pieces]), table[name].to_numpy())


def test_rows_that_were_read_are_let_go_of(tmp_path):
    assets, rows, names = 30, 100_000, list("uvwx")
    values = {name: np.random.default_rng(0).standard_normal(assets * rows) for name in names}
    table = pa.table({"asset": np.repeat([f"a{number}" for number in range(assets)], rows), **values})
    pq.write_table(table, tmp_path / "large.parquet", row_group_size=rows)
    before = pa.total_allocated_bytes()
    for _, piece in tables.pieces(tmp_path / "large.parquet", "asset", names, max_bytes=2**30):
        assert sum(map(len, piece.values())) == len(names) * rows
        assert pa.total_allocated_bytes() - before < table.nbytes / 3


def test_the_number_of_processes_changes_nothing(prepared, monkeypatch, tmp_path):
    _, spec, entry = prepared
    processes = tmp_path / "processes"
    processes.mkdir()
    mapped = workers.mapped
    monkeypatch.setattr(workers, "SMALL", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})

    def watched(work, *others):
        def one(item):
            (processes / str(os.getpid())).touch()
            return work(item)

        return mapped(one, *others)

    monkeypatch.setattr(workers, "mapped", watched)
    several = catalog.prepare(spec, tmp_path / "data")
    used = {one.name for one in processes.iterdir()}
    assert used
    assert str(os.getpid()) not in used
    assert several.file_sha256 == entry.file_sha256
    assert several.content_sha256 == entry.content_sha256
    bounded = catalog.prepare(spec.model_copy(update={"memory_limit": 1}), tmp_path / "data", rebuild=True)
    assert bounded.file_sha256 == entry.file_sha256
    assert str(os.getpid()) in {one.name for one in processes.iterdir()}  # a second one does not fit


def test_what_other_processes_log_is_logged_here_in_order(monkeypatch, caplog):
    monkeypatch.setattr(workers, "SMALL", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def work(number):
        logging.getLogger("x.y").warning("%d of %s", number, object)
        return os.getpid()

    found = workers.mapped(work, list(range(6)), 1, 2)
    assert os.getpid() not in found
    assert [(record.name, record.getMessage()[:1]) for record in caplog.records] == [("x.y", str(n)) for n in range(6)]


def test_digits_are_those_of_a_search_among_powers_of_ten():
    random = np.random.default_rng(0)
    values = np.r_[random.standard_normal(2000) * 10.0 ** random.integers(-160, 160, 2000), 0.0, np.nan, np.inf]
    values = np.r_[values, _POWERS, np.nextafter(_POWERS, 0), np.nextafter(_POWERS, np.inf)]
    powers = np.frombuffer(_digits(values), dtype="<i8")[len(values) : 2 * len(values)]
    assert powers.tolist() == (np.searchsorted(_POWERS, np.abs(values), side="right") - 151).tolist()


def test_a_table_without_the_column_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(tables.DataError, match="cannot be read as parquet"):
        list(tables.pieces(tmp_path / "x.parquet", "asset", ["x"], max_bytes=2**30))
