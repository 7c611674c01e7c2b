import json
import time

import pytest
import torch

from tests.waiting import wait_for
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.checkpoints.mirrored_store import MirroredCheckpointStore
from trainables.checkpoints.object_store import Storage, StoragePlace
from trainables.errors import FencedError


@pytest.fixture
def spec(make_spec):
    return make_spec()


@pytest.fixture
def make_store(spec, tmp_path, open_storage):
    """A worker's store; each node has a disk of its own."""
    stores = []

    def make(attempt, node="node-1", **options):
        stores.append(MirroredCheckpointStore(tmp_path / node, attempt, spec.key, open_storage(), **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def state_of(value):
    return {"weights": {"w": torch.full((50,), float(value))}, "step": value, "best": None, "rows": []}


def value_of(store):
    state = store.load()
    return None if state is None else state["step"]


def stored(storage, spec):
    prefix = f"checkpoints/{spec.key}/"
    return sorted(name.removeprefix(prefix) for name in storage.sizes(prefix.rstrip("/")))


def test_a_checkpoint_arrives_whole_and_another_node_goes_on_from_it(make_store, spec, storage):
    first = make_store(1)
    assert first.ready, "a first attempt has nothing to wait for"
    first.save(state_of(7), step=7, spec=spec)
    first.note({"held_seconds": 2.5})
    wait_for(lambda: first.level)
    assert stored(storage, spec) == [
        "attempt-0001.json",
        "checkpoint-0001-000001/manifest.json",
        "checkpoint-0001-000001/state.pt",
    ]
    second = make_store(2, "node-2", on_drivers_disk=False)
    wait_for(lambda: second.ready)
    assert value_of(second) == 7
    second.save(state_of(9), step=9, spec=spec)
    wait_for(lambda: second.level)
    third = make_store(3, "node-1")
    wait_for(lambda: third.ready)
    assert value_of(third) == 9, "newer than the one on this node's disk"


def test_older_ones_leave_the_storage_once_newer_ones_are_proven(make_store, spec, storage):
    store = make_store(1)
    for value in range(1, 5):
        store.save(state_of(value), step=value, spec=spec)
        wait_for(lambda: store.level)
    names = {name.split("/")[0] for name in stored(storage, spec)}
    assert names == {"attempt-0001.json", "checkpoint-0001-000003", "checkpoint-0001-000004"}


def test_a_damaged_one_in_the_storage_is_passed_over(make_store, spec, storage):
    store = make_store(1)
    for value in (1, 2):
        store.save(state_of(value), step=value, spec=spec)
        wait_for(lambda: store.level)
    storage.put(b"torn", f"checkpoints/{spec.key}/checkpoint-0001-000002/state.pt")
    other = make_store(2, "node-2", on_drivers_disk=False)
    wait_for(lambda: other.ready)
    assert value_of(other) == 1


@pytest.mark.parametrize("stray", [True, False])
def test_the_storages_copy_replaces_one_that_cannot_be_read_here(make_store, spec, tmp_path, stray):
    store = make_store(1)
    for value in (1, 2):
        store.save(state_of(value), step=value, spec=spec)
        wait_for(lambda: store.level)
    newest = tmp_path / "node-1" / "checkpoint-0001-000002"
    if stray:
        (newest.parent / "checkpoint-0001-000003").write_text("stray")
    (newest / "state.pt").write_bytes(b"torn")
    second = make_store(2)
    wait_for(lambda: second.level)
    assert value_of(second) == 2
    second.save(state_of(3), step=3, spec=spec)
    wait_for(lambda: second.level)


def test_one_without_a_manifest_is_not_seen_and_is_cleared_away(make_store, spec, storage):
    storage.put(b"half", f"checkpoints/{spec.key}/checkpoint-0001-000009/state.pt")
    store = make_store(2, on_drivers_disk=False)
    wait_for(lambda: store.ready)
    assert value_of(store) is None
    store.save(state_of(1), step=1, spec=spec)
    wait_for(lambda: store.level)
    assert "checkpoint-0001-000009/state.pt" not in stored(storage, spec)


def test_an_attempt_elsewhere_fences_an_older_one_off(make_store, spec, storage):
    old = make_store(1)
    old.save(state_of(1), step=1, spec=spec)
    wait_for(lambda: old.level)
    new = make_store(2, "node-2")
    wait_for(lambda: new.ready)
    new.save(state_of(2), step=2, spec=spec)
    wait_for(lambda: new.level)
    before = stored(storage, spec)
    old.save(state_of(3), step=3, spec=spec)  # it has not looked since
    with pytest.raises(FencedError, match="attempt 2 owns"):
        wait_for(lambda: old.save(state_of(4), step=4, spec=spec))
    assert stored(storage, spec) == before
    late = make_store(1, "node-3", on_drivers_disk=False)
    with pytest.raises(FencedError, match="attempt 2 owns"):
        wait_for(lambda: late.ready)


def outage(tmp_path, spec):
    """A storage in a folder that comes later, and a store over it."""
    place = StoragePlace(uri=str(tmp_path / "mount"), run="run")
    store = MirroredCheckpointStore(tmp_path / "node", 1, spec.key, Storage(place))
    return store, Storage(place)


def test_training_goes_on_through_an_outage_and_everything_arrives_after_it(tmp_path, spec):
    store, storage = outage(tmp_path, spec)
    said = []
    for value in range(1, 6):
        started = time.monotonic()
        store.save(state_of(value), step=value, spec=spec)
        assert time.monotonic() - started < 5
    wait_for(lambda: said.extend(store.words()) or said)
    assert value_of(store) == 5
    assert not store.level
    assert len(list((tmp_path / "node").glob("checkpoint-*"))) <= 3, "an outage does not fill the disk"
    (tmp_path / "mount").mkdir()
    wait_for(lambda: store.level)
    store.close()
    wait_for(lambda: said.extend(store.words()) or len(said) == 2)
    assert "cannot be reached" in said[0]
    assert "is reachable again" in said[1]
    assert "checkpoint-0001-000005/manifest.json" in stored(storage, spec)


@pytest.mark.slow
def test_a_node_without_the_checkpoint_waits_for_the_storage_and_one_with_it_does_not(tmp_path, spec, monkeypatch):
    monkeypatch.setattr("trainables.checkpoints.mirrored_store.PATIENCE_S", 5.0)
    FileCheckpointStore(tmp_path / "with", 1, spec.key).save(state_of(3), step=3, spec=spec)
    place = StoragePlace(uri=str(tmp_path / "mount"), run="run")
    having = MirroredCheckpointStore(tmp_path / "with", 2, spec.key, Storage(place))
    assert not having.ready, "the storage may have a newer one"
    lacking = MirroredCheckpointStore(tmp_path / "without", 2, spec.key, Storage(place), on_drivers_disk=False)
    wait_for(lambda: having.ready)
    assert value_of(having) == 3
    assert not lacking.ready
    (tmp_path / "mount").mkdir()
    wait_for(lambda: lacking.ready)
    for store in (having, lacking):
        wait_for(lambda store=store: store.level)
        store.close()


def test_a_dead_attempts_notes_are_found_elsewhere(make_store, spec, storage):
    store = make_store(1)
    store.note({"held_seconds": 2.5})
    store.save(state_of(1), step=1, spec=spec)
    wait_for(lambda: store.level)
    mark = f"checkpoints/{spec.key}/attempt-0001.json"
    assert json.loads(storage.read(mark)) == {"held_seconds": 2.5}
    other = make_store(2, "node-2", on_drivers_disk=False)
    wait_for(lambda: other.ready)
    assert other.noted() == {"held_seconds": 2.5}
