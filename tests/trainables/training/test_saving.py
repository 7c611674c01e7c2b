"""A large state is copied to the host and written while training goes on."""

import errno
import os
import threading

import pytest
import torch

from tests.waiting import PATIENCE_S
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.training import loop
from trainables.training.gate import Action


class SlowStore(FileCheckpointStore):
    """Writes when it may, or fails."""

    def __init__(self, *args):
        super().__init__(*args)
        self.go, self.full = threading.Event(), False

    def save(self, state, *, step, spec):
        if threading.current_thread() is not threading.main_thread():
            assert self.go.wait(PATIENCE_S)
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(state, step=step, spec=spec)


@pytest.fixture
def store(folder, make_spec, monkeypatch):
    monkeypatch.setattr(loop, "LARGE_PARAMETERS", 1)
    return SlowStore(folder, 1, make_spec().key)


@pytest.fixture
def often(record):
    return record.model_copy(update={"checkpoint_interval_s": 1e-9})


@pytest.fixture
def after_one_step(make_trainer, tmp_path, make_spec, record):
    trainer = make_trainer(store=FileCheckpointStore(tmp_path / "at once", 1, make_spec().key))
    trainer.advance(0)
    trainer.save()
    return trainer._keeper.load()


def test_training_goes_on_and_what_is_written_is_the_state_of_its_step(
    store, often, make_trainer, scripted_gate, after_one_step
):
    gate = scripted_gate()
    trainer = make_trainer(gate=gate, store=store, execution=often)
    reports = [trainer.advance(0) for _ in range(4)]
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert not reports[-1].saved
    store.go.set()
    trainer._keeper.settle()
    written = store.load()
    assert written["progress"]["step"] == 1
    for part in ("model", "optimizer"):
        torch.testing.assert_close(written[part], after_one_step[part], rtol=0, atol=0)
    assert torch.equal(written["random"]["cpu"], after_one_step["random"]["cpu"])
    gate.answers = [Action.HOLD]
    assert trainer.advance(0).saved, "a hold has written what is new"
    assert store.load()["progress"]["step"] == 4


def test_a_write_that_fails_meanwhile_is_an_error_of_the_trial_which_can_go_on(store, often, make_trainer, finish):
    trainer = make_trainer(store=store, execution=often)
    store.full = True
    store.go.set()
    trainer.advance(0)
    assert isinstance(trainer._keeper._writing.exception(60), OSError)
    with pytest.raises(OSError, match="No space left"):
        trainer.advance(0)
    store.full = False
    trainer.save()
    assert store.load()["progress"]["step"] == trainer._progress.step
    finish(trainer)
    assert trainer.result().status == "finished"
