import hashlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S
from trainables.checkpoints.object_store import Storage, StoragePlace
from trainables.errors import ConfigError


def test_what_is_put_comes_back(storage: Storage, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000
    (tmp_path / "file").write_bytes(content)
    storage.put(tmp_path / "file", "a/b/file")
    storage.put(b"few", "a/few")
    assert storage.sizes() == {"a/b/file": len(content), "a/few": 3}
    assert storage.sizes("a/b") == {"a/b/file": len(content)}
    assert storage.sizes("nothing/here") == {}
    assert storage.read("a/few") == b"few"
    storage.fetch("a/b/file", tmp_path / "back", hashlib.sha256(content).hexdigest())
    assert (tmp_path / "back").read_bytes() == content
    storage.remove(["a/few", "a/never"])
    assert storage.sizes() == {"a/b/file": len(content)}
    storage.put(b"more", "a/c/file")
    for folder in ("a/b", "a/never"):
        storage.remove_folder(folder)
    assert storage.sizes() == {"a/c/file": 4}


def test_runs_do_not_see_each_other(storage_uri: str) -> None:
    one, other = (Storage(StoragePlace(uri=storage_uri, run=name)) for name in ("one", "other"))
    one.put(b"1", "object")
    assert other.sizes() == {}
    with pytest.raises(FileNotFoundError):
        other.read("object")


def test_a_damaged_object_does_not_arrive(storage: Storage, tmp_path: Path) -> None:
    storage.put(b"good", "object")
    with pytest.raises(OSError, match="does not have the hash"):
        storage.fetch("object", tmp_path / "target", hashlib.sha256(b"other").hexdigest())
    assert not (tmp_path / "target").exists()
    with pytest.raises(FileNotFoundError):
        storage.fetch("absent", tmp_path / "target", "")
    assert list(tmp_path.glob(".target*")) == []


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    storage = Storage(StoragePlace(uri=str(tmp_path / "mount"), run="run"))
    with pytest.raises(OSError, match="is no folder"):
        storage.put(b"x", "object")
    with pytest.raises(OSError, match="is no folder"):
        storage.sizes()
    assert not (tmp_path / "mount").exists()
    (tmp_path / "mount").mkdir()
    storage.put(b"x", "object")
    assert storage.sizes() == {"object": 1}


def test_a_relative_folder_is_below_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Storage(StoragePlace(uri="here", run="run")).put(b"x", "object")
    assert (tmp_path / "here/run/object").read_bytes() == b"x"


@pytest.mark.parametrize("wrong", ["nosuch://host/folder", "s3://", "s3://bucket/x?colour=red"])
def test_a_uri_that_pyarrow_cannot_use_is_refused_with_the_mend(wrong: str) -> None:
    with pytest.raises(ConfigError, match="storage_path"):
        Storage(StoragePlace(uri=wrong, run="run")).sizes()


@pytest.mark.slow
def test_a_server_that_never_answers_holds_neither_a_call_nor_the_end_of_the_process() -> None:
    script = """
import sys, threading, time
from trainables.checkpoints.object_store import Storage, StoragePlace
storage = Storage(StoragePlace(uri=sys.argv[1], run="run"))
threading.Thread(target=storage.sizes, daemon=True).start()
time.sleep(1)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"s3://bucket/x?scheme=http&endpoint_override=127.0.0.1:{silent.getsockname()[1]}&region=us-east-1"
        with pytest.raises(OSError, match="Timeout"):
            Storage(StoragePlace(uri=uri, run="run")).sizes()
        done = subprocess.run([sys.executable, "-c", script, uri], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
