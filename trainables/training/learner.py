"""The tensors of a trial: model, optimizer and random numbers, built, stepped, saved and restored as one.

Tensor names: N windows, B windows of a global batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from trainables.checkpoints.file_store import State
from trainables.data.windows import Windows
from trainables.errors import CheckpointError
from trainables.models import param_count, registry
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training.losses import Loss
from trainables.training.optim import learning_rate, make_optimizer, set_learning_rate
from trainables.training.step import train_step


class Randomness:
    """A trial's own stream of torch's global random numbers: what others draw in between does not disturb it."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._seed = seed
        self._own: State | None = None
        self._active = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from the trial's stream inside, from the caller's outside."""
        outer = self._states()
        self._active = True
        if self._own is not None:
            self._set(self._own)
        try:
            yield
        finally:
            self._own = self._states()
            self._active = False
            self._set(outer)

    def restart(self) -> None:
        """Begin the stream again at the trial's seed; call it inside `active`."""
        torch.manual_seed(self._seed)

    def state(self) -> State:
        """Generator states as byte tensors."""
        return self._states() if self._active or self._own is None else self._own

    def load(self, state: State) -> None:
        """Continue a stream from `state`; call it inside `active`."""
        self._set(state)

    def _states(self) -> State:
        states = {"cpu": torch.get_rng_state()}
        return states if self._cuda is None else states | {"cuda": torch.cuda.get_rng_state(self._cuda)}

    def _set(self, state: State) -> None:
        torch.set_rng_state(state["cpu"])
        if self._cuda is not None and "cuda" in state:  # a trial that moved from a CPU keeps its seed's stream there
            torch.cuda.set_rng_state(state["cuda"], self._cuda)


class Schedule:
    """Which windows each step takes: pure functions of seed, sizes and step."""

    def __init__(self, spec: TrialSpec, n_windows: int) -> None:
        training = spec.training
        self._n_windows = n_windows
        self._seed = training.seed
        # The rest of an epoch that does not fill a batch is dropped; a split below one batch makes one smaller step.
        self.batch = min(training.global_batch, n_windows)
        self.steps_per_epoch = training.steps_per_epoch(n_windows)
        self.total_steps = training.total_steps(n_windows)
        self._training = training
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def index(self, step: int, device: torch.device) -> Tensor:
        """Windows of a step counted from 0: int64 [B]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            order_N = np.random.default_rng((self._seed, epoch)).permutation(self._n_windows)
            self._order = (epoch, torch.from_numpy(order_N).to(device))
        return self._order[1][position * self.batch : (position + 1) * self.batch]

    def end_of(self, epoch: int) -> int:
        """Steps done when so many epochs are; the last epoch may be cut short."""
        return min(epoch * self.steps_per_epoch, self.total_steps)

    def rate(self, step: int) -> float:
        """Learning rate of a step counted from 0."""
        return learning_rate(step, total_steps=self.total_steps, training=self._training)

    def forget(self) -> None:
        """Free the epoch's order on the device."""
        self._order = (-1, torch.empty(0))


class Learner:
    """Model and optimizer on the trial's device."""

    def __init__(
        self, spec: TrialSpec, record: ExecutionRecord, schedule: Schedule, loss: Loss, device: torch.device
    ) -> None:
        """Build both; the initial weights follow from torch's global generator."""
        self._spec = spec
        self._record = record
        self._schedule = schedule
        self._loss = loss
        self._device = device
        self.gradient_norm: float | None = None  # of the latest step, before clipping
        with device:
            built = registry.build(spec.model, activation_checkpointing=record.activation_checkpointing)
        wanted, got = spec.model.n_params, param_count.built(built).total
        # The budget was checked where the trial was planned: a model of another size would be mislabelled everywhere.
        assert got == wanted, f"the model has {got} parameters, the trial's specification says {wanted}"
        self.model = built.to(device)
        self.optimizer = make_optimizer(self.model, spec.training, registry.scales(spec.model, self.model))

    def step(self, windows: Windows, step: int) -> float:
        """Make the optimizer step counted from 0 and return its training loss.

        Raises:
            DivergedError: not finite; nothing was changed.
        """
        training, schedule = self._spec.training, self._schedule
        set_learning_rate(self.optimizer, schedule.rate(step))
        done = train_step(
            self.model,
            self.optimizer,
            windows,
            schedule.index(step, self._device),
            micro_batch=self._record.micro_batch,
            loss=self._loss,
            clip=training.clip,
            dtype=self._spec.dtype,
            step=step,
        )
        self.gradient_norm = done.gradient_norm
        return done.loss

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's state on the CPU."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.model.state_dict().items()}

    def state(self) -> State:
        """Model and optimizer; live tensors, to be written before the next step."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: State) -> None:
        """Restore `state`.

        Raises:
            CheckpointError: it does not fit the model.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"checkpoint of trial {self._spec.key} does not fit its model: {error}\n"
                f"    fix: resume with the isotherm that wrote it, or remove the trial's checkpoints"
            ) from error

    def free(self) -> None:
        """Give the memory back, whoever may still refer to model or optimizer; both are unusable afterwards."""
        self._schedule.forget()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            tensor.data = tensor.data.new_empty(0)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
