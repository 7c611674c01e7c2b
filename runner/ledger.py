"""The ledger: append-only JSON lines, one record a line, the truth about a run.

Written by the driver alone and flushed to disk per record. Everything else in a run directory can be rebuilt from it
and the predictions. `Ledger` writes, `read` folds a file into a `LedgerView`.
"""

import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter, ValidationError

from trainables.errors import LedgerError

SCHEMA_VERSION = 1
Status = Literal["finished", "failed", "diverged", "out_of_memory", "thermal_stop", "interrupted", "infeasible"]
# A cell in one of these states is never run again; the others go on in the next round or the next sweep.
FINAL: frozenset[Status] = frozenset({"finished", "diverged", "infeasible"})

log = logging.getLogger(__name__)


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
    sizes: dict[str, int | None]  # n_train, n_val, n_test, n_val_effective
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
_ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Discriminator("kind")])


class Ledger:
    """The one writer of a ledger file. Thread-safe; every record is on disk when `append` returns.

    A torn last line (a power cut in mid-write) is cut off when the file is opened, and that is recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _cut_torn_tail(path)
        self._seq = sum(1 for _ in _lines(path)) if path.exists() else 0
        self._handle = path.open("ab", buffering=0)
        self._size_bytes = os.fstat(self._handle.fileno()).st_size
        if torn:
            self.append(
                EventRecorded(what="torn_line", message=f"{torn} bytes of an unfinished last line were cut off")
            )

    def append(self, record: AnyRecord) -> AnyRecord:
        """Write one record and return it with its number.

        Raises:
            OSError: the disk is full, read-only or gone. Nothing of the record stays: it can be tried again.
        """
        with self._lock:
            numbered = record.model_copy(update={"seq": self._seq})
            self._write(numbered.model_dump_json().encode() + b"\n")
            self._seq += 1
        return numbered

    def _write(self, line: bytes) -> None:
        """Write a whole line, or none of it."""
        descriptor = self._handle.fileno()
        self._cut()
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                self._cut()
            raise
        self._size_bytes += len(line)

    def _cut(self) -> None:
        """Cut off what a failed write left behind."""
        if os.fstat(self._handle.fileno()).st_size != self._size_bytes:
            os.ftruncate(self._handle.fileno(), self._size_bytes)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _cut_torn_tail(path: Path) -> int:
    """Cut an unfinished last line off; return its length in bytes."""
    if not path.exists():
        return 0
    with path.open("rb+") as handle:
        data = handle.read()
        whole = data.rfind(b"\n") + 1
        if whole == len(data):
            return 0
        log.warning("%s: cutting off %d bytes of an unfinished last line", path, len(data) - whole)
        handle.truncate(whole)
        os.fsync(handle.fileno())
        return len(data) - whole


def _lines(path: Path) -> Iterator[bytes]:
    """Complete lines; an unfinished last one is left out, with a warning."""
    with path.open("rb") as handle:
        for line in handle:
            if not line.endswith(b"\n"):
                log.warning("%s: the last line is unfinished (%d bytes) and is left out", path, len(line))
                return
            yield line


def records(path: Path) -> Iterator[AnyRecord]:
    """The records of a ledger file, in order.

    Raises:
        LedgerError: a line in the middle is damaged, or the schema is another version's.
    """
    for number, line in enumerate(_lines(path), 1):
        try:
            yield _ADAPTER.validate_json(line)
        except ValidationError as error:
            raise LedgerError(_explain(path, number, line, error)) from error


def _explain(path: Path, number: int, line: bytes, error: ValidationError) -> str:
    try:
        version = json.loads(line).get("v")
    except (ValueError, AttributeError):
        version = SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        return (
            f"{path}:{number}: ledger schema {version!r}, this isotherm reads schema {SCHEMA_VERSION}\n"
            f"    mend: use the isotherm that wrote it, or start a new run under another name"
        )
    first = error.errors(include_url=False)[0]
    return (
        f"{path}:{number}: damaged record ({first['msg']})\n"
        f"    mend: restore the file from a copy; the ledger is append-only and must not be edited"
    )


@dataclass
class CellState:
    """All that a ledger says of one key."""

    cell: CellRecorded
    attempts: list[AttemptStarted] = field(default_factory=list)
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    ended: CellEnded | None = None
    last_time: datetime | None = None
    max_celsius: float | None = None  # over all attempts

    def warm(self, celsius: float | None) -> None:
        """Take note of a temperature."""
        if celsius is not None:
            self.max_celsius = celsius if self.max_celsius is None else max(self.max_celsius, celsius)

    @property
    def status(self) -> Status | Literal["running", "waiting"]:
        """Status of the latest attempt; `running` while it has no end, `waiting` before the first."""
        if self.ended is not None:
            return self.ended.status
        return "running" if self.attempts else "waiting"

    @property
    def final(self) -> bool:
        """Whether the cell must not be run again."""
        return self.ended is not None and self.ended.status in FINAL

    @property
    def execution(self) -> dict[str, Any] | None:
        """The pinned execution record, if the cell was ever started."""
        return self.attempts[-1].execution if self.attempts else None


@dataclass
class LedgerView:
    """A ledger folded to its latest state."""

    cells: dict[str, CellState] = field(default_factory=dict)
    sweeps: list[SweepStarted] = field(default_factory=list)
    ends: list[SweepEnded] = field(default_factory=list)
    events: list[EventRecorded] = field(default_factory=list)

    @property
    def current_keys(self) -> tuple[str, ...]:
        """Keys of the grid as it was last started, in its order."""
        return self.sweeps[-1].keys if self.sweeps else ()

    @property
    def current(self) -> dict[str, CellState]:
        """Cells of the current grid."""
        return {key: self.cells[key] for key in self.current_keys if key in self.cells}

    @property
    def ended(self) -> SweepEnded | None:
        """The end of the latest sweep, or None while it runs or after a crash."""
        if self.ends and self.sweeps and self.ends[-1].seq > self.sweeps[-1].seq:
            return self.ends[-1]
        return None

    def apply(self, record: AnyRecord) -> None:
        """Fold one more record in."""
        match record:
            case SweepStarted():
                self.sweeps.append(record)
            case SweepEnded():
                self.ends.append(record)
            case EventRecorded():
                self.events.append(record)
            case CellRecorded():
                if record.key in self.cells:
                    self.cells[record.key].cell = record
                else:
                    self.cells[record.key] = CellState(record)
            case AttemptStarted() | MetricsRecorded() | CellEnded():
                self._apply_to_cell(record)

    def _apply_to_cell(self, record: AttemptStarted | MetricsRecorded | CellEnded) -> None:
        state = self.cells.get(record.key)
        if state is None:
            raise LedgerError(f"record {record.seq}: key {record.key} has no cell record before it")
        state.last_time = record.time
        if isinstance(record, AttemptStarted):
            state.attempts.append(record)
            state.ended = None
        elif isinstance(record, MetricsRecorded):
            state.metrics.setdefault(record.step, {}).update(record.values)
            state.warm(record.values.get("max_celsius"))
            state.epochs[record.step] = record.epoch
        else:
            state.ended = record
            state.warm(record.result.get("max_celsius"))


def fold(parts: Iterable[AnyRecord]) -> LedgerView:
    """Records, in order, folded to the latest state.

    Raises:
        LedgerError: a record of a key that has no cell record before it.
    """
    view = LedgerView()
    for record in parts:
        view.apply(record)
    return view


def read(path: Path) -> LedgerView:
    """Read and fold a ledger file; an absent file is an empty ledger.

    Raises:
        LedgerError: a damaged record or another schema version.
    """
    return fold(records(path)) if path.exists() else LedgerView()
