"""What the fields of ledger records may hold. A ledger can come from somebody else: this is where it is examined.

Whoever folds, shows or goes on with a ledger relies on these types: a key is safe as the name of a file, times can be
compared, numbers are finite, and what is nested has the shape that its readers expect.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from trainables.schema import KEY_LENGTH, ResolvedTask, parse_budget

MAX_LINE_BYTES = 16 * 2**20  # of one record; that of 10,000 cells with 1,000 assets takes a tenth
MAX_DEPTH = 24  # of nested values; a sweep's configuration has 5
MAX_INTEGER = 2**53  # the largest that a float, and so every tracker, holds exactly
TEXT_LENGTH = 100_000  # longer reasons, messages and lines of a log are cut
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _moment(value: datetime) -> datetime:
    if not FIRST <= value <= LAST:
        raise ValueError(f"a time between {FIRST.year} and {LAST.year} is needed")
    return value.astimezone(UTC)


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value of bounded depth. What is not finite becomes None, a date becomes text.

    Raises:
        ValueError: nested too deeply, an integer that is too large, or no JSON value at all.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            if abs(value) > MAX_INTEGER:
                raise ValueError("an integer is larger than 2^53")
            return value
        case float():
            return value if math.isfinite(value) else None
        case date():
            return value.isoformat()
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    match value:
        case Mapping():
            return {str(name): plain(inner, depth + 1) for name, inner in value.items()}
        case list():
            return [plain(inner, depth + 1) for inner in value]
        case tuple():
            return tuple(plain(inner, depth + 1) for inner in value)
    raise ValueError(f"{type(value).__name__} is no JSON value")


def _cut(text: object) -> object:
    return text[:TEXT_LENGTH] if isinstance(text, str) else text


def _finite(values: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}


Key = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{KEY_LENGTH}}}$")]
Time = Annotated[AwareDatetime, AfterValidator(_moment)]
Text = Annotated[str, BeforeValidator(_cut)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Attempt = Annotated[int, Field(ge=0, le=1_000_000)]
Plain = Annotated[dict[str, Any], AfterValidator(plain)]
Numbers = Annotated[dict[str, float | None], AfterValidator(_finite)]

# Results that are calculated with, or are numbers in `results.parquet`.
_NUMERIC = re.compile(
    r"(val|test|train|skill|prior|held|throttled|evaluation|samples|seconds|predicted|peak|max)(_.*)?"
    r"|epochs|best_epoch|steps|collapsed|diverged|lr|weight_decay|global_batch|micro_batch|accumulation|threads"
)
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")

# ---- nested values, as far as they are read; what else is in them is any JSON value -------------------------------

_Number = int | float
_Texts = list[str] | tuple[str, ...]
Size = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Sizes = dict[Annotated[str, StringConstraints(pattern=r"^n_[a-z_]{1,40}$")], Count | None]


class _Open(BaseModel):
    """Strict about the fields that are named, open to others."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Labels(_Open):
    budget: str | None = None
    model: str = ""
    horizon: Count | None = None
    tier: str = ""
    timescale: str = ""
    data_fraction: _Number | None = None
    seed: Count | None = None
    axes: dict[str, Any] = {}

    @field_validator("budget")
    @classmethod
    def _parsed(cls, value: str | None) -> str | None:
        if value is not None:
            parse_budget(value)
        return value


class _Data(_Open):
    content_sha256: str = ""
    assets: _Texts = ()
    features: _Texts = ()
    splits: dict[str, Any] = {}
    fraction: _Number = 1.0


class _Training(_Open):
    global_batch: Size | None = None
    lr: _Number | None = None
    weight_decay: _Number | None = None


class _Model(_Open):
    name: str
    context: Size | None = None
    patch: Size | None = None
    n_features: Size | None = None


class _Asked(_Open):
    data: _Data = _Data()
    task: ResolvedTask = ResolvedTask()
    model: _Model | None = None
    training: _Training = _Training()


class _Measured(_Open):
    peak_bytes: Count | None = None
    seconds_per_step: _Number | None = None


class _Execution(_Open):
    micro_batch: Size | None = None
    accumulation: Size | None = None
    threads: Size | None = None
    smallest_micro_batch: Size = 1
    device: str = ""
    activation_checkpointing: bool = False
    gpu_share: _Number = 1.0
    measured: _Measured | None = None


class _Dataset(_Open):
    content_sha256: str = ""
    source_sha256: dict[str, str] = {}
    rows: Count = 0
    first_date: str = ""
    last_date: str = ""


class _Axis(_Open):
    choices: list[Any] | tuple[Any, ...] = ()
    low: _Number = 0.0
    high: _Number = 1.0
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _has_an_extent(self) -> Self:
        if not self.choices and not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError("low is below high, and above 0 where log is true")
        return self


class _Study(_Open):
    study: Key
    name: str
    budget: int
    trials: Count
    metric: str
    axes: dict[str, Any]
    space: dict[str, _Axis]
    ladder: list[str] | tuple[str, ...] = ()
    seeds: list[int] | tuple[int, ...]


def _shaped(shape: type[BaseModel]) -> AfterValidator:
    """Examine a nested value; it stays as it was written."""

    def examine(value: dict[str, Any]) -> dict[str, Any]:
        shape.model_validate(value)
        return value

    return AfterValidator(examine)


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Columns of the results: what is calculated with is a number, or unknown where a word says that it is not finite.

    Raises:
        ValueError: a text for a number, or a nested value.
    """
    for name, value in values.items():
        numeric = _NUMERIC.fullmatch(name) and value not in _NOT_FINITE
        if not (value is None or isinstance(value, bool | int | float | (bool if numeric else str))):
            raise ValueError(f"{name}: {'a number' if numeric else 'a number or a text'} is needed")
    return {name: None if isinstance(value, str) and value in _NOT_FINITE else value for name, value in values.items()}


Labels = Annotated[Plain, _shaped(_Labels)]
Asked = Annotated[Plain, _shaped(_Asked)]
Execution = Annotated[Plain, _shaped(_Execution)]
DatasetEntry = Annotated[Plain, _shaped(_Dataset)]
StudyRecord = Annotated[Plain, _shaped(_Study)]
Outcome = Annotated[Plain, AfterValidator(_numbers)]
