"""The records of a ledger, one class a kind."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runner.host import clock
from runner.rundir.ledger.upgrade import upgraded
from runner.rundir.ledger.values import (
    MAX_INTEGER,
    Asked,
    Attempt,
    Count,
    DatasetEntry,
    Execution,
    Key,
    Labels,
    Numbers,
    Outcome,
    Plain,
    Size,
    Sizes,
    StudyRecord,
    Text,
    Time,
)

SCHEMA_VERSION = 2
READABLE = (1, 2)  # schema 1 has no running hash
Status = Literal[
    "finished", "failed", "diverged", "out_of_memory", "thermal_stop", "interrupted", "infeasible", "pruned"
]
# A cell in one of these states is never run again; the others go on in the next round or the next sweep.
FINAL: frozenset[Status] = frozenset({"finished", "diverged", "infeasible", "pruned"})


class Record(BaseModel):
    """Base of all ledger records; `seq` numbers them within a file, `time` is UTC, `chain` is the running hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1, 2] = 2
    seq: int = Field(-1, ge=-1, le=MAX_INTEGER)
    time: Time = Field(default_factory=clock.now)
    chain: str = Field(
        default="", max_length=64, exclude=True, repr=False
    )  # the writer adds it: it is the hash of all the rest


class SweepStarted(Record):
    """A driver began to work on this run. `keys` is the grid as it is now; other keys are orphans."""

    kind: Literal["sweep_started"] = "sweep_started"
    run: str
    keys: tuple[Key, ...]
    config: Plain
    code_version: str
    versions: dict[str, str]
    datasets: tuple[DatasetEntry, ...] = ()  # catalog entries of the data that the grid uses
    gates: tuple[Plain, ...] = ()  # findings: gate (the check), level, number, limit, message, fix
    studies: tuple[StudyRecord, ...] = ()  # of a search, in the grid's order
    parts: tuple[Plain, ...] = ()  # sensor and trackers, recorded as a cell's parts are


class CellRecorded(Record):
    """A cell of the grid: what is asked, in full. Written once a key, before its first attempt."""

    kind: Literal["cell"] = "cell"
    key: Key
    name: str
    cell_kind: Literal["model", "baseline", "ensemble"] = "model"
    labels: Labels  # budget, model, horizon, tier, timescale, data_fraction, seed, and further axes
    n_params: Size | None = None
    n_params_non_embedding: Size | None = None
    sizes: Sizes  # n_train, n_selection, n_val, n_test, n_val_effective
    spec: Asked
    parts: tuple[Plain, ...] = ()  # kind, name, version, origin and source hash of the registered parts
    flop_per_window: float | None = Field(None, ge=0)  # forward and backward; None: not counted, or of an early ledger

    @model_validator(mode="before")
    @classmethod
    def _as_today(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("spec"), dict):
            return {**values, "spec": upgraded(values["spec"], values.get("n_params"))}
        return values


class TrialSuggested(Record):
    """A study of a search chose values; the trial with this key tries them. Numbers count from 0 within a study."""

    kind: Literal["suggested"] = "suggested"
    study: Key
    number: Count
    key: Key
    values: Plain  # by dotted key


class StudyPredicted(Record):
    """What smaller sizes say of a study, once a study.

    `values` are its most promising values by dotted key, `space` the narrower ranges that it searches, `source` how
    they were found. Both are empty where nothing could be predicted.
    """

    kind: Literal["predicted"] = "predicted"
    study: Key
    values: Plain
    space: Plain = Field(default_factory=dict)
    source: Text = ""


class WinnerChosen(Record):
    """The best trial of a study, and the trials that confirm it: one per seed. The last such record of a study counts.

    `number` is None where the values that are confirmed were predicted and not tried.
    """

    kind: Literal["winner"] = "winner"
    study: Key
    number: Count | None = None
    keys: tuple[Key, ...]


class AttemptStarted(Record):
    """A start or resume of a key. `execution` is the execution record that it uses."""

    kind: Literal["attempt"] = "attempt"
    key: Key
    attempt: Attempt
    execution: Execution
    device_name: str = ""
    code_version: str = ""


class MetricsRecorded(Record):
    """Metrics of a key at an optimizer step. Readers keep the last value per key, step and name."""

    kind: Literal["metrics"] = "metrics"
    key: Key
    attempt: Attempt
    step: Count
    epoch: Count
    values: Numbers


class CellEnded(Record):
    """An attempt ended.

    `result` holds the columns of `results.parquet` that the trial itself knows; `log`, for a failed attempt, the last
    lines that its worker logged, and what Ray says of its end.
    """

    kind: Literal["ended"] = "ended"
    key: Key
    attempt: Attempt
    status: Status
    reason: Text = ""
    result: Outcome = {}
    log: tuple[Text, ...] = ()


REPORT = "report"  # what an event is about that gives a report's answer in one line


class EventRecorded(Record):
    """Anything else worth keeping."""

    kind: Literal["event"] = "event"
    what: Text
    message: Text
    key: Key | None = None


class SweepEnded(Record):
    """A driver finished in good order."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    exit_code: int = Field(ge=0, le=255)
    counts: dict[str, Count]


AnyRecord = (
    SweepStarted
    | CellRecorded
    | TrialSuggested
    | StudyPredicted
    | WinnerChosen
    | AttemptStarted
    | MetricsRecorded
    | CellEnded
    | EventRecorded
    | SweepEnded
)
