"""The tensors of a trial: model, optimizer and random numbers, built, stepped, saved and restored as one.

Tensor names: N windows, B windows of a global batch, U steps whose numbers were not read yet.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from trainables.checkpoints.file_store import State
from trainables.data.windows import Windows
from trainables.errors import CheckpointError, DivergedError
from trainables.models import param_count, registry
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training import memory
from trainables.training.checkpoint_schedule import host_copy
from trainables.training.graph import TOLERANCE, CudaGraphs, GraphedStep, Recorder
from trainables.training.losses import Loss
from trainables.training.optim import learning_rate, make_optimizer, put_rates_on, set_learning_rate
from trainables.training.ranks import ALONE, Ranks, outline
from trainables.training.step import train_step

log = logging.getLogger(__name__)

# The host reads losses in groups, as each read waits for the device. A device that is to rest or hold goes on with the
# steps that were launched before: no more than about this long, or two steps.
UNREAD_STEPS = 16
UNREAD_S = 0.1


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
            # Of what a worker has of its data, this alone is not shared: 4 bytes per window where they suffice.
            order_N = np.arange(self._n_windows, dtype=np.int32 if self._n_windows < 2**31 else np.int64)
            np.random.default_rng((self._seed, epoch)).shuffle(order_N)
            self._order = (epoch, torch.from_numpy(order_N).to(device))
        return self._order[1][position * self.batch : (position + 1) * self.batch].long()

    def end_of(self, epoch: int) -> int:
        """Steps done when so many epochs are; the last epoch may be cut short."""
        return min(epoch * self.steps_per_epoch, self.total_steps)

    def rate(self, step: int) -> float:
        """Learning rate of a step counted from 0."""
        return learning_rate(step, total_steps=self.total_steps, training=self._training)

    def forget(self) -> None:
        """Free the epoch's order on the device."""
        self._order = (-1, torch.empty(0))


def why_eager(record: ExecutionRecord) -> str:
    """Why a trial's steps cannot be a CUDA graph; empty where they can."""
    if record.device != "cuda":
        return "the device is a CPU"
    if not record.cuda_graph:
        return "execution.cuda_graph is off"
    if record.devices > 1:
        return "the trial runs on several devices"
    # torch.utils.checkpoint saves the random state of each block's pass, which a capture does not allow.
    return "activation checkpointing cannot be captured" if record.activation_checkpointing else ""


class Learner:
    """Model and optimizer on the trial's device.

    Attributes:
        gradient_norm: of the latest step that was read, before clipping; None before the first.
        eager: why steps are not a CUDA graph; empty where they are, or will be.
    """

    def __init__(
        self,
        spec: TrialSpec,
        record: ExecutionRecord,
        schedule: Schedule,
        loss: Loss,
        device: torch.device,
        recorder: Recorder | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Build both; the initial weights follow from torch's global generator.

        Args:
            spec: what is trained.
            record: how.
            schedule: of its steps.
            loss: what is minimised.
            device: where.
            recorder: records the steps, on whatever device; by default CUDA's, where the record asks for a graph.
            ranks: of the trial; what is called on rank 0 is called on all of them.
        """
        ranks.tell("build")
        self._spec = spec
        self._record = record
        self._schedule = schedule
        self._loss = loss
        self._device = device
        self._ranks = ranks
        self.gradient_norm: float | None = None
        with device:
            built = registry.build(spec.model, activation_checkpointing=record.activation_checkpointing)
        wanted, got = spec.model.n_params, param_count.built(built).total
        # The budget was checked where the trial was planned: a model of another size would be mislabelled everywhere.
        assert got == wanted, f"the model has {got} parameters, the trial's specification says {wanted}"
        self.model = built.to(device)
        self.eager = why_eager(record) if recorder is None else ""
        rates_on = None if self.eager else device
        ranks.spread(self.model)
        scales = registry.scales(spec.model, self.model)
        self.optimizer = make_optimizer(
            self.model, spec.training, scales, rates_on=rates_on, states=spec.optimizer_states
        )
        self._recorder = recorder or CudaGraphs()
        self._graphed: GraphedStep | None = None
        self._refused = torch.zeros((), device=device)
        self._numbers_U2 = torch.zeros(UNREAD_STEPS, 2, device=device)
        self._unread: list[int] = []
        self._read_at = time.monotonic()

    def step(self, windows: Windows, step: int) -> list[float]:
        """Launch the optimizer step counted from 0.

        Returns:
            Training losses of steps that were not returned yet, in their order; often none on a fast device.

        Raises:
            DivergedError: a loss or gradient is not finite; that step and all launched after it changed nothing.
        """
        self._ranks.tell("step", step)
        set_learning_rate(self.optimizer, self._schedule.rate(step))
        home, schedule = windows.table.home, self._schedule
        next_B = schedule.index(step + 1, home) if step + 1 < schedule.total_steps else None
        numbers_2 = self.make(windows, schedule.index(step, home), next_B)
        self._numbers_U2[len(self._unread)].copy_(numbers_2)
        self._unread.append(step)
        if len(self._unread) == UNREAD_STEPS or time.monotonic() - self._read_at >= UNREAD_S:
            return self.read()
        return []

    def read(self) -> list[float]:
        """Wait for the steps that were launched; the rest is as in `step`."""
        steps, self._unread = self._unread, []
        rows = self._numbers_U2[: len(steps)].tolist() if steps else []
        self._read_at = time.monotonic()
        for step, (loss, gradient_norm) in zip(steps, rows, strict=True):
            for name, number in (("loss", loss), ("gradient norm", gradient_norm)):
                if not math.isfinite(number):
                    raise DivergedError(step, name)
            self.gradient_norm = gradient_norm
        return [loss for loss, _ in rows]

    def make(self, windows: Windows, index_B: Tensor, next_B: Tensor | None = None) -> Tensor:
        """One optimizer step over a batch; `next_B` is the one after it.

        Returns:
            Loss and gradient norm, float32 [2] on the device; the next call may change it.
        """
        step = partial(
            train_step,
            self.model,
            self.optimizer,
            windows,
            micro_batch=self._record.micro_batch,
            loss=self._loss,
            clip=self._spec.training.clip,
            dtype=self._spec.dtype,
            refused=self._refused,
            ranks=self._ranks,
        )
        if windows.table.home.type != self._device.type:  # a recording repeats the device's work, not the host's
            self.eager = self.eager or "windows are gathered on the host: their table is too large for the device"
        if self.eager:
            return step(index_B, next_B=next_B)
        if self._graphed is None or self._graphed.batch != len(index_B):
            self._graphed = GraphedStep(
                step,
                batch=len(index_B),
                model=self.model,
                refused=self._refused,
                n_windows=len(windows),
                tolerance=TOLERANCE[self._spec.dtype],
                recorder=self._recorder,
            )
        numbers_2 = self._graphed(index_B)
        if self._graphed.reason:
            self.eager, self._graphed = self._graphed.reason, None
            log.warning("trial %s: training steps are not a CUDA graph: %s", self._spec.key, self.eager)
        return numbers_2

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's state on the CPU of rank 0."""
        self._ranks.tell("weights")
        return self._copied(dict(self.model.state_dict()))

    def _copied(self, state: State) -> State:
        """On the host of rank 0; what was gathered there is a copy already."""
        return self._ranks.whole(state) if self._ranks.sharded else host_copy(state)

    def put(self, weights: dict[str, Tensor]) -> None:
        """Give the model the state that `weights` returned."""
        self._ranks.tell("put", outline(weights))
        self.model.load_state_dict(self._given(weights))

    def state(self, *, copy: bool = False) -> State:
        """Model and optimizer, whole; live tensors where they are not sharded, to be written before the next step.

        `copy` has them on the host.
        """
        self._ranks.tell("state")
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"]:  # a step sets its rate; whether a graph needs it is the device's matter
            group.update(lr=self._spec.training.lr, capturable=False)
        state = {"model": self.model.state_dict(), "optimizer": optimizer}
        return self._copied(state) if copy else self._ranks.whole(state)

    def load(self, state: State) -> None:
        """Restore `state`, written by any number of ranks.

        Raises:
            CheckpointError: it does not fit the model.
        """
        own = {name: state[name] for name in ("model", "optimizer")}
        self._ranks.tell("load", outline(own))
        try:
            self.model.load_state_dict(self._given(own["model"]))
            self.optimizer.load_state_dict(self._given_moments(own["optimizer"]))
            if not self.eager:
                put_rates_on(self.optimizer, self._device)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"checkpoint of trial {self._spec.key} does not fit its model: {error}\n"
                f"    fix: resume with the isotherm that wrote it, or remove the trial's checkpoints"
            ) from error

    def _given(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        parameters = dict(self.model.named_parameters())
        return {name: self._ranks.given(tensor, shard=name in parameters) for name, tensor in weights.items()}

    def _given_moments(self, optimizer: State) -> State:
        def one(leaf: Any) -> Any:  # the number of steps has no dimension
            return self._ranks.given(leaf, shard=leaf.dim() > 0) if isinstance(leaf, Tensor) else leaf

        return optimizer | {"state": tree_map(one, optimizer["state"])}

    def free(self) -> None:
        """Give the memory back, whoever may still refer to model or optimizer; both are unusable afterwards."""
        self._ranks.tell("free")
        self._schedule.forget()
        self._graphed = None
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            self._ranks.free(tensor)
        memory.give_back(self._device)
