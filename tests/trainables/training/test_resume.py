"""A trial that is killed at any moment and started again ends with the same bits (CPU, equal execution record)."""

import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tests.trainables.training.times import TIMES, WAITS
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.errors import CheckpointError, FencedError
from trainables.schema import EarlyStopping
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer

VARIANTS = {
    "plain": {},
    "early stopping": {"epochs": 8, "early_stopping": EarlyStopping(patience=1, min_delta=0.02)},
    "by auc": {"epochs": 4, "early_stopping": EarlyStopping(metric="val_auc", patience=2, min_delta=0.0)},
    "best epoch": {"epochs": 6, "judged_epoch": "best", "lr": 0.03, "warmup": 0.0},  # over-fits at once
    "best regression": {"kind": "regression", "judged_epoch": "best"},
    "stopped at the best": {"epochs": 8, "judged_epoch": "best", "early_stopping": EarlyStopping(patience=2)},
    "focal": {"loss": "focal", "class_weight": "balanced"},
    "regression": {"kind": "regression"},
    "bf16 states": {"epochs": 2, "optimizer_states": "bf16"},
    "cut short": {"epochs": 2, "steps": 13, "schedule": "wsd", "cooldown": 0.3},
}


def outcome(trainer, rows):
    result = trainer.result().columns()
    numbers = {name: value for name, value in result.items() if name not in TIMES | WAITS}
    return numbers, {row.step: row for row in rows}, trainer.predictions()


def assert_same(found, expected):
    assert found[:2] == expected[:2]
    pd.testing.assert_frame_equal(found[2], expected[2], check_exact=True)


@pytest.fixture(scope="module")
def run(make_spec, make_data, record):
    """Runs a variant, killed after each of the given numbers of units, `lost` units after its last checkpoint."""

    def run(variant, folder=None, kills=()):
        asked = dict(VARIANTS[variant])
        states = {"optimizer_states": asked.pop("optimizer_states", "fp32")}
        spec = make_spec(dropout=0.2, **asked).model_copy(update=states)
        data = make_data(spec.task, spec)
        rows, units = [], 0
        earlier = len(list(folder.glob("attempt-*"))) if folder else 0
        for attempt, (until, lost) in enumerate([*kills, (10**9, 0)], earlier + 1):
            store = FileCheckpointStore(folder, attempt, spec.key) if folder else None
            trainer = Trainer(spec, record, data, gate=NullGate(), store=store)
            for unit in range(1, until + 1):
                rows += trainer.advance(0).rows
                units += 1
                if trainer.done:
                    return outcome(trainer, rows), units
                if unit == until - lost:
                    trainer.save()

    return run


@pytest.fixture(scope="module")
def undisturbed(run):
    known = {}

    def of(variant):
        if variant not in known:
            known[variant] = run(variant)
        return known[variant]

    return of


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(3))
def test_killed_three_times_a_trial_ends_with_the_same_bits(run, undisturbed, folder, variant, seed):
    expected, units = undisturbed(variant)
    random_ = random.Random(f"{variant}{seed}")
    kills = [(random_.randint(1, units // 2), random_.randint(0, 3)) for _ in range(3)]
    found, _ = run(variant, folder, kills)
    assert_same(found, expected)


def test_early_stopping_is_at_work_in_its_variants(undisturbed):
    assert undisturbed("early stopping")[0][0]["epochs"] < 8
    assert undisturbed("best epoch")[0][0]["judged_epoch"] < 6


def test_killed_in_each_single_unit_around_an_epochs_end(run, undisturbed, folder, data):
    expected, _ = undisturbed("plain")
    steps = len(data.train) // 128
    for units in range(steps - 1, steps + 3):
        found, _ = run("plain", folder / str(units), [(units, 0)])
        assert_same(found, expected)


def test_killed_during_the_evaluation_on_test(run, undisturbed, folder):
    expected, units = undisturbed("plain")
    found, _ = run("plain", folder, [(units - 2, 1)])
    assert_same(found, expected)


def test_a_torn_newest_checkpoint_costs_time_but_no_bit(run, undisturbed, make_spec, make_data, record, folder):
    expected, _ = undisturbed("plain")
    spec = make_spec(dropout=0.2)
    trainer = Trainer(
        spec, record, make_data(spec.task), gate=NullGate(), store=FileCheckpointStore(folder, 1, spec.key)
    )
    for _ in range(2):
        for _ in range(6):
            trainer.advance(0)
        trainer.save()
    (folder / "checkpoint-0001-000002" / "state.pt").write_bytes(b"torn")
    found, _ = run("plain", folder)
    assert_same(found, expected)


def test_an_attempt_that_was_superseded_ends_itself(make_trainer, make_spec, folder):
    spec = make_spec()
    old = make_trainer(store=FileCheckpointStore(folder, 1, spec.key))
    old.advance(0)
    FileCheckpointStore(folder, 2, spec.key)
    with pytest.raises(FencedError):
        old.save()
    assert not list(folder.glob("checkpoint-*"))


def test_the_checkpoint_of_another_trial_is_refused(make_trainer, make_spec, folder):
    spec, other = make_spec(), make_spec(seed=9)
    first = make_trainer(store=FileCheckpointStore(folder, 1, spec.key))
    first.advance(0)
    first.save()
    with pytest.raises(CheckpointError, match=spec.key):
        make_trainer(spec=other, store=FileCheckpointStore(folder, 1, other.key)).advance(0)


def test_a_checkpoint_that_does_not_fit_the_model_says_so(make_trainer, make_spec, folder):
    spec = make_spec()
    store = FileCheckpointStore(folder, 1, spec.key)
    store.save({"model": {}, "optimizer": {}}, step=1, spec=spec)
    with pytest.raises(CheckpointError, match="does not fit"):
        make_trainer(store=store).advance(0)


WORKER = """
import sys, torch
from pathlib import Path
from trainables.data import catalog, windows
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer
root, folder, spec, record = sys.argv[1:]
spec, record = TrialSpec.model_validate_json(spec), ExecutionRecord.model_validate_json(record)
(entry,) = (e for e in catalog.entries(Path(root)).values() if e.content_sha256 == spec.data.content_sha256)
data = windows.build(catalog.load(entry, Path(root)), spec.data, spec.task, torch.device("cpu"))
trainer = Trainer(spec, record, data, gate=NullGate(), store=FileCheckpointStore(Path(folder), 1, spec.key))
while True:
    print(trainer.advance(0.05).step, flush=True)
"""


def test_a_worker_killed_by_sigkill_resumes_in_another_process(make_spec, make_data, record, finish, data_root, folder):
    spec = make_spec(dropout=0.2, epochs=60)
    record = record.model_copy(update={"checkpoint_interval_s": 0.02})
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(data_root),
        str(folder),
        spec.model_dump_json(),
        record.model_dump_json(),
    ]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("checkpoint-*"))) < 2 and time.monotonic() < deadline:
            worker.stdout.readline()
        worker.stdout.readline()
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
    data = make_data(spec.task)
    expected, resumed = (
        Trainer(spec, record, data, gate=NullGate(), store=store)
        for store in (None, FileCheckpointStore(folder, 2, spec.key))
    )
    expected_rows = finish(expected)
    first = resumed.advance(0)
    assert 1 < first.step < expected.result().steps
    assert_same(outcome(resumed, first.rows + finish(resumed)), outcome(expected, expected_rows))
