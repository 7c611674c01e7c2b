"""A conformance kit: holds a tracker against what the delivery of a ledger relies on."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.config.trackers import TRACKERS, TrackerMaker
from runner.rundir.ledger import (
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from runner.rundir.paths import RunPaths
from runner.tracking.delivery import Delivery
from runner.tracking.tracker import Status
from trainables.errors import Problem

CLOSE_S = 20.0
_KEYS = ("a" * 12, "b" * 12)


def check_tracker(
    part: str | TrackerMaker, folder: Path, *, shown: Callable[[RunPaths], object] | None = None, **config: Any
) -> None:
    """Return if a tracker keeps its contract, on the ledger of a small run.

    Checked: all records are taken, one after the other and all at once; delivering a second time, by a new process,
    raises nothing and, where `shown` is given, changes nothing; `close` returns what did not arrive; `explain` puts any
    error in words.

    Args:
        part: the registered class or function, or its name.
        folder: an empty folder for the runs.
        shown: what the tracker shows of a run, to be compared with ``==``.
        config: keys of the tracker that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
    """
    found = TRACKERS.find(part)
    values = found.configure(config)
    at_once, stepwise = (RunPaths(folder / name / "run") for name in ("once", "steps"))
    for paths in (at_once, stepwise):
        paths.root.mkdir(parents=True)
    ledger = Ledger(stepwise.ledger)
    delivery = _Checked(found.target(values, stepwise), stepwise)
    for record in _story():
        ledger.append(record)
        delivery.turn()
    delivery.end()
    ledger.close()
    at_once.ledger.write_bytes(stepwise.ledger.read_bytes())
    before: object = None
    for attempt in range(2):
        delivery = _Checked(found.target(values, at_once), at_once)
        delivery.turn()
        delivery.end()
        if shown is not None:
            now = shown(at_once)
            assert attempt == 0 or now == before, f"delivering twice must change nothing: {before!r} became {now!r}"
            before = now
    tracker = found.target(values, at_once)
    assert isinstance(tracker.explain(ValueError("anything")), Problem), "explain returns an isotherm.Problem"
    missing = tracker.close(True)
    assert not missing, f"close returns the keys whose records did not arrive, each with the reason; not {missing!r}"


class _Checked:
    """A delivery whose problems are failures."""

    def __init__(self, tracker: Any, paths: RunPaths) -> None:
        assert isinstance(getattr(tracker, "name", None), str), "a tracker needs a name"
        self._said: list[Status] = []
        self._delivery = Delivery(tracker, paths.ledger, self._said.append)

    def turn(self) -> None:
        self._delivery.turn()
        self._check()

    def end(self) -> None:
        deadline = time.monotonic() + CLOSE_S
        self._delivery.close(lambda: deadline - time.monotonic())
        self._check()
        last = self._said[-1]
        assert last.delivered == last.known, f"{last.known - last.delivered} of {last.known} records did not arrive"

    def _check(self) -> None:
        errors = [error for status in self._said for error in status.errors]
        assert not errors, f"records must be taken without an error: {'; '.join(errors)}"


def _story() -> Iterator[AnyRecord]:
    """A run of two trials: one finishes, one is interrupted and resumed two steps earlier, with a value missing."""
    one, two = _KEYS
    yield SweepStarted(run="run", keys=_KEYS, config={"name": "run"}, code_version="c0de", versions={})
    for key in _KEYS:
        labels = {"budget": "50k", "model": "mlp", "horizon": 1, "seed": 0}
        spec = {"training": {"lr": 0.001}}
        yield CellRecorded(key=key, name=f"50k-h1-{key[0]}", labels=labels, n_params=50_000, sizes={}, spec=spec)
        yield _attempt(key, 1)
        for step in (10, 20):
            yield _metrics(key, 1, step, {"train_loss": 0.7, "val_loss": None if step == 10 else 0.6})
    yield CellEnded(key=one, attempt=1, status="finished", result={"val_loss": 0.6})
    yield CellEnded(key=two, attempt=1, status="interrupted", reason="a signal")
    yield SweepEnded(exit_code=3, counts={})
    yield SweepStarted(run="run", keys=_KEYS, config={"name": "run"}, code_version="c0de", versions={})
    yield _attempt(two, 2)
    for step in (20, 30):
        yield _metrics(two, 2, step, {"train_loss": 0.5, "val_loss": 0.55})
    yield CellEnded(key=two, attempt=2, status="finished", result={"val_loss": 0.55})
    yield SweepEnded(exit_code=0, counts={})


def _attempt(key: str, attempt: int) -> AttemptStarted:
    return AttemptStarted(key=key, attempt=attempt, execution={"micro_batch": 32, "accumulation": 4, "device": "cpu"})


def _metrics(key: str, attempt: int, step: int, values: dict[str, float | None]) -> MetricsRecorded:
    return MetricsRecorded(key=key, attempt=attempt, step=step, epoch=0, values=values)
