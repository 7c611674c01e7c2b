"""A trial over several processes (gloo on a CPU): its numbers are those of one, also after one was lost."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.waiting import PATIENCE_S
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.data import catalog, windows
from trainables.data.windows import TrialData
from trainables.errors import LostRankError, OutOfMemoryError
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training.follower import Follower
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer
from trainables.training.ranks import ALONE, Leader, Ranks
from trainables.training.result import TrialResult

ONE = ExecutionRecord(micro_batch=16, accumulation=8, threads=1, device="cpu", checkpoint_interval_s=1e9)
TOLERANCE = 2e-5  # sums of fp32 in another order, over a few steps of AdamW


def load_windows(entry: catalog.CatalogEntry, root: Path, spec: TrialSpec) -> TrialData:
    return windows.build(catalog.load(entry, root), spec.data, spec.task, torch.device("cpu"))


@pytest.fixture(scope="module")
def spec(make_spec: Callable[..., TrialSpec]) -> TrialSpec:
    return make_spec(dropout=0.0, epochs=2)


@pytest.fixture(scope="module")
def over(dataset: Any, data_root: Path, spec: TrialSpec) -> Callable[..., Any]:
    """A trial over so many ranks, as long as the context lasts."""

    @contextmanager
    def over(size: int, folder: Path, *, sharded: bool = False, attempt: int = 1) -> Iterator[tuple[Any, Trainer]]:
        record = ONE.model_copy(update={"devices": size, "sharded": sharded, "accumulation": 8 // size})
        make = partial(Follower, spec, record, partial(load_windows, dataset.entry, data_root, spec))
        ranks = Leader(make, size, sharded=sharded, device="cpu") if size > 1 else ALONE
        with closing(ranks):
            data = load_windows(dataset.entry, data_root, spec)
            assert ranks.wait_until_ready(PATIENCE_S)
            store = FileCheckpointStore(folder, attempt, spec.key)
            yield ranks, Trainer(spec, record, data, gate=NullGate(), store=store, ranks=ranks)

    return over


def finish(trainer: Trainer) -> tuple[TrialResult, pd.DataFrame]:
    while not trainer.done:
        trainer.advance(1e9)
    return trainer.result(), trainer.predictions()


@pytest.fixture(scope="module")
def alone(over: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialResult, pd.DataFrame]:
    with over(1, tmp_path_factory.mktemp("alone") / "trial") as (_, trainer):
        return finish(trainer)


def assert_close(found: tuple[TrialResult, pd.DataFrame], expected: tuple[TrialResult, pd.DataFrame]) -> None:
    pd.testing.assert_frame_equal(found[1], expected[1], rtol=0, atol=TOLERANCE)
    for split, loss in expected[0].columns().items():
        if split.endswith(("_loss", "_brier", "_skill")):
            assert found[0].columns()[split] == pytest.approx(loss, abs=TOLERANCE), split
    assert found[0].steps == expected[0].steps


@pytest.mark.slow
def test_numbers_are_those_of_one_process_also_where_a_rank_is_lost_and_their_number_changes(
    over: Callable[..., Any], alone: tuple[TrialResult, pd.DataFrame], tmp_path: Path
) -> None:
    folder = tmp_path / "trial"
    with over(2, folder, sharded=False) as (ranks, trainer):
        for _ in range(3):
            trainer.advance(0)
        trainer.save()
        os.kill(ranks._processes[1].pid, signal.SIGKILL)
        with pytest.raises(LostRankError, match="rank 1 of 2 ended with code -9"), ranks.watched():
            finish(trainer)
    with over(4, folder, sharded=True, attempt=2) as (ranks, trainer):
        assert trainer.advance(0).step == 4, "it goes on from the checkpoint"
        trainer._free()  # as where the gate asks for the memory: it is built again from the checkpoint
        while trainer.advance(0).epoch == 0:
            pass
        trainer.save()
        ranks._processes[3].terminate()
        ranks._processes[3].join(PATIENCE_S)
        assert not ranks._processes[3].is_alive(), "else a process that has not closed its ranks would not end"
    with over(1, folder, attempt=3) as (_, trainer):
        assert trainer.advance(0).epoch == 1
        assert_close(finish(trainer), alone)


class OutOfMemory:
    """A rank with no room for a step."""

    def __init__(self, ranks: Ranks) -> None:
        pass

    def step(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_memory_that_runs_out_on_one_rank_has_run_out_for_the_trial() -> None:
    with closing(Leader(OutOfMemory, 2, sharded=False, device="cpu")) as ranks:
        assert ranks.wait_until_ready(PATIENCE_S)
        ranks.tell("step")
        with pytest.raises(OutOfMemoryError, match=r"rank 1 of 2: .*out of memory"), ranks.watched():
            ranks.sum([torch.ones(1)])


def test_a_rank_that_fails_before_it_is_ready_is_named() -> None:
    ranks = Leader(OutOfMemory.step, 2, sharded=False, device="cpu")  # which is given ranks in place of its self
    with closing(ranks), pytest.raises(OutOfMemoryError, match="rank 1 of 2"):
        ranks.wait_until_ready(PATIENCE_S)
