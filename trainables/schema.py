"""Frozen specifications of one trial.

The first half is what a user asks for (blocks of a sweep file); the second half is what was resolved from it.
`TrialSpec` is everything that defines a trial's result; its hash is the trial's key. How a trial is executed
(`ExecutionSpec`, `ExecutionRecord`) is kept apart and never enters the key, the resolved dtype excepted.
"""

import hashlib
import json
import math
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

Timescale = Literal["daily", "2d", "3d", "5d", "weekly", "2wk", "monthly"]
Representation = Literal["relative", "raw"]
Scaling = Literal["zscore", "revin", "none"]
Outcome = Literal["binary", "classes", "value"]  # what a label is: 0 or 1, a class of three or more, a number
Dtype = Literal["bf16", "fp32"]
JudgedEpoch = Literal["last", "best"]

KEY_LENGTH = 12
BUDGET_TOLERANCE = 0.02  # design: actual parameters are within 2 % of the budget
COLLAPSED_SPREAD = 0.01  # design: standard deviation of the probability; in regression, over that of the target
MAX_BUDGET = 10**13  # ten times the largest model that was ever published; the search for its shape takes a moment
MAX_BATCH = 2**31 - 1  # windows
MAX_LOOKAHEAD = 10_000  # bars after a window that its label may use
MAX_CLASSES = 1000
MAX_THREADS = 1024  # of one trial; more make OpenMP end its process
SELECTION = 1 / 3  # share of validation that chooses epochs where one is chosen and nothing else is said
SPEC_FORMAT = 2  # raise it when the meaning of a field changes: old results then get new keys
BASELINE_NAMES = ("prior", "volatility", "linear", "boosted_trees")  # where a sweep names none
_SUFFIX = {"k": 10**3, "m": 10**6, "b": 10**9}


def parse_budget(label: str | int) -> int:
    """A parameter budget such as ``50k``, ``2m``, ``2b`` or ``1500000`` as a number of parameters.

    Raises:
        ValueError: not a positive number with an optional suffix k, m or b.
    """
    text = str(label).strip().lower()
    number, factor = (text[:-1], _SUFFIX[text[-1]]) if text[-1:] in _SUFFIX else (text, 1)
    try:
        value = round(float(number) * factor)
    except (ValueError, OverflowError):
        raise ValueError(f"{label!r} is not a budget; write a number such as 50k, 2m or 2b") from None
    if value <= 0:
        raise ValueError(f"{label!r} is not a budget; it must be positive")
    if value > MAX_BUDGET:
        raise ValueError(f"{str(label)[:40]!r} is not a budget; {MAX_BUDGET // 10**9:,}b parameters are the most")
    return value


class Spec(BaseModel):
    """Base of all specifications: immutable, no unknown keys, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


# ---- what a user asks for ---------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


_FractionOrDate = Discriminator(lambda value: "<fraction>" if _is_number(value) else "<date>")
Bound = Annotated[Annotated[float, Tag("<fraction>")] | Annotated[date, Tag("<date>")], _FractionOrDate]


class SplitSpec(Spec):
    """Chronological splits: fractions of the time axis, or the last date of each split (inclusive).

    With ``folds`` above 1 the splits walk forward: fold ``folds - 1`` is the split as given, each earlier fold ends one
    test length sooner, and training always starts at the first bar.
    """

    train: Bound = Field(0.70, description="share of the time axis, or the split's last day")
    validation: Bound = Field(0.15, description="likewise")
    test: Bound = Field(0.15, description="likewise")
    embargo: int = Field(0, ge=0, le=10**9, description="bars left out at the start of validation and of test")
    folds: int = Field(1, ge=1, le=20, description="walk-forward folds")
    fold: int = Field(0, ge=0, description="which fold, counted from 0")
    selection: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="first part of validation, as a share, on which epochs are chosen and nothing is judged; "
        "null = 1/3 where a trial of the sweep chooses one, else 0",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        parts = (self.train, self.validation, self.test)
        if all(isinstance(part, date) for part in parts):
            if not self.train < self.validation < self.test:  # type: ignore[operator]
                raise ValueError("split dates must ascend: train, validation, test (the last day of each)")
            if self.folds > 1:
                raise ValueError("walk-forward folds need splits given as fractions")
        elif all(isinstance(part, float) for part in parts):
            if any(not 0 < part < 1 for part in parts):  # type: ignore[operator]
                raise ValueError("each split fraction must lie between 0 and 1")
            if sum(parts) > 1 + 1e-9:  # type: ignore[arg-type]
                raise ValueError(f"split fractions add up to {sum(parts):g}, more than 1")  # type: ignore[arg-type]
        else:
            raise ValueError("give all three splits as fractions, or all three as dates")
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} does not exist: folds is {self.folds}, counted from 0")
        return self


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FileFormat(Spec):
    """How a file of bars is written, where that cannot be found out from the file."""

    delimiter: str | None = Field(None, min_length=1, max_length=1, description="between the columns")
    decimal: Literal[".", ","] | None = Field(None, description="decimal sign")
    dates: str | None = Field(None, description="a format of strptime, such as '%d/%m/%Y'")
    timezone: str | None = Field(None, description="time stamps are converted to it, then dated; else dated as written")
    header: tuple[str, ...] | None = Field(None, description="names of the columns of a file without a header")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value!r} is no time zone of the IANA database, such as America/New_York")
        return value


AS_FOUND = FileFormat()


class RepairSpec(Spec):
    """What is done about rows that a source has wrong and that cannot be corrected there."""

    drop_rows: tuple[Literal["unparsable", "duplicate", "finite", "positive", "negative", "high", "low"], ...] = Field(
        (), description="rows that break these rules are left out, and counted"
    )
    tolerance: float = Field(0.0, ge=0, le=0.01, description="high and low may miss open and close by this share")


class PartBlock(Spec):
    """A block of a sweep file that names a part. Further keys are the part's own; whoever knows it validates them."""

    model_config = ConfigDict(extra="allow")

    @property
    def config(self) -> dict[str, Any]:
        """The part's own keys, as given."""
        return dict(self.model_extra or {})


class NamedPart(PartBlock):
    """A block that can be given as a name: without further keys, the name alone says the same."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_a_name(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.model_extra else self.name


class TierSpec(NamedPart):
    """Which features. Further keys are the tier's own; without any, its name alone says the same."""

    name: str = Field("a20", description="feature tier; `isotherm parts` lists them, with their keys")


class DataSpec(Spec):
    """Which bars, which features, how they are presented to the model."""

    source: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        ("sp500",),
        min_length=1,
        description="sp500, nasdaq, goog, a file of bars, FILE#SYMBOL, yfinance:SYMBOL, one of your own; or a list",
    )
    columns: dict[str, str] = Field({}, description="your column names: {date: Day, close: Last, ...}")
    format: FileFormat = Field(AS_FOUND, description="how files are written, where detection fails")
    repair: RepairSpec = Field(RepairSpec(), description="what is done about wrong rows; nothing by default")
    sort: bool = Field(False, description="sort unsorted bars instead of refusing them")
    tier: TierSpec = Field(TierSpec(), description="feature tier: a name, or a block with it and the tier's own keys")
    timescale: Timescale = Field("daily", description="length of a bar; coarser bars are resampled first")
    representation: Representation = Field("relative", description="relative to the close and to volume, or raw")
    scaling: Scaling = Field("zscore", description="zscore (fitted on train), revin (per window) or none")
    splits: SplitSpec = SplitSpec()
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training span that is used, the newest")

    @field_validator("source")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a source is named twice")
        return value

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        known = ("date", "open", "high", "low", "close", "volume")
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"{', '.join(unknown)}: no column name; known: {', '.join(known)}")
        return value


# What a dataset is built from; all else of `DataSpec` is about how it is used.
DATASET_FIELDS = {"source", "columns", "format", "repair", "sort", "tier", "timescale"}


class TaskSpec(PartBlock):
    """What is predicted, from how much past. Further keys are the task's own."""

    kind: str = Field("threshold", description="task; `isotherm parts` lists them, with their keys")
    context: int = Field(60, ge=2, le=4096, description="bars the model sees")
    horizon: int = Field(1, ge=1, le=1000, description="bars ahead, a whole number; usually a grid axis")


class ModelSpec(PartBlock):
    """Which architecture; its size comes from the budget. Further keys are the architecture's own."""

    name: str = Field("patchtst", description="architecture; `isotherm parts` lists them, with their keys")
    aspect: float = Field(32.0, gt=0, description="width over depth that the budget solver aims at")
    shapes: str = Field("configs/budgets", description="folder of hand-written shapes, one <budget>.yaml each")


class BaselineSpec(NamedPart):
    """A baseline. Further keys are its own; without any, its name alone says the same."""

    name: str = Field(description="baseline; `isotherm parts` lists them, with their keys")


class MetricSpec(NamedPart):
    """A metric to report. Further keys are the metric's own; without any, its name alone says the same."""

    name: str = Field(description="metric; `isotherm parts` lists them, with their keys")


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

    metric: Literal["val_loss", "val_auc"] = Field("val_loss", description="also chooses with judged_epoch: best")
    patience: int = Field(10, ge=1, description="epochs")
    min_delta: float = Field(0.001, ge=0, description="smaller gains do not count")


# One branch of a union is chosen by the value's form, so that a wrong value gives one message and not one per branch.
_NumberOrRule = Discriminator(lambda value: "<rule>" if isinstance(value, dict | SizeRule) else "<number>")
_NumberOrAuto = Discriminator(
    lambda value: "<auto>" if isinstance(value, str) and not _is_number(value) else "<number>"
)
_Rule = Annotated[SizeRule, Tag("<rule>")]
_Auto = Annotated[Literal["auto"], Tag("<auto>")]
CountOrRule = Annotated[Annotated[int, Field(ge=1, le=MAX_BATCH), Tag("<number>")] | _Rule, _NumberOrRule]
RateOrRule = Annotated[Annotated[float, Field(gt=0), Tag("<number>")] | _Rule, _NumberOrRule]
DecayOrRule = Annotated[Annotated[float, Field(ge=0), Tag("<number>")] | _Rule, _NumberOrRule]
CountOrAuto = Annotated[Annotated[int, Field(ge=1, le=MAX_BATCH), Tag("<number>")] | _Auto, _NumberOrAuto]
ThreadsOrAuto = Annotated[Annotated[int, Field(ge=1, le=MAX_THREADS), Tag("<number>")] | _Auto, _NumberOrAuto]
ShareOrAuto = Annotated[Annotated[float, Field(gt=0, le=1), Tag("<number>")] | _Auto, _NumberOrAuto]


class TrainingSpec(Spec):
    """How a model is optimized, as asked: numbers or rules of the size."""

    epochs: int = Field(8, ge=1, le=1_000_000, description="passes over the training windows, whole batches only")
    judged_epoch: JudgedEpoch = Field(
        "last", description="epoch of the weights that are judged: last, or best on the selection part of validation"
    )
    global_batch: CountOrRule = Field(128, description="windows per optimizer step")
    lr: RateOrRule = Field(1e-3, description="peak learning rate, or a rule of the size")
    weight_decay: DecayOrRule = Field(0.01, description="of weight matrices (AdamW), or a rule of the size")
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of all steps")
    clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    loss: LossSpec = Field(
        LossSpec(), description="what is minimised: a name, or a block with it and the loss's own keys"
    )
    focal_gamma: float = Field(2.0, ge=0, description="focusing exponent (Lin et al. 2017), with loss: focal")
    class_weight: Literal["none", "balanced"] = Field("none", description="weights of the classes in the loss")
    early_stopping: EarlyStopping | None = Field(None, description="end a trial that no longer improves")
    seed: int = Field(0, ge=0, lt=2**31, description="a whole number; usually a grid axis")

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


def chooses_epoch(training: "TrainingSpec | ResolvedTraining") -> bool:
    """Whether validation decides which epoch's weights are judged, or when training ends."""
    return training.judged_epoch == "best" or training.early_stopping is not None


class ExecutionSpec(Spec):
    """How trials are executed. Never part of a trial's key, the resolved dtype excepted."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = CUDA where there is one")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto = bf16 on CUDA, fp32 elsewhere")
    micro_batch: CountOrAuto = Field("auto", description="windows in memory at once; at most the global batch")
    threads: ThreadsOrAuto = Field("auto", description="CPU threads a trial")
    gpu_share: ShareOrAuto = Field("auto", description="share of a GPU that a trial takes; auto = measured")
    checkpoint_interval_s: float = Field(60.0, gt=0, description="seconds between checkpoints, at least")
    max_attempts: int = Field(3, ge=1, description="starts of one trial in one sweep before it counts as failed")
    stall_timeout_s: float = Field(
        900.0, gt=0, description="a trial that does not answer for so long is ended, and started again"
    )
    disk_timeout_s: float = Field(
        600.0, ge=0, description="on a full or read-only disk trials wait for so long; then the sweep ends resumably"
    )


# ---- what was resolved ------------------------------------------------------------------------------------------


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
    """

    name: str
    version: int = Field(ge=1)
    config: dict[str, Any]
    shape: dict[str, Any]
    data: DataShape
    n_params: int = Field(ge=1)


class ResolvedLoss(ResolvedPart):
    """A loss of this name and version, with its own keys, defaults included."""


class ResolvedTraining(Spec):
    """How a model is optimized, in numbers."""

    epochs: int
    judged_epoch: JudgedEpoch = "last"
    global_batch: int
    lr: float
    weight_decay: float
    warmup: float
    clip: float
    loss: str | ResolvedLoss = Field(description="a loss of version 1 without keys of its own is its name")
    focal_gamma: float
    class_weight: Literal["none", "balanced"]
    early_stopping: EarlyStopping | None
    seed: int


class TrialSpec(Spec):
    """Everything that defines a trial's result."""

    format: int = SPEC_FORMAT
    data: ResolvedData
    task: ResolvedTask
    model: ResolvedModel
    training: ResolvedTraining
    dtype: Dtype

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
    checkpoint_interval_s: float = Field(gt=0)
    gpu_share: float = Field(1.0, gt=0, le=1, description="of a GPU's memory and time; its memory is capped to it")
    reserved_cores: int = Field(0, ge=0, description="CPU cores that the trial asks for; 0 = as many as threads")
    smallest_micro_batch: int = Field(1, ge=1, description="the global batch, for a loss that compares its windows")
    accelerator: str = Field("", description="kind of GPU, in Ray's words, that a cluster's trial goes to; empty = any")
    measured: Measured | None = Field(None, description="by the probe; None where nothing was measured")
