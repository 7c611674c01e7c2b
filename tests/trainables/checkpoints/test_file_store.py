import errno
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.waiting import PATIENCE_S
from trainables.checkpoints import file_store
from trainables.checkpoints.file_store import FileCheckpointStore, remove_checkpoints
from trainables.errors import CheckpointError, FencedError
from trainables.training.checkpoint_schedule import CheckpointSchedule
from trainables.training.progress import Waits


@pytest.fixture
def spec(make_spec):
    return make_spec()


@pytest.fixture
def save(spec):
    def write(store, value, step=0):
        store.save(state_of(value), step=step, spec=spec)

    return write


def state_of(value):
    return {"weights": {"w": torch.full((50,), float(value))}, "step": value, "best": None, "rows": [{"a": 1.5}]}


def saved(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(("checkpoint", ".checkpoint")))


def value_of(store):
    state = store.load()
    return None if state is None else state["step"]


def test_a_state_comes_back_as_it_was(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    assert store.load() is None
    save(store, 7, step=21)
    state = FileCheckpointStore(folder, 2, spec.key).load()
    assert torch.equal(state["weights"]["w"], torch.full((50,), 7.0))
    assert {name: state[name] for name in ("step", "best", "rows")} == {"step": 7, "best": None, "rows": [{"a": 1.5}]}


def test_the_manifest_says_what_a_checkpoint_is(folder, spec, save):
    save(FileCheckpointStore(folder, 3, spec.key), 1, step=21)
    (checkpoint,) = folder.glob("checkpoint-*")
    manifest = json.loads((checkpoint / "manifest.json").read_text())["manifest"]
    assert (manifest["key"], manifest["step"], manifest["attempt"]) == (spec.key, 21, 3)
    assert type(spec).model_validate(manifest["spec"]) == spec
    assert manifest["size_bytes"] == (checkpoint / "state.pt").stat().st_size


def test_the_newest_two_are_kept(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    for value in range(1, 6):
        save(store, value)
    assert saved(folder) == ["checkpoint-0001-000004", "checkpoint-0001-000005"]
    assert value_of(store) == 5


def test_a_later_attempt_is_newer_whatever_its_step(folder, spec, save):
    first = FileCheckpointStore(folder, 1, spec.key)
    save(first, 1, step=100)
    save(first, 2, step=200)
    second = FileCheckpointStore(folder, 2, spec.key)
    save(second, 3, step=50)
    assert value_of(second) == 3
    assert saved(folder) == ["checkpoint-0001-000002", "checkpoint-0002-000001"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_skipped_with_a_warning_and_the_next_older_is_used(folder, spec, save, caplog, name, damage):
    store = FileCheckpointStore(folder, 1, spec.key)
    save(store, 1)
    save(store, 2)
    damage(folder / "checkpoint-0001-000002" / name)
    assert value_of(store) == 1
    assert "checkpoint-0001-000002" in caplog.text
    assert name in caplog.text


def answer_eio(path):
    path.unlink()
    path.symlink_to("/proc/self/mem")  # opens as a regular file, and every read from its start is an EIO


def put_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", [answer_eio, put_a_folder])
def test_one_that_cannot_be_read_is_named_and_the_next_older_is_used(folder, spec, save, name, damage):
    store = FileCheckpointStore(folder, 1, spec.key)
    for value in (1, 2):
        save(store, value)
    damage(folder / "checkpoint-0001-000002" / name)
    second = FileCheckpointStore(folder, 2, spec.key)
    assert value_of(second) == 1
    (words,) = second.words()
    assert f"checkpoint-0001-000002: {name}" in words
    assert second.words() == [], "once"
    save(second, 3)
    assert saved(folder) == ["checkpoint-0001-000001", "checkpoint-0002-000001"], "the good older one is kept"


def test_a_file_in_a_checkpoints_place_is_named_and_takes_no_good_ones_place(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    save(store, 1)
    for name in ("checkpoint-0001-000002", ".checkpoint-0002-000001", "best"):
        (folder / name).write_text("stray")
    second = FileCheckpointStore(folder, 2, spec.key)
    assert value_of(second) == 1
    assert "checkpoint-0001-000002" in second.words()[0]
    (folder / ".checkpoint-0002-000001").write_text("stray")
    for value in (3, 4):
        save(second, value)
    assert saved(folder) == ["checkpoint-0002-000001", "checkpoint-0002-000002"]
    second.keep_best({"w": torch.zeros(3)}, step=9, spec=spec)
    assert (folder / "best" / "state.pt").is_file()


def test_a_stray_entry_of_a_later_attempt_does_not_push_out_good_ones(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    (folder / "checkpoint-9999-000001").mkdir()
    for value in (1, 2, 3):
        save(store, value)
    assert saved(folder)[:2] == ["checkpoint-0001-000002", "checkpoint-0001-000003"]
    assert value_of(store) == 3


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.EMFILE])
def test_a_file_system_that_is_away_is_not_a_damaged_checkpoint(folder, spec, save, monkeypatch, number):
    store = FileCheckpointStore(folder, 1, spec.key)
    save(store, 1)

    def away(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_store, "sha256_of", away)
    with pytest.raises(OSError, match=os.strerror(number)):
        store.load()


def test_every_flipped_byte_of_a_manifest_is_noticed(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    save(store, 1)
    path = folder / "checkpoint-0001-000001" / "manifest.json"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert store.load() is None or json.loads(changed) == json.loads(whole)  # white space does not count


def test_where_all_are_damaged_there_is_none(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    for value in (1, 2):
        save(store, value)
    for path in folder.glob("checkpoint-*/state.pt"):
        cut(path)
    assert store.load() is None


def test_a_checkpoint_that_a_power_cut_left_unfinished_is_not_seen_and_is_cleared_away(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    save(store, 1)
    unfinished = folder / ".checkpoint-0001-000002"
    (folder / "checkpoint-0001-000001").rename(unfinished)
    assert value_of(store) is None
    FileCheckpointStore(folder, 2, spec.key)
    assert saved(folder) == []


def test_an_older_attempt_is_fenced_off_and_writes_nothing(folder, spec, save):
    old = FileCheckpointStore(folder, 1, spec.key)
    save(old, 1)
    new = FileCheckpointStore(folder, 2, spec.key)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for late in (old, FileCheckpointStore(folder, 1, spec.key)):
        with pytest.raises(FencedError, match="attempt 2 owns"):
            save(late, 5)
        with pytest.raises(FencedError):
            late.note({"held_seconds": 1.0})
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    save(new, 9)
    assert value_of(new) == 9


def test_an_attempt_that_is_superseded_while_it_writes_is_fenced_off(folder, spec):
    old = FileCheckpointStore(folder, 1, spec.key)

    class Superseded(dict):
        def items(self):  # torch.save walks the state: the successor appears at that moment
            FileCheckpointStore(folder, 2, spec.key)
            return super().items()

        def __reduce__(self):
            return dict, (dict(self.items()),)

    with pytest.raises(FencedError):
        old.save(Superseded(state_of(1)), step=1, spec=spec)
    assert saved(folder) == []


class LateStore(FileCheckpointStore):
    """Is superseded after it looked at the fence and before it begins to write."""

    def _write(self, aside, state, step, spec):
        FileCheckpointStore(self.folder, self.attempt + 1, self.key)
        super()._write(aside, state, step, spec)


def test_an_attempt_that_is_superseded_before_it_writes_is_fenced_off(folder, spec):
    with pytest.raises(FencedError):
        LateStore(folder, 1, spec.key).save(state_of(1), step=1, spec=spec)
    assert saved(folder) == []


def test_pruning_leaves_a_successors_checkpoints_alone(folder, spec, save):
    old = FileCheckpointStore(folder, 1, spec.key)
    for value in (1, 2):
        save(old, value)
    new = FileCheckpointStore(folder, 2, spec.key)
    for value in (3, 4):
        save(new, value)
    old._prune()
    assert saved(folder) == ["checkpoint-0002-000001", "checkpoint-0002-000002"]


def test_another_trials_checkpoint_is_refused(folder, spec, save, make_spec):
    save(FileCheckpointStore(folder, 1, spec.key), 1)
    other = make_spec(seed=99)
    with pytest.raises(CheckpointError, match=f"belongs to trial {spec.key}, not to {other.key}"):
        FileCheckpointStore(folder, 2, other.key).load()


def test_another_versions_format_is_refused(folder, spec, save, monkeypatch):
    store = FileCheckpointStore(folder, 1, spec.key)
    monkeypatch.setattr("trainables.checkpoints.file_store.FORMAT", 99)
    save(store, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 99"):
        store.load()


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_a_checkpoint_cannot_run_code(folder, spec, caplog, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    store = FileCheckpointStore(folder, 1, spec.key)
    store.save({"step": 1, "bomb": Bomb()}, step=1, spec=spec)
    assert store.load() is None
    assert "cannot be read" in caplog.text
    assert not Path("exploded").exists()
    pickle.loads(pickle.dumps(Bomb()))  # it would have gone off
    assert Path("exploded").exists()


FULL = """
import resource, sys, torch
from pathlib import Path
from trainables.schema import TrialSpec
from trainables.checkpoints.file_store import FileCheckpointStore, remove_checkpoints
folder, spec = Path(sys.argv[1]), TrialSpec.model_validate_json(sys.argv[2])
store = FileCheckpointStore(folder, 1, spec.key)
store.save({"w": torch.zeros(1000)}, step=1, spec=spec)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    store.save({"w": torch.zeros(1_000_000)}, step=2, spec=spec)
except OSError as error:
    print(type(error).__name__, error.strerror, store.load()["w"].shape)
"""


def test_a_file_that_cannot_grow_is_an_oserror_and_the_older_checkpoint_stands(folder, spec):
    assert hasattr(resource, "RLIMIT_FSIZE")
    command = [sys.executable, "-c", FULL, str(folder), spec.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "OSError File too large torch.Size([1000])"
    assert saved(folder) == ["checkpoint-0001-000001"]


def test_notes_outlive_their_attempt_and_need_no_state(folder, spec):
    first = FileCheckpointStore(folder, 1, spec.key)
    assert first.noted() == {}
    first.note({"held_seconds": 2.5})
    first.note({"held_seconds": 3.5})
    second = FileCheckpointStore(folder, 2, spec.key)
    assert second.noted() == {"held_seconds": 3.5}
    second.note({"held_seconds": 4.0})
    assert FileCheckpointStore(folder, 2, spec.key).noted() == {"held_seconds": 4.0}


def test_torn_notes_fall_back_to_those_of_the_attempt_before(folder, spec, caplog):
    FileCheckpointStore(folder, 1, spec.key).note({"held_seconds": 2.5})
    second = FileCheckpointStore(folder, 2, spec.key)
    (folder / "attempt-0002.json").write_text('{"held_s')
    assert second.noted() == {"held_seconds": 2.5}
    assert "attempt-0002.json" in caplog.text


@pytest.mark.parametrize("damage", [answer_eio, put_a_folder])
def test_notes_that_cannot_be_read_fall_back_too(folder, spec, damage):
    FileCheckpointStore(folder, 1, spec.key).note({"held_seconds": 2.5})
    FileCheckpointStore(folder, 2, spec.key).note({"held_seconds": 4.0})
    damage(folder / "attempt-0002.json")
    third = FileCheckpointStore(folder, 3, spec.key)
    assert third.noted() == {"held_seconds": 2.5}


def test_a_folder_in_a_notes_place_claims_nothing_and_is_replaced(folder, spec):
    for name in ("attempt-0001.json", "attempt-9999.json"):
        (folder / name).mkdir(parents=True)
    store = FileCheckpointStore(folder, 1, spec.key)
    store.note({"held_seconds": 2.5})
    assert store.noted() == {"held_seconds": 2.5}


def test_a_note_with_other_names_does_not_end_a_trial(folder, spec):
    store = FileCheckpointStore(folder, 1, spec.key)
    store.note({"held_seconds": 2.5, "of_a_later_version": 1.0})
    assert CheckpointSchedule(store, spec, 60.0).noted() == Waits(held_seconds=2.5)


def test_the_best_weights_of_a_trial_that_is_over_outlive_its_checkpoints(folder, spec, save):
    store = FileCheckpointStore(folder, 1, spec.key)
    save(store, 1)
    save(store, 2)
    weights = {"w": torch.full((50,), 4.0)}
    for value in (3.0, 4.0):  # the second attempt of an end that was not recorded
        store.keep_best({"w": torch.full((50,), value)}, step=9, spec=spec)
    assert value_of(store) == 2, "still a trial that could be resumed"
    remove_checkpoints(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["attempt-0001.json", "best"]
    kept = torch.load(folder / "best" / "state.pt", weights_only=True)
    assert torch.equal(kept["weights"]["w"], weights["w"])
    manifest = json.loads((folder / "best" / "manifest.json").read_text())["manifest"]
    assert (manifest["key"], manifest["step"]) == (spec.key, 9)
    assert type(spec).model_validate(manifest["spec"]) == spec
    FileCheckpointStore(folder, 2, spec.key)
    with pytest.raises(FencedError):
        store.keep_best(weights, step=9, spec=spec)
