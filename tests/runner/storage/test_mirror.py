"""The driver's part of a storage: what another machine needs is there, and comes from there."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.rundir.ledger import read
from runner.storage import mirror as mirrors
from runner.storage import segments
from runner.storage.checkpoints import Pruner, next_attempt
from tests.runner.storage.driver import KEYS, Driver
from tests.waiting import wait_for
from trainables.checkpoints.object_store import Storage, StoragePlace
from trainables.errors import ConfigError

MakeDriver = Callable[[str], Driver]
FIRST, SECOND = KEYS


def ledger_in(storage: Storage) -> bytes:
    return b"".join(storage.read(one.name) for one in segments.chain(segments.found(storage.sizes("ledger"))))


def checkpoint(driver: Driver, key: str, name: str) -> Path:
    folder = driver.paths.checkpoint(key) / name
    folder.mkdir(parents=True)
    for file in ("state.pt", "manifest.json"):
        (folder / file).write_text(f"{key} {name} {file}")
    return folder


def test_an_empty_machine_gets_all_that_is_known(make_driver: MakeDriver, storage: Storage) -> None:
    first = make_driver("first")
    first.start()
    first.begin(FIRST)
    first.end(FIRST)
    first.begin(SECOND)
    checkpoint(first, FIRST, "best")
    assert first.settle()
    assert ledger_in(storage) == first.paths.ledger.read_bytes()

    second = make_driver("second")
    second.bring()
    assert second.paths.ledger.read_bytes() == first.paths.ledger.read_bytes()
    assert second.paths.prediction(FIRST).read_bytes() == first.paths.prediction(FIRST).read_bytes()
    assert f"checkpoints/{FIRST}/best/manifest.json" in storage.sizes()
    second.bring()
    assert second.paths.ledger.read_bytes() == first.paths.ledger.read_bytes()


def test_plugins_go_with_the_run(make_driver: MakeDriver, storage: Storage) -> None:
    first = make_driver("first")
    first.paths.plugins.mkdir(parents=True)
    copy = first.paths.plugin("0123456789ab_my_model.py")
    copy.write_bytes(b"# of a plugin\r\n")
    first.start()
    assert first.settle()
    storage.put(b"", "plugins/0123456789abcdef.my_model.py")  # no name of a copy
    second = make_driver("second")
    second.bring()
    assert {path.name: path.read_bytes() for path in second.paths.plugins.iterdir()} == {copy.name: copy.read_bytes()}


def test_two_machines_take_turns(make_driver: MakeDriver, storage: Storage) -> None:
    first, second = make_driver("first"), make_driver("second")
    first.start()
    first.begin(FIRST)
    assert first.settle()
    first.stop()
    second.bring()
    second.start()
    second.begin(FIRST, attempt=2)
    second.end(FIRST, attempt=2)
    assert second.settle()
    second.stop()
    first.bring()
    assert first.paths.ledger.read_bytes() == second.paths.ledger.read_bytes()
    assert first.paths.prediction(FIRST).exists()


def test_ledgers_that_went_different_ways_are_refused_and_kept(make_driver: MakeDriver) -> None:
    first, second = make_driver("first"), make_driver("second")
    first.start()
    assert first.settle()
    first.stop()
    second.bring()
    for driver in (first, second):
        driver.start()
        driver.note(driver.machine.name)
        if driver is first:
            assert driver.settle()
            driver.stop()
    wait_for(lambda: second.conflicts)
    before = second.paths.ledger.read_bytes()
    second.stop()
    with pytest.raises(ConfigError, match="went different ways"):
        second.bring()
    assert second.paths.ledger.read_bytes().startswith(before)


def test_a_ledger_that_is_not_whole_in_the_storage_is_not_gone_on_with(
    make_driver: MakeDriver, storage: Storage
) -> None:
    first = make_driver("first")
    first.start()
    assert first.settle()
    first.note("more")
    assert first.settle()
    head, *_, tail = sorted(storage.sizes("ledger"))
    good = storage.read(tail)
    storage.put(good[:-2] + b"?\n", tail)
    with pytest.raises(ConfigError, match="is damaged"):
        make_driver("second").bring()
    storage.put(good, tail)
    storage.remove([head])
    with pytest.raises(ConfigError, match="is missing after byte 0"):
        make_driver("third").bring()
    for name in ("second", "third"):
        assert not make_driver(name).paths.ledger.exists()


def test_an_attempt_that_the_ledger_does_not_know_is_not_numbered_again(
    make_driver: MakeDriver, storage: Storage
) -> None:
    first, second = make_driver("first"), make_driver("second")
    first.start()
    first.begin(SECOND)
    assert first.settle()
    for name in ("attempt-0001.json", "attempt-0004.json"):
        storage.put(b'{"held_seconds": 1.5}', f"checkpoints/{SECOND}/{name}")
    storage.put(b"{}", "checkpoints/elsewhere/attempt-0009.json")
    second.bring()
    state = read(second.paths.ledger).cells[SECOND]
    assert next_attempt(second.paths.checkpoint(SECOND), state) == 5
    assert not (second.paths.checkpoints / "elsewhere").exists(), "no key, no path"


def test_checkpoints_leave_once_the_end_is_stored_and_the_best_weights_stay(
    make_driver: MakeDriver, storage: Storage
) -> None:
    driver = make_driver("first")
    driver.start()
    driver.recorder.listen(Pruner(driver.paths, driver.recorder.view).on_record)
    for key in KEYS:
        driver.begin(key)
        for name in ("checkpoint-0001-000001", "checkpoint-0001-000002", "best"):
            folder = checkpoint(driver, key, name)
            storage.put(folder / "state.pt", f"checkpoints/{key}/{name}/state.pt")
    driver.end(FIRST)
    driver.end(SECOND, status="failed")
    assert [path.name for path in driver.paths.checkpoint(FIRST).iterdir()] == ["best"]
    assert len(list(driver.paths.checkpoint(SECOND).iterdir())) == 3
    assert driver.settle()
    assert sorted(storage.sizes(f"checkpoints/{FIRST}")) == [
        f"checkpoints/{FIRST}/best/manifest.json",
        f"checkpoints/{FIRST}/best/state.pt",
    ]
    assert len(storage.sizes(f"checkpoints/{SECOND}")) == 3


def test_what_a_dead_driver_left_is_removed_by_the_next(make_driver: MakeDriver) -> None:
    driver = make_driver("first")
    driver.start()
    driver.begin(FIRST)
    checkpoint(driver, FIRST, "checkpoint-0001-000001")
    checkpoint(driver, FIRST, ".checkpoint-0001-000002")
    driver.end(FIRST)
    Pruner(driver.paths, driver.recorder.view)
    assert list(driver.paths.checkpoint(FIRST).iterdir()) == []


def test_predictions_that_only_a_workers_node_has_come_to_the_driver(make_driver: MakeDriver, storage: Storage) -> None:
    driver = make_driver("first")
    driver.start()
    driver.begin(FIRST)
    content = b"written on another node"
    storage.put(content, f"predictions/{FIRST}.{hashlib.sha256(content).hexdigest()[:16]}.parquet")
    driver.end(FIRST)
    driver.paths.prediction(FIRST).unlink()
    assert driver.settle()
    wait_for(driver.paths.prediction(FIRST).exists)
    assert driver.paths.prediction(FIRST).read_bytes() == content


def test_small_segments_become_one(make_driver: MakeDriver, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "MERGE_AT", 3)
    driver = make_driver("first")
    driver.start()
    for number in range(5):
        driver.note(str(number))
        assert driver.settle()
    assert len(storage.sizes("ledger")) <= 3
    assert ledger_in(storage) == driver.paths.ledger.read_bytes()


@pytest.mark.slow
def test_an_outage_is_said_once_and_nothing_is_missing_after_it(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    driver = Driver(tmp_path / "first", Storage(StoragePlace(uri=str(mount), run="run")))
    driver.start()
    driver.begin(FIRST)
    assert driver.settle()
    shutil.rmtree(mount)
    driver.end(FIRST)
    assert not driver.settle(outage_s=3)
    assert [("cannot be reached" in one) for one in driver.events()] == [True]
    mount.mkdir()  # and everything that was there is gone
    assert driver.settle()
    assert "is reachable again" in driver.events()[-1]
    assert driver.settle(), "that, too, is stored"
    driver.stop()
    second = Driver(tmp_path / "second", driver.storage)
    second.bring()
    assert second.paths.ledger.read_bytes() == driver.paths.ledger.read_bytes()
    assert second.paths.prediction(FIRST).exists()


def test_without_an_answer_a_known_run_goes_on_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "first", Storage(StoragePlace(uri=str(tmp_path / "mount"), run="run")))
    with pytest.raises(ConfigError, match="there is no such run here"):
        driver.bring()
    driver.start()
    driver.bring()
    driver.stop()


def test_a_run_that_is_being_written_here_is_left_alone(make_driver: MakeDriver) -> None:
    from runner.rundir import lock

    driver = make_driver("first")
    driver.start()
    assert driver.settle()
    driver.stop()
    before = driver.paths.ledger.read_bytes()[:-1]  # a line in the making
    driver.paths.ledger.write_bytes(before)
    with lock.held(driver.paths):
        driver.bring()
    assert driver.paths.ledger.read_bytes() == before
