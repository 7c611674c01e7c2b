"""Shorter trials that branch off the stable phase of a longer one (schedule ``wsd``).

Trials that differ in length alone are equal, bit for bit, until the rate of the shorter one begins to fall: warm-up,
windows and random numbers are those of a step, whatever the length. So the longest is trained once, and each shorter
one goes on from the longest one's state at the step where it begins to fall.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from trainables.checkpoints import trial_store
from trainables.checkpoints.file_store import State
from trainables.checkpoints.object_store import StoragePlace
from trainables.schema import Spec, TrialSpec


class Branch(Spec):
    """A trial that begins with the state of another one, and the folder of its checkpoints."""

    spec: TrialSpec
    checkpoints: Path


def family(spec: TrialSpec) -> str | None:
    """What trials that can share their stable phase have in common; None for a trial that shares nothing."""
    training = spec.training
    if training.schedule != "wsd" or (training.warmup_steps is None and training.warmup):
        return None  # a warm-up by a share of all steps makes the first step depend on the last
    return spec.model_copy(update={"training": training.model_copy(update={"epochs": 1, "steps": None})}).canonical()


class Branches:
    """The branches of one trial by the step at which they leave it."""

    def __init__(self, branches: Iterable[Branch], n_windows: int, storage: StoragePlace | None) -> None:
        self._storage = storage
        self._by_step: dict[int, list[Branch]] = defaultdict(list)
        for branch in branches:
            training = branch.spec.training
            self._by_step[training.stable_until(training.total_steps(n_windows))].append(branch)

    def leave_at(self, step: int) -> list[Branch]:
        """Branches that have not left, of this step."""
        return list(self._by_step.get(step, ()))

    def leave(self, branch: Branch, step: int, state: State) -> None:
        """Write a branch's first state, unless it has begun by itself.

        Raises:
            OSError: it could not be written; call again.
        """
        trial_store.seed(branch.checkpoints, state, step=step, spec=branch.spec, place=self._storage)
        self._by_step[step].remove(branch)
