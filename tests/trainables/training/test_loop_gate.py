"""The trainer at the gate: nothing that a gate says changes a number."""

import time

import pytest
import torch

from tests.trainables.training.times import TIMES, WAITS
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.training.gate import Action

WAIT = 0.25  # what the scripted gate says each wait took


def numbers(trainer):
    return {name: value for name, value in trainer.result().columns().items() if name not in TIMES | WAITS}


def parameters_held(trainer):
    """Parameters on the device: none before the gate opens, none while released."""
    learner = trainer._learner
    return 0 if learner is None else sum(parameter.numel() for parameter in learner.model.parameters())


@pytest.fixture
def store(folder, make_spec):
    return FileCheckpointStore(folder, 1, make_spec().key)


@pytest.fixture(scope="module")
def cool(data, make_spec, record, finish):
    """Numbers and rows of an undisturbed run."""
    from trainables.training.gate import NullGate
    from trainables.training.loop import Trainer

    trainer = Trainer(make_spec(), record, data, gate=NullGate())
    return finish(trainer), numbers(trainer)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_throttling_rests_and_goes_on(make_trainer, scripted_gate, finish, cool):
    gate = scripted_gate([Action.THROTTLE] * 5)
    trainer = make_trainer(gate=gate)
    assert (finish(trainer), numbers(trainer)) == cool
    assert len(gate.waits) == 5
    assert trainer.result().throttled_seconds == 5 * WAIT
    assert trainer.result().held_seconds == 0
    assert trainer.result().train_seconds < 5


def test_a_rest_that_is_not_over_is_waited_out_before_the_next_step(make_trainer, scripted_gate):
    gate = scripted_gate([Action.THROTTLE] * 3)
    left = [1.0, 1.0, 0.4]
    gate.wait = lambda max_seconds: min(max_seconds, left.pop(0))
    trainer = make_trainer(gate=gate)
    reports = [trainer.advance(0) for _ in range(3)]
    assert [(report.kind, report.step) for report in reports] == [("heartbeat", 0), ("heartbeat", 0), ("progress", 1)]
    assert reports[-1].throttled_s == pytest.approx(2.4)


def test_holding_saves_once_and_sends_heartbeats(make_trainer, scripted_gate, finish, store, folder, cool):
    gate = scripted_gate([Action.RUN] * 4 + [Action.HOLD] * 3)
    trainer = make_trainer(gate=gate, store=store)
    for _ in range(4):
        assert trainer.advance(0).kind == "progress"
    for number in (1, 2, 3):
        report = trainer.advance(1e9)
        assert (report.kind, report.action, report.step, report.saved) == ("heartbeat", Action.HOLD, 4, True)
        assert report.held_s == number * WAIT
        assert checkpoints(folder) == ["checkpoint-0001-000001"]
        assert parameters_held(trainer) > 0
    assert (finish(trainer), numbers(trainer)) == cool
    assert trainer.result().held_seconds == 3 * WAIT
    assert max(gate.waits) <= 1.0


def test_holding_in_the_middle_of_an_evaluation_goes_on_where_it_was(make_trainer, scripted_gate, finish, cool, data):
    steps = len(data.train) // 128
    gate = scripted_gate([Action.RUN] * (steps + 3) + [Action.HOLD] + [Action.RUN] * 2)
    trainer = make_trainer(gate=gate)
    assert (finish(trainer), numbers(trainer)) == cool
    undisturbed = scripted_gate()
    finish(make_trainer(gate=undisturbed))
    assert gate.checks == undisturbed.checks + 1  # no batch was evaluated twice


@pytest.mark.parametrize("units", [3, 9, 18])  # in training, in validation, in the second epoch
def test_release_gives_the_memory_back_and_comes_back_exactly(
    make_trainer, scripted_gate, finish, store, folder, cool, units
):
    gate = scripted_gate([Action.RUN] * units + [Action.RELEASE] * 2)
    trainer = make_trainer(gate=gate, store=store)
    rows = [row for _ in range(units) for row in trainer.advance(0).rows]
    model, optimizer = trainer._learner.model, trainer._learner.optimizer
    for _ in range(2):
        report = trainer.advance(1e9)
        assert (report.kind, report.action, report.saved) == ("heartbeat", Action.RELEASE, True)
        assert parameters_held(trainer) == sum(parameter.numel() for parameter in model.parameters()) == 0
        assert not optimizer.state
        assert len(checkpoints(folder)) == 1
    rows += finish(trainer)
    assert (rows, numbers(trainer)) == cool
    assert trainer.result().held_seconds == 2 * WAIT


def test_release_after_hold_writes_nothing_new(make_trainer, scripted_gate, finish, store, folder, cool):
    trainer = make_trainer(gate=scripted_gate([Action.RUN, Action.HOLD, Action.RELEASE]), store=store)
    for _ in range(3):
        trainer.advance(0)
    assert checkpoints(folder) == ["checkpoint-0001-000001"]
    assert (finish(trainer), numbers(trainer)) == cool


def test_release_without_a_store_holds(make_trainer, scripted_gate, finish, cool):
    trainer = make_trainer(gate=scripted_gate([Action.RUN, Action.RELEASE]))
    trainer.advance(0)
    report = trainer.advance(0)
    assert (report.kind, report.saved) == ("heartbeat", False)
    assert parameters_held(trainer) > 0
    assert (finish(trainer), numbers(trainer)) == cool


@pytest.mark.parametrize("action", [Action.STOP, Action.DRAIN])
def test_a_trial_that_is_stopped_goes_on_in_a_later_attempt(
    make_trainer, scripted_gate, finish, store, folder, make_spec, cool, action
):
    trainer = make_trainer(gate=scripted_gate([Action.RUN] * 24 + [Action.HOLD, action]), store=store)
    rows = [row for _ in range(25) for row in trainer.advance(0).rows]
    report = trainer.advance(1e9)
    assert (report.action, report.saved, report.done) == (action, True, False)
    assert len(checkpoints(folder)) == 1
    resumed = make_trainer(store=FileCheckpointStore(folder, 2, make_spec().key))
    first = resumed.advance(0)
    assert first.rows == rows != []  # told again: the last report before a crash may not have arrived
    assert first.held_s == WAIT
    assert ([*first.rows, *finish(resumed)], numbers(resumed)) == cool
    assert resumed.result().held_seconds == WAIT


def test_waits_of_an_attempt_that_never_got_to_work_are_kept(make_trainer, scripted_gate, folder, make_spec):
    for attempt in (1, 2):
        gate = scripted_gate([Action.HOLD] * 2 + [Action.STOP])
        trainer = make_trainer(gate=gate, store=FileCheckpointStore(folder, attempt, make_spec().key))
        reports = [trainer.advance(0) for _ in range(3)]
        assert reports[-1].saved  # there is nothing to lose
        assert reports[-1].held_s == attempt * 2 * WAIT


@pytest.mark.parametrize("action", [Action.HOLD, Action.RELEASE, Action.STOP])
def test_nothing_touches_the_device_before_the_gate_opens(make_trainer, scripted_gate, store, folder, action):
    trainer = make_trainer(gate=scripted_gate([action]), store=store)
    assert trainer.advance(0).kind == "heartbeat"
    assert parameters_held(trainer) == 0
    assert checkpoints(folder) == []


def test_a_report_never_loses_rows_to_the_gate(make_trainer, scripted_gate, data):
    units = len(data.train) // 128 + -(-len(data.validation) // 50)
    trainer = make_trainer(gate=scripted_gate([Action.RUN] * units + [Action.HOLD]))
    report = trainer.advance(1e9)
    assert (report.kind, report.action, len(report.rows)) == ("progress", Action.HOLD, 1)


class SlowStore(FileCheckpointStore):
    """Takes a while to write, and notes when."""

    seconds = 0.01

    def __init__(self, *args):
        super().__init__(*args)
        self.times = []

    def save(self, state, *, step, spec):
        started = time.monotonic()
        time.sleep(self.seconds)
        self.times.append((started, time.monotonic()))


@pytest.mark.parametrize(("interval", "at_least"), [(1e-9, 0.2), (0.3, 0.3)])
def test_checkpoints_are_as_rare_as_they_are_slow(make_trainer, make_spec, record, folder, interval, at_least):
    store = SlowStore(folder, 1, make_spec().key)
    record = record.model_copy(update={"checkpoint_interval_s": interval})
    trainer = make_trainer(spec=make_spec(epochs=500), execution=record, store=store)
    trainer.advance(4.0)
    gaps = [after[0] - before[1] for before, after in zip(store.times, store.times[1:], strict=False)]
    assert gaps
    assert min(gaps) >= at_least


class FullDisk(FileCheckpointStore):
    """Fails until there is room."""

    room = False

    def save(self, state, *, step, spec):
        if not self.room:
            raise OSError(28, "No space left on device")
        super().save(state, step=step, spec=spec)


def test_a_full_disk_is_the_callers_to_handle_and_loses_nothing(make_trainer, make_spec, record, folder, finish, cool):
    store = FullDisk(folder, 1, make_spec().key)
    trainer = make_trainer(execution=record.model_copy(update={"checkpoint_interval_s": 1e-9}), store=store)
    rows, failures = [], 0
    while failures < 12:
        try:
            rows += trainer.advance(1e9).rows
        except OSError:
            failures += 1
    store.room = True
    rows += finish(trainer)
    assert (rows, numbers(trainer)) == cool
    assert checkpoints(folder)


def test_release_with_a_full_disk_keeps_the_state(make_trainer, make_spec, scripted_gate, folder, finish, cool):
    store = FullDisk(folder, 1, make_spec().key)
    trainer = make_trainer(gate=scripted_gate([Action.RUN] * 4 + [Action.RELEASE]), store=store)
    with pytest.raises(OSError, match="No space left"):
        trainer.advance(1e9)
    assert parameters_held(trainer) > 0
    rows = finish(trainer)
    assert (rows, numbers(trainer)) == cool


def test_saving_on_request_writes_the_present_state(make_trainer, store, folder):
    trainer = make_trainer(store=store)
    trainer.save()
    assert checkpoints(folder) == []
    trainer.advance(0)
    trainer.save()
    assert torch.equal(store.load()["random"]["cpu"], store.load()["random"]["cpu"])
    assert store.load()["progress"]["step"] == 1
