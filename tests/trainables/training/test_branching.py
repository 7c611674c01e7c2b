"""Trials that share a stable phase: each ends as it does alone, bit for bit (CPU, equal execution record)."""

import pandas as pd
import pytest

from tests.trainables.training.times import TIMES
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.training.branching import Branch, Branches, family
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer

WSD = {"schedule": "wsd", "cooldown": 0.3, "warmup": 0.0, "warmup_steps": 3}


@pytest.fixture(scope="module")
def stable(make_spec):
    return make_spec(dropout=0.2, epochs=6, **WSD)


@pytest.fixture(scope="module")
def shorter(make_spec):
    return [make_spec(dropout=0.2, epochs=2, **WSD), make_spec(dropout=0.2, epochs=3, steps=28, **WSD)]


def finish(trainer):
    """Numbers that must be equal, metrics by step, predictions, and how many units of work it took."""
    rows, units = {}, 0
    while not trainer.done:
        rows |= {row.step: row for row in trainer.advance(0).rows}
        units += 1
    return trainer.result().columns(), rows, trainer.predictions(), units


def assert_equal_but_shared(found, alone, step, key):
    columns = {name: value for name, value in found[0].items() if not name.startswith("branched_")}
    assert {**columns, **dict.fromkeys(TIMES)} == {**alone[0], **dict.fromkeys(TIMES)}
    assert found[1] == alone[1]
    pd.testing.assert_frame_equal(found[2], alone[2], check_exact=True)
    assert found[0]["branched_from"] == key
    assert found[0]["branched_at"] == step
    assert found[3] <= alone[3] - step


@pytest.mark.parametrize("lost", [0, 1, 4])
def test_branches_of_a_killed_trial_end_as_alone(stable, shorter, record, make_data, tmp_path, lost):
    data = make_data(stable.task, stable)
    windows = len(data.train)
    steps = [one.training.stable_until(one.training.total_steps(windows)) for one in shorter]
    assert 3 < steps[0] < steps[1]
    branches = [Branch(spec=one, checkpoints=tmp_path / one.key) for one in shorter]

    def trunk(attempt):
        store = FileCheckpointStore(tmp_path / stable.key, attempt, stable.key)
        return Trainer(
            stable, record, data, gate=NullGate(), store=store, branches=Branches(branches, windows, storage=None)
        )

    first = trunk(1)  # saved `lost` steps before the first branch leaves, killed one after it has left
    while (step := first.advance(0).step) <= steps[0]:
        if step == steps[0] - lost:
            first.save()
    finish(trunk(2))
    for one, step in zip(shorter, steps, strict=True):
        alone = finish(Trainer(one, record, data, gate=NullGate()))
        store = FileCheckpointStore(tmp_path / one.key, 1, one.key)
        found = finish(Trainer(one, record, data, gate=NullGate(), store=store))
        assert_equal_but_shared(found, alone, step, stable.key)


def test_a_trial_that_has_begun_by_itself_is_left_alone(stable, shorter, record, make_data, tmp_path):
    data, one = make_data(stable.task, stable), shorter[0]
    own = FileCheckpointStore(tmp_path, 1, one.key)
    branches = Branches([Branch(spec=one, checkpoints=tmp_path)], len(data.train), storage=None)
    finish(Trainer(stable, record, data, gate=NullGate(), branches=branches))
    assert own.load() is None
    assert not list(tmp_path.glob("checkpoint-*"))


def test_only_trials_that_differ_in_length_alone_share(make_spec):
    common = family(make_spec(epochs=6, **WSD))
    assert common is not None
    assert common == family(make_spec(epochs=3, steps=28, **WSD))
    assert common != family(make_spec(epochs=6, **{**WSD, "cooldown": 0.2}))
    assert common != family(make_spec(epochs=6, seed=5, **WSD))
    # A warm-up by share makes the first step depend on the length; other schedules fall from the first step on.
    assert family(make_spec(epochs=6, schedule="wsd", cooldown=0.3, warmup=0.1)) is None
    assert family(make_spec(epochs=6, warmup=0.0)) is None
