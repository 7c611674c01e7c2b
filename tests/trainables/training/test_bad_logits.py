"""A checkpoint whose outputs are probabilities where logits are due: the result says so, whatever else it says."""

import pytest
import torch

from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.training.gate import Action


@pytest.fixture
def interrupted(make_trainer, make_spec, make_data, scripted_gate, folder):
    """A trial of three epochs that was drained in its third, and the specification to resume it with."""
    spec = make_spec(judged_epoch="best")
    data = make_data(spec.task, spec)
    evaluations = sum(-(-len(part) // 50) for part in (data.selection, data.validation))
    gate = scripted_gate([*[Action.RUN] * (2 * (len(data.train) // 128 + evaluations) + 1), Action.DRAIN])
    store = FileCheckpointStore(folder, attempt=1, key=spec.key)
    trainer = make_trainer(spec=spec, gate=gate, store=store)
    trainer.advance(1e9)
    assert not trainer.done
    return spec, folder


def resumed(make_trainer, finish, spec, folder, attempt):
    trainer = make_trainer(spec=spec, store=FileCheckpointStore(folder, attempt=attempt, key=spec.key))
    finish(trainer)
    return trainer.result().columns()


def test_outputs_through_a_sigmoid_are_known_for_what_they_are(interrupted, make_trainer, finish) -> None:
    spec, folder = interrupted
    store = FileCheckpointStore(folder, attempt=2, key=spec.key)
    state = store.load()
    assert state is not None
    state["judged"]["outputs"]["validation"] = torch.sigmoid(state["judged"]["outputs"]["validation"])
    state["progress"]["best_metric"] = -1.0  # nothing that follows is better
    store.save(state, step=state["progress"]["step"], spec=spec)
    columns = resumed(make_trainer, finish, spec, folder, attempt=3)
    assert columns["val_squashed"]
    assert columns["collapsed"]
    assert columns["skill_high"] < 0
    assert not columns["test_squashed"]  # the weights themselves are sound


def test_an_honest_checkpoint_is_not_accused(interrupted, make_trainer, finish) -> None:
    spec, folder = interrupted
    columns = resumed(make_trainer, finish, spec, folder, attempt=2)
    assert not columns["val_squashed"]
    assert not columns["collapsed"]
    assert columns["train_skill"] > 0
