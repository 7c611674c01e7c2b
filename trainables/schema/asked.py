"""The other blocks of a sweep file that a trial depends on."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from trainables.schema.common import (
    MAX_BATCH,
    MAX_EPOCHS,
    MAX_THREADS,
    Calibration,
    JudgedEpoch,
    NamedPart,
    OptimizerStates,
    Parametrization,
    PartBlock,
    ScheduleName,
    Spec,
    is_number,
    parse_budget,
)


class TaskSpec(PartBlock):
    """What is predicted, from how much past. Further keys are the task's own."""

    kind: str = Field("threshold", description="task; `isotherm parts` lists them, with their keys")
    context: int = Field(60, ge=2, le=4096, description="bars the model sees")
    horizon: int = Field(1, ge=1, le=1000, description="bars ahead, a whole number; usually a grid axis")
    calibrate: Calibration = Field(
        "none", description="of probabilities, fitted on validation when a trial has ended; no part of its key"
    )


class ModelSpec(PartBlock):
    """Which architecture; its size comes from the budget. Further keys are the architecture's own."""

    name: str = Field("patchtst", description="architecture; `isotherm parts` lists them, with their keys")
    aspect: float = Field(32.0, gt=0, description="width over depth that the budget solver aims at")
    depth: int | None = Field(None, ge=1, le=1000, description="number of blocks, in place of aspect; null = by aspect")
    heads: int | None = Field(None, ge=1, le=1000, description="attention heads; null = by the width")
    shapes: str = Field("configs/budgets", description="folder of hand-written shapes, one <budget>.yaml each")


class BaselineSpec(NamedPart):
    """A baseline. Further keys are its own; without any, its name alone says the same."""

    name: str = Field(description="baseline; `isotherm parts` lists them, with their keys")


class MetricSpec(NamedPart):
    """A metric to report. Further keys are the metric's own; without any, its name alone says the same."""

    name: str = Field(description="metric; `isotherm parts` lists them, with their keys")
    label: str | None = Field(
        None, pattern=r"^[a-z][a-z0-9_]{0,39}$", description="its name in results, where one metric is named twice"
    )

    @property
    def column(self) -> str:
        """Its name in results."""
        return self.label or self.name

    @model_serializer(mode="wrap")
    def _as_a_name(self, handler: SerializerFunctionWrapHandler) -> Any:
        if self.label is not None:
            return handler(self)
        return {"name": self.name, **self.config} if self.config else self.name


def with_calibration(metrics: tuple[MetricSpec, ...], calibrate: Calibration) -> tuple[MetricSpec, ...]:
    """Metrics, and those that `task.calibrate` adds: calibration error, parts of the Brier score, before and after."""
    if calibrate == "none":
        return metrics
    names = ("ece", "brier_reliability", "brier_resolution")
    after: list[dict[str, str]] = [{"name": name, "calibrate": calibrate} for name in names]
    after += [{"name": f"calibrated_{name}", "method": calibrate} for name in ("loss", "brier")]
    labelled = [{**one, "label": f"{one['name'].removeprefix('calibrated_')}_{calibrate}"} for one in after]
    added = [MetricSpec.model_validate(one) for one in (*names, "brier_uncertainty", *labelled)]
    taken = {one.column for one in metrics}
    return (*metrics, *(one for one in added if one.column not in taken))


class LossSpec(NamedPart):
    """Which loss. Further keys are the loss's own; without any, its name alone says the same."""

    name: str = Field("bce", description="loss; `isotherm parts` lists them, with their keys")


class SizeRule(Spec):
    """A value that depends on the budget: ``base * (budget / at) ** exponent``."""

    base: float = Field(gt=0)
    at: str = Field(description="the budget at which the value is `base`")
    exponent: float
    source: str = Field("", description="where the rule comes from")

    @field_validator("at", mode="before")
    @classmethod
    def _budget(cls, value: object) -> str:
        parse_budget(str(value))
        return str(value)

    def value(self, budget: int) -> float:
        """The rule's value for a budget in parameters.

        Raises:
            ValueError: it is too large to be a number, or 0.
        """
        try:
            value = float(self.base * (budget / parse_budget(self.at)) ** self.exponent)
        except OverflowError:
            value = math.inf
        if not 0 < value < math.inf:
            rule = f"{self.base:g} * (budget / {self.at})^{self.exponent:g}"
            raise ValueError(f"the rule {rule} gives {value:g} at {budget:,} parameters")
        return value


class EarlyStopping(Spec):
    """End a trial when its metric on the selection part of validation has not improved for `patience` epochs."""

    metric: str = Field(
        "val_loss",
        pattern=r"^val_[a-z0-9][a-z0-9_-]*$",
        description="val_ and a metric's name, with its default keys; also chooses with judged_epoch: best",
    )
    patience: int = Field(10, ge=1, description="epochs")
    min_delta: float = Field(0.001, ge=0, description="smaller gains do not count")


# One branch of a union is chosen by the value's form, so that a wrong value gives one message and not one per branch.
_NumberOrRule = Discriminator(lambda value: "<rule>" if isinstance(value, dict | SizeRule) else "<number>")
_NumberOrAuto = Discriminator(lambda value: "<auto>" if isinstance(value, str) and not is_number(value) else "<number>")
_Rule = Annotated[SizeRule, Tag("<rule>")]
_Auto = Annotated[Literal["auto"], Tag("<auto>")]
CountOrRule = Annotated[Annotated[int, Field(ge=1, le=MAX_BATCH), Tag("<number>")] | _Rule, _NumberOrRule]
RateOrRule = Annotated[Annotated[float, Field(gt=0), Tag("<number>")] | _Rule, _NumberOrRule]
EpochsOrRule = Annotated[Annotated[int, Field(ge=1, le=MAX_EPOCHS), Tag("<number>")] | _Rule, _NumberOrRule]
DecayOrRule = Annotated[Annotated[float, Field(ge=0), Tag("<number>")] | _Rule, _NumberOrRule]
CountOrAuto = Annotated[Annotated[int, Field(ge=1, le=MAX_BATCH), Tag("<number>")] | _Auto, _NumberOrAuto]
ThreadsOrAuto = Annotated[Annotated[int, Field(ge=1, le=MAX_THREADS), Tag("<number>")] | _Auto, _NumberOrAuto]
ShareOrAuto = Annotated[Annotated[float, Field(gt=0, le=1), Tag("<number>")] | _Auto, _NumberOrAuto]


class LengthSpec(Spec):
    """How long a trial trains, in one of these measures; a number, or a rule of the size."""

    epochs: EpochsOrRule | None = Field(None, description="passes over the training windows, whole batches only")
    steps: CountOrRule | None = Field(None, description="optimizer steps")
    samples: RateOrRule | None = Field(None, description="windows trained on, repetitions included")
    flops: RateOrRule | None = Field(
        None, description="floating-point operations of all forward and backward passes in training"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"a length has exactly one of {names}; {' and '.join(given) or 'none'} given")
        return self

    @property
    def given(self) -> tuple[str, float | SizeRule]:
        """The measure, and how much of it."""
        return next((name, value) for name in type(self).model_fields if (value := getattr(self, name)) is not None)


class TrainingSpec(Spec):
    """How a model is optimized, as asked: numbers or rules of the size."""

    epochs: EpochsOrRule = Field(
        8, description="passes over the training windows, whole batches only, or a rule of the size"
    )
    length: LengthSpec | None = Field(None, description="in place of epochs: {steps: 2000}, samples, flops or epochs")
    judged_epoch: JudgedEpoch = Field(
        "last", description="epoch of the weights that are judged: last, or best on the selection part of validation"
    )
    global_batch: CountOrRule = Field(128, description="windows per optimizer step")
    lr: RateOrRule = Field(1e-3, description="peak learning rate, or a rule of the size")
    weight_decay: DecayOrRule = Field(0.01, description="of weight matrices (AdamW), or a rule of the size")
    schedule: ScheduleName = Field(
        "cosine",
        description="of the rate after warm-up: cosine to zero; constant; wsd = constant, then to zero in `cooldown`",
    )
    parametrization: Parametrization = Field(
        "standard", description="mup: one learning rate for all widths and depths (Yang et al. 2022, Dey et al. 2025)"
    )
    mup_base: str | None = Field(None, description="budget at which mup is the standard parametrization")
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of all steps")
    warmup_steps: int | None = Field(
        None, ge=0, le=MAX_BATCH, description="in place of warmup: as many steps whatever the length, as branches need"
    )
    cooldown: float = Field(0.2, gt=0, le=1, description="fraction of all steps, the last ones, with schedule: wsd")
    clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    loss: LossSpec = Field(
        LossSpec(), description="what is minimised: a name, or a block with it and the loss's own keys"
    )
    focal_gamma: float = Field(2.0, ge=0, description="focusing exponent (Lin et al. 2017), with loss: focal")
    class_weight: Literal["none", "balanced"] = Field("none", description="weights of the classes in the loss")
    early_stopping: EarlyStopping | None = Field(None, description="end a trial that no longer improves")
    seed: int = Field(0, ge=0, lt=2**31, description="a whole number; usually a grid axis")

    @field_validator("mup_base", mode="before")
    @classmethod
    def _budget(cls, value: object) -> object:
        if value is not None:
            parse_budget(str(value))
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _has_a_base(self) -> Self:
        if self.parametrization == "mup" and self.mup_base is None:
            raise ValueError("parametrization: mup needs mup_base, the budget that its learning rate was tuned at")
        return self

    @model_validator(mode="before")
    @classmethod
    def _own_keys_first(cls, values: Any) -> Any:
        """Bring keys of ours out of the block `loss`: `loss: {name: focal, focal_gamma: 3}` is the short form."""
        loss = values.get("loss") if isinstance(values, dict) else None
        ours = {key for key in loss if key in cls.model_fields} if isinstance(loss, dict) else set()
        if not isinstance(loss, dict) or not ours:
            return values
        if twice := sorted(key for key in ours if values.get(key, loss[key]) != loss[key]):
            raise ValueError(f"{twice[0]} has two values, one in training and one in training.loss; give one of them")
        return {
            **values,
            **{key: loss[key] for key in ours},
            "loss": {key: value for key, value in loss.items() if key not in ours},
        }


class ExecutionSpec(Spec):
    """How trials are executed. Never part of a trial's key, the resolved dtype and `optimizer_states` excepted."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = CUDA where there is one")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto = bf16 on CUDA, fp32 on a CPU")
    micro_batch: CountOrAuto = Field("auto", description="windows in memory at once; at most the global batch")
    threads: ThreadsOrAuto = Field("auto", description="CPU threads a trial")
    gpu_share: ShareOrAuto = Field("auto", description="share of a GPU that a trial takes; auto = measured")
    devices_per_trial: CountOrAuto = Field(
        "auto", description="GPUs of one host for each trial; auto = one, or as many as it needs to fit, sharded"
    )
    optimizer_states: OptimizerStates = Field(
        "fp32", description="dtype of AdamW's moments; bf16 takes 12 bytes a parameter in all, and not 16"
    )
    cuda_graph: bool = Field(True, description="on a GPU, replay the training step as one CUDA graph")
    checkpoint_interval_s: float = Field(60.0, gt=0, description="seconds between checkpoints, at least")
    max_attempts: int = Field(3, ge=1, description="starts of one trial in one sweep before it counts as failed")
    stall_timeout_s: float = Field(
        900.0, gt=0, description="a trial that does not answer for so long is ended, and started again"
    )
    disk_timeout_s: float = Field(
        600.0, ge=0, description="on a full or read-only disk trials wait for so long; then the sweep ends resumably"
    )

    @model_validator(mode="after")
    def _whole_devices(self) -> Self:
        if self.devices_per_trial not in ("auto", 1) and self.gpu_share not in ("auto", 1):
            raise ValueError("a trial over several devices takes each of them whole: leave gpu_share out")
        return self
