"""What can stand in a ledger: one kind of record a class."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
Status = Literal["finished", "failed", "diverged", "out_of_memory", "thermal_stop", "interrupted", "infeasible"]
# A cell in one of these states is never run again; the others go on in the next round or the next sweep.
FINAL: frozenset[Status] = frozenset({"finished", "diverged", "infeasible"})


class Record(BaseModel):
    """Base of all ledger records; `seq` numbers them within a file, `time` is UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    seq: int = -1
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


class SweepStarted(Record):
    """A driver began to work on this run. `keys` is the grid as it is now; other keys are orphans."""

    kind: Literal["sweep_started"] = "sweep_started"
    run: str
    keys: tuple[str, ...]
    config: dict[str, Any]
    code_version: str
    versions: dict[str, str]
    datasets: tuple[dict[str, Any], ...] = ()  # catalog entries of the data that the grid uses
    gates: tuple[dict[str, Any], ...] = ()  # findings before the start: gate, level, number, limit, message, mend


class CellRecorded(Record):
    """A cell of the grid: what is asked, in full. Written once a key, before its first attempt."""

    kind: Literal["cell"] = "cell"
    key: str
    name: str
    cell_kind: Literal["model", "baseline"] = "model"
    labels: dict[str, Any]  # budget, model, horizon, tier, timescale, data_fraction, seed, and further axes
    n_params: int | None = None
    n_params_non_embedding: int | None = None
    sizes: dict[str, int | None]  # n_train, n_selection, n_val, n_test, n_val_effective
    spec: dict[str, Any]


class AttemptStarted(Record):
    """A start or resume of a key. `execution` is the execution record that it uses."""

    kind: Literal["attempt"] = "attempt"
    key: str
    attempt: int
    execution: dict[str, Any]
    device_name: str = ""
    code_version: str = ""


class MetricsRecorded(Record):
    """Metrics of a key at an optimizer step. Readers keep the last value per key, step and name."""

    kind: Literal["metrics"] = "metrics"
    key: str
    attempt: int
    step: int
    epoch: int
    values: dict[str, float | None]


class CellEnded(Record):
    """An attempt ended.

    `result` holds the columns of `results.parquet` that the trial itself knows; `log`, for a failed attempt, the last
    lines that its worker logged, and what Ray says of its end.
    """

    kind: Literal["ended"] = "ended"
    key: str
    attempt: int
    status: Status
    reason: str = ""
    result: dict[str, Any] = {}
    log: tuple[str, ...] = ()


class EventRecorded(Record):
    """Anything else worth keeping."""

    kind: Literal["event"] = "event"
    what: str
    message: str
    key: str | None = None


class SweepEnded(Record):
    """A driver finished in good order."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    exit_code: int
    counts: dict[str, int]


AnyRecord = SweepStarted | CellRecorded | AttemptStarted | MetricsRecorded | CellEnded | EventRecorded | SweepEnded
