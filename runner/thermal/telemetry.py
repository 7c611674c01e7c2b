"""What the governors of a sweep saw, in the driver: rows of ``thermal.parquet``, events for the ledger, a line."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from runner.host import clock
from runner.thermal.monitor import Sample
from trainables import tables
from trainables.errors import DataError, Problem
from trainables.files import replacing

# Column and dtype of thermal.parquet. The limits are in every row, so that the file explains itself.
COLUMNS = {
    "time": "datetime64[us, UTC]",
    **dict.fromkeys(("node", "device", "sensor", "part"), "string"),
    "celsius": "float64",
    "state": "string",
    "duty": "float64",
    "power_watts": "float64",
    "utilisation": "float64",
    **dict.fromkeys(("slowed_by", "reason"), "string"),
    **dict.fromkeys(("target", "hold", "resume", "stop"), "float64"),
}
_LATER = frozenset({"power_watts", "utilisation", "slowed_by", "reason"})  # nothing is drawn from them
_KINDS: dict[str, tables.Kind] = {
    name: "time" if name == "time" else "text" if dtype == "string" else "number" for name, dtype in COLUMNS.items()
}
QUIET_S = 10.0  # where nothing changes, one row in so many seconds tells it
CHANGE_CELSIUS, CHANGE_DUTY = 1.0, 0.05
WRITE_INTERVAL_S = 30.0
WRITE_SHARE = 20.0  # writing takes at most a twentieth of the time
HELD = ("hold", "release", "stop")

Place = tuple[str, str, str]


def read(path: Path) -> pd.DataFrame | None:
    """What `thermal.parquet` holds, columns `COLUMNS`; None where there is none.

    Raises:
        DataError: it is damaged, too large, or something else.
    """
    fix = "remove it: the temperatures of earlier starts are lost, and nothing else"
    try:
        frame = tables.read(path, str(path), max_bytes=tables.RUN_BYTES, columns=_KINDS, optional=_LATER, fix=fix)
    except FileNotFoundError:
        return None
    try:
        return frame.reindex(columns=list(COLUMNS)).astype(COLUMNS)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"its columns cannot be used: {str(error).splitlines()[0]}"
        raise DataError(Problem(place=str(path), message=message, fix=fix)) from error


def latest(path: Path) -> list[dict[str, Any]]:
    """The latest reading of each device that `thermal.parquet` has, with its age; none where it cannot be read."""
    try:
        frame = read(path)
    except (DataError, OSError):
        return []
    if frame is None or frame.empty:
        return []
    known = frame.dropna(subset=["celsius"]).sort_values("time")
    hottest = known[known["time"] >= known.groupby(["node", "device"])["time"].transform("max")]
    rows = hottest.sort_values("celsius").drop_duplicates(["node", "device"], keep="last").copy()
    rows["age_seconds"] = (pd.Timestamp(clock.now()) - rows["time"]).dt.total_seconds()
    shown = rows[["node", "device", "sensor", "celsius", "state", "age_seconds"]]
    return [{str(name): value for name, value in row.items()} for row in shown.to_dict(orient="records")]


def set_aside(path: Path) -> str:
    """Rename a `thermal.parquet` that cannot be read to ``thermal.damaged-<n>.parquet``.

    Returns:
        What was done, in words; empty where there was nothing to do.

    Raises:
        OSError: it cannot be renamed.
    """
    try:
        read(path)
        return ""
    except DataError as error:
        why = error.problems[0].message
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    return f"{path}: {why}; renamed to {aside.name}. The temperatures of earlier starts in it are not used"


def lost(path: Path) -> list[str]:
    """Names of the files beside `path`, and `path` itself, with temperatures that cannot be read."""
    names = sorted(one.name for one in path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))
    try:
        read(path)
    except (DataError, OSError):
        names.append(path.name)
    return names


class Telemetry:
    """Collects samples of all nodes; used by one thread."""

    def __init__(self, path: Path) -> None:
        """Go on with what an earlier sweep of this run wrote."""
        self._path = path
        self._before = read(path)
        self._rows: list[dict[str, Any]] = []
        self._kept: dict[Place, Sample] = {}
        self.latest: dict[Place, Sample] = {}
        self._throttled: set[Place] = set()
        self._next_write_s = time.monotonic() + WRITE_INTERVAL_S
        self._unwritten = False

    def add(self, node: str, samples: Iterable[Sample]) -> Iterator[str]:
        """Take in a node's samples; yields what is worth an event."""
        for sample in samples:
            place = (node, sample.device, sample.part)
            before = self.latest.get(place)
            self.latest[place] = sample
            if self._telling(place, sample):
                if before is not None and self._kept.get(place) is not before:
                    self._keep(place, before)  # so that a change after a quiet time is not drawn as a slope
                self._keep(place, sample)
            words = self._change(place, before, sample)
            if words:
                yield f"{_name(place)}: {words}"

    def write(self, *, now: bool = False) -> None:
        """Write `thermal.parquet` atomically, when it is time.

        Raises:
            OSError: it cannot be written; what was collected stays in memory.
        """
        started = time.monotonic()
        if not self._unwritten or not (now or started >= self._next_write_s):
            return
        table = self.frame()
        with replacing(self._path) as aside:
            table.to_parquet(aside, index=False)
        self._unwritten = False
        ended = time.monotonic()
        self._next_write_s = ended + max(WRITE_INTERVAL_S, WRITE_SHARE * (ended - started))

    def frame(self) -> pd.DataFrame:
        """All rows, columns `COLUMNS`; earlier rows are taken together, so that they cost little memory."""
        new = pd.DataFrame(self._rows, columns=list(COLUMNS)).astype(COLUMNS)
        self._before = new if self._before is None else pd.concat([self._before, new], ignore_index=True)
        self._rows = []
        return self._before

    def line(self) -> str:
        """The state of all devices in a few words: what is held back, or the hottest."""
        if not self.latest:
            return ""
        held = [(place, sample) for place, sample in self.latest.items() if sample.state != "normal"]
        shown = held or [max(self.latest.items(), key=lambda item: item[1].celsius or 0.0)]
        return "; ".join(f"{_name(place)} {_state(sample)}" for place, sample in shown)

    def _telling(self, place: Place, sample: Sample) -> bool:
        kept = self._kept.get(place)
        if kept is None or kept.state != sample.state or (kept.celsius is None) != (sample.celsius is None):
            return True
        quiet_s = (sample.time - kept.time).total_seconds()  # negative where the clock was set back
        warmed = abs((kept.celsius or 0.0) - (sample.celsius or 0.0)) >= CHANGE_CELSIUS
        return warmed or abs(kept.duty - sample.duty) >= CHANGE_DUTY or abs(quiet_s) >= QUIET_S

    def _keep(self, place: Place, sample: Sample) -> None:
        self._kept[place] = sample
        self._unwritten = True
        limits = sample.limits
        self._rows.append(
            {
                **{name: getattr(sample, name) for name in COLUMNS if hasattr(sample, name)},
                "node": place[0],
                **{name: getattr(limits, name) for name in ("target", "hold", "resume", "stop")},
            }
        )

    def _change(self, place: Place, before: Sample | None, sample: Sample) -> str:
        """What happened, if it is worth an event: throttling comes and goes, and is reported once."""
        was = before.state if before else "normal"
        if sample.state == was:
            return ""
        if sample.state in HELD:
            waiting = before is None and sample.celsius is None
            return "" if waiting else f"{sample.state} ({sample.reason})"
        if was in HELD:
            return f"{sample.state} again at {sample.celsius:g} C"
        if sample.state == "throttle" and place not in self._throttled:
            self._throttled.add(place)
            return f"throttle ({sample.reason})"
        return ""


def _name(place: Place) -> str:
    node, device, part = place
    return f"{device} {part}" if not node else f"node {node[:8]}, {device[:12]} {part}"


def _state(sample: Sample) -> str:
    celsius = "-" if sample.celsius is None else f"{sample.celsius:g} C"
    return f"{celsius} {sample.state}" + (f" {sample.duty:.0%}" if sample.state == "throttle" else "")
