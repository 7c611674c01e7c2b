"""What all specifications share: names of choices, limits, and their base classes."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

Timescale = Literal[
    "1min", "5min", "10min", "15min", "30min", "1h", "2h", "4h", "daily", "2d", "3d", "5d", "weekly", "2wk", "monthly"
]
INTRADAY = {"1min": 1, "5min": 5, "10min": 10, "15min": 15, "30min": 30, "1h": 60, "2h": 120, "4h": 240}  # minutes
Representation = Literal["relative", "raw"]
Scaling = Literal["zscore", "revin", "none", "rank", "by_date"]
Calibration = Literal["none", "platt", "isotonic"]  # of probabilities, fitted on validation
Outcome = Literal["binary", "classes", "value"]  # what a label is: 0 or 1, a class of three or more, a number
Dtype = Literal["bf16", "fp32"]
OptimizerStates = Literal["bf16", "fp32"]
JudgedEpoch = Literal["last", "best"]
Parametrization = Literal["standard", "mup"]
ScheduleName = Literal["cosine", "wsd", "constant"]

KEY_LENGTH = 12
BUDGET_TOLERANCE = 0.02  # design: actual parameters are within 2 % of the budget
COLLAPSED_SPREAD = 0.01  # design: standard deviation of the probability; in regression, over that of the target
MAX_BUDGET = 10**13  # ten times the largest model that was ever published; the search for its shape takes a moment
MAX_BATCH = 2**31 - 1  # windows
MAX_EPOCHS = 1_000_000
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


def is_number(value: object) -> bool:
    """Whether a value of a sweep file is a number or can be read as one."""
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


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
