"""What was resolved from a sweep file for one trial, and its key."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from trainables.schema.asked import EarlyStopping, TaskSpec, TrainingSpec
from trainables.schema.common import (
    KEY_LENGTH,
    MAX_CLASSES,
    MAX_LOOKAHEAD,
    MAX_THREADS,
    SPEC_FORMAT,
    Dtype,
    JudgedEpoch,
    OptimizerStates,
    Outcome,
    Representation,
    Scaling,
    ScheduleName,
    Spec,
    Timescale,
)
from trainables.schema.data import SplitSpec


def chooses_epoch(training: "TrainingSpec | ResolvedTraining") -> bool:
    """Whether validation decides which epoch's weights are judged, or when training ends."""
    return training.judged_epoch == "best" or training.early_stopping is not None


class ResolvedPart(Spec):
    """A part of this name and version, with its own keys, defaults included."""

    name: str
    version: int = Field(ge=1)
    config: dict[str, Any]


class ResolvedTier(ResolvedPart):
    """The feature tier of a dataset."""


class ResolvedData(Spec):
    """The data of a trial, pinned by content."""

    content_sha256: str
    assets: tuple[str, ...]
    features: tuple[str, ...]
    tier: str | ResolvedTier = Field(description="a tier of version 1 without keys of its own is its name")
    timescale: Timescale
    representation: Representation
    scaling: Scaling
    splits: SplitSpec
    fraction: float
    every: int = Field(1, ge=1, description="training windows end on every n-th bar of the time axis")

    @model_serializer(mode="wrap")
    def _what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        return {name: value for name, value in said.items() if name != "every" or value != 1}


class DataShape(Spec):
    """What a model sees of the data, and how many numbers it gives for a window."""

    n_features: int = Field(ge=1)
    n_window_stats: int = Field(0, ge=0, description="scale and level inputs with the window (RevIN): 2 a feature")
    context: int = Field(ge=2, description="bars in a window")
    n_outputs: int = Field(1, ge=1, description="1: a logit or a mean; more: a logit a class")


# The outcome of a task where a specification does not say it: those of before tasks were parts say nothing.
_UNSAID = {"regression": "value"}


class ResolvedTask(TaskSpec):
    """A task of this kind and version, with its own keys, defaults included, and what follows from them.

    What a reader of a ledger needs to know is here, so that it needs no plugin. Values that say nothing new are left
    out of the canonical form, so that the keys of trials from before tasks were parts stay.

    Attributes:
        outcome: what a label is.
        lookahead: bars after a window's end that its label uses; default: the horizon.
        classes: names of the classes of outcome ``classes``.
    """

    version: int = Field(1, ge=1)
    outcome: Outcome = "binary"
    lookahead: int = Field(1, ge=1, le=MAX_LOOKAHEAD)
    classes: tuple[str, ...] = Field((), max_length=MAX_CLASSES)

    @model_validator(mode="before")
    @classmethod
    def _unsaid(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kind, horizon = values.get("kind"), values.get("horizon", 1)
        outcome = _UNSAID.get(kind, "binary") if isinstance(kind, str) else "binary"
        return {"outcome": outcome, "lookahead": horizon, **values}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.outcome == "classes") != bool(self.classes) or len(self.classes) in (1, 2):
            raise ValueError("three classes or more belong to the outcome 'classes', and to no other")
        return self

    @model_serializer(mode="wrap")
    def _what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        unsaid = {
            "version": self.version == 1,
            "outcome": self.outcome == _UNSAID.get(self.kind, "binary"),
            "lookahead": self.lookahead == self.horizon,
            "classes": not self.classes,
            "calibrate": True,  # of predictions alone: the trial is the same
        }
        return {name: value for name, value in said.items() if not unsaid.get(name)}

    @property
    def n_classes(self) -> int:
        """How many classes labels have; 0 where they are values."""
        return {"binary": 2, "value": 0}.get(self.outcome, len(self.classes))

    @property
    def n_outputs(self) -> int:
        """Numbers that a model gives for a window: a logit or a mean, or a logit for each class."""
        return len(self.classes) or 1


class ResolvedModel(Spec):
    """Everything that is needed to build a model, given the architecture of this name and version.

    Attributes:
        config: the architecture's own keys, defaults included.
        shape: sizes that the budget decides.
        n_params: trainable parameters; whoever builds the model must get the same number.
        base: sizes at which its parametrization, muP, is the standard one; None = standard at every size. Left out of
            the canonical form then, so that keys stay.
    """

    name: str
    version: int = Field(ge=1)
    config: dict[str, Any]
    shape: dict[str, Any]
    data: DataShape
    n_params: int = Field(ge=1)
    base: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        return said if self.base is not None else {name: value for name, value in said.items() if name != "base"}


class ResolvedLoss(ResolvedPart):
    """A loss of this name and version, with its own keys, defaults included."""


# Of training: values that mean what was always done are left out of the canonical form, so that keys stay.
_ALWAYS = {"steps": None, "schedule": "cosine", "cooldown": None, "warmup_steps": None}


class ResolvedTraining(Spec):
    """How a model is optimized, in numbers.

    Attributes:
        epochs: passes over the training windows; the last one is cut short where `steps` says so.
        steps: optimizer steps; None = those of whole epochs.
        cooldown: fraction of all steps in which the rate falls to zero; of schedule ``wsd`` alone.
        warmup: fraction of all steps; 0 where `warmup_steps` says how many.
    """

    epochs: int
    steps: int | None = None
    judged_epoch: JudgedEpoch = "last"
    global_batch: int
    lr: float
    weight_decay: float
    schedule: ScheduleName = "cosine"
    cooldown: float | None = None
    warmup: float
    warmup_steps: int | None = None
    clip: float
    loss: str | ResolvedLoss = Field(description="a loss of version 1 without keys of its own is its name")
    focal_gamma: float
    class_weight: Literal["none", "balanced"]
    early_stopping: EarlyStopping | None
    seed: int

    @model_serializer(mode="wrap")
    def _what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        return {name: value for name, value in said.items() if name not in _ALWAYS or value != _ALWAYS[name]}

    def steps_per_epoch(self, n_windows: int) -> int:
        """Steps of one pass over so many windows, of which there is at least one; the rest is dropped."""
        return n_windows // min(self.global_batch, n_windows)

    def total_steps(self, n_windows: int) -> int:
        """Steps of the whole trial; early stopping may end it before."""
        return self.steps or self.epochs * self.steps_per_epoch(n_windows)

    def warming(self, total_steps: int) -> int:
        """Steps of the warm-up, of so many in all."""
        return round(self.warmup * total_steps) if self.warmup_steps is None else min(self.warmup_steps, total_steps)

    def stable_until(self, total_steps: int) -> int:
        """Steps before the rate begins to fall, of so many in all; warm-up included."""
        if self.cooldown is None:
            return total_steps
        return max(self.warming(total_steps), total_steps - max(1, round(self.cooldown * total_steps)))


class TrialSpec(Spec):
    """Everything that defines a trial's result.

    Attributes:
        dtype: of activations; weights are fp32.
        optimizer_states: dtype of the optimizer's moments.
    """

    format: int = SPEC_FORMAT
    data: ResolvedData
    task: ResolvedTask
    model: ResolvedModel
    training: ResolvedTraining
    dtype: Dtype
    optimizer_states: OptimizerStates = "fp32"

    @model_serializer(mode="wrap")
    def _what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        as_ever = self.optimizer_states == "fp32"  # left out of the canonical form, so that keys stay
        return {name: value for name, value in said.items() if name != "optimizer_states" or not as_ever}

    @property
    def moment_bytes(self) -> int:
        """Of the optimizer's two moments, for each parameter."""
        return 4 if self.optimizer_states == "bf16" else 8

    @model_validator(mode="after")
    def _chooses_apart(self) -> Self:
        if chooses_epoch(self.training) and not self.data.splits.selection:
            raise ValueError("a trial that chooses its epoch needs data.splits.selection above 0")
        return self

    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no white space. Two equal experiments have equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def key(self) -> str:
        """First 12 hex digits of the sha256 of the canonical text."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:KEY_LENGTH]


class Measured(Spec):
    """What the probe measured of an execution, to be held against what came of it."""

    peak_bytes: int
    seconds_per_step: float


class ExecutionRecord(Spec):
    """How one trial was executed; enters the ledger at its first start and is used again on resume."""

    micro_batch: int = Field(ge=1)
    accumulation: int = Field(ge=1)
    threads: int = Field(ge=1, le=MAX_THREADS)
    device: Literal["cpu", "cuda"]
    activation_checkpointing: bool = False
    cuda_graph: bool = Field(False, description="on a GPU, replay the training step as one CUDA graph")
    checkpoint_interval_s: float = Field(gt=0)
    gpu_share: float = Field(1.0, gt=0, le=1, description="of a GPU's memory and time; its memory is capped to it")
    reserved_cores: int = Field(0, ge=0, description="CPU cores that the trial asks for; 0 = as many as threads")
    smallest_micro_batch: int = Field(1, ge=1, description="the global batch, for a loss that compares its windows")
    devices: int = Field(1, ge=1, description="over which the trial runs, a process each; on a CPU processes alone")
    sharded: bool = Field(False, description="parameters and optimizer states are spread over the devices")
    accelerator: str = Field("", description="kind of GPU, in Ray's words, that a cluster's trial goes to; empty = any")
    measured: Measured | None = Field(None, description="by the probe; None where nothing was measured")

    @property
    def cores(self) -> int:
        """CPU cores that the trial asks for, with all its processes."""
        return self.reserved_cores or self.threads * self.devices

    @property
    def place(self) -> tuple[str, str, int]:
        """What the trial runs on; what was found out on one place says nothing of another."""
        return self.device, self.accelerator, self.devices

    @property
    def layout(self) -> str:
        """How the model lies in memory, such as ``with activation checkpointing, sharded over 2 devices``."""
        over = f"{'sharded ' if self.sharded else ''}over {self.devices} devices" if self.devices > 1 else ""
        return ", ".join(filter(None, ("with activation checkpointing" if self.activation_checkpointing else "", over)))

    def with_micro_batch(self, micro_batch: int, batch: int) -> Self:
        """The same with steps of `batch` windows taken otherwise; what was measured no longer holds."""
        accumulation = -(-batch // (micro_batch * self.devices))
        return self.model_copy(update={"micro_batch": micro_batch, "accumulation": accumulation, "measured": None})
