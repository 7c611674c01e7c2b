"""What the ranks of a trial other than 0 do: the pieces of its work that rank 0 names."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from trainables.checkpoints.file_store import State
from trainables.data.windows import TrialData
from trainables.errors import DivergedError
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training.evaluation import evaluate
from trainables.training.learner import Learner, Schedule
from trainables.training.losses import make_loss
from trainables.training.ranks import Ranks
from trainables.training.scoring import TrialScorer


class Follower:
    """A rank of a trial. It does what rank 0's `Learner` and its evaluations do, each called by name."""

    def __init__(self, spec: TrialSpec, record: ExecutionRecord, load: Callable[[], TrialData], ranks: Ranks) -> None:
        """Load the trial's windows; `load` puts them on this process's device."""
        torch.set_num_threads(record.threads)
        self._spec, self._record, self._ranks = spec, record, ranks
        self._data = load()
        scorer = TrialScorer(self._data, spec.task)
        self._splits = scorer.splits
        self._loss = make_loss(spec.training, spec.task.outcome, scorer.prior)
        self._schedule = Schedule(spec, len(self._data.train))
        self._learner: Learner

    def build(self) -> None:
        """Build model and optimizer."""
        torch.manual_seed(self._spec.training.seed)
        device = self._data.train.device
        self._learner = Learner(self._spec, self._record, self._schedule, self._loss, device, ranks=self._ranks)

    def step(self, step: int) -> None:
        """An optimizer step. Dropout draws from a stream of the step and rank, so there is none to keep."""
        entropy = (self._spec.training.seed, self._ranks.rank, step)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
        with suppress(DivergedError):  # rank 0 has the same numbers, and ends the trial
            self._learner.step(self._data.train, step)

    def evaluate(self, split: str, start: int, stop: int) -> None:
        """A micro-batch of each rank."""
        windows, micro_batch = self._splits[split], self._record.micro_batch
        evaluate(self._learner.model, windows, (start, stop), micro_batch, self._spec.dtype, self._ranks)

    def load(self, state: State) -> None:
        """Take the state that rank 0 has; given as an outline."""
        self._learner.load(state)

    def put(self, weights: dict[str, Any]) -> None:
        """Take the weights that rank 0 has; given as an outline."""
        self._learner.put(weights)

    def state(self) -> None:
        """Hand in this rank's part."""
        self._learner.state()

    def weights(self) -> None:
        """Hand in this rank's part."""
        self._learner.weights()

    def free(self) -> None:
        """Free the device's memory."""
        self._learner.free()
