"""What trackers show of a run, taken from ledger records. Pure functions, the same for every tracker."""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from runner.rundir.ledger import FINAL, REPORT, CellState, LedgerView


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with dotted names; lists are leaves."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def text(value: Any) -> str:
    """A value as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among some values; truth values count as 0 and 1."""
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, bool | int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def labels(state: CellState) -> dict[str, Any]:
    """Labels of a trial, further grid axes included by their own names."""
    known = dict(state.cell.labels)
    return {**known.pop("axes", {}), **known}


def fixed(state: CellState) -> dict[str, Any]:
    """What never changes for a key: the resolved spec with dotted names, parameter counts, sizes."""
    cell = state.cell
    counts = {"n_params": cell.n_params, "n_params_non_embedding": cell.n_params_non_embedding}
    return {**dict(flatten(cell.spec)), **counts, **cell.sizes}


def changing(state: CellState) -> dict[str, Any]:
    """What may change between attempts, or be called otherwise in a later sweep file."""
    attempt = state.attempts[-1] if state.attempts else None
    return {
        "key": state.cell.key,
        "kind": state.cell.cell_kind,
        **labels(state),
        "data_sha256": state.cell.spec.get("data", {}).get("content_sha256", ""),
        "status": state.status,
        "reason": state.ended.reason if state.ended else "",
        "attempts": len(state.attempts),
        "code_version": attempt.code_version if attempt else "",
        "device_name": attempt.device_name if attempt else "",
        **(dict(flatten(attempt.execution)) if attempt else {}),
    }


def results(state: CellState) -> dict[str, float]:
    """Final results that are numbers; empty until the trial has ended for good."""
    if state.ended is None or state.ended.status not in FINAL:
        return {}
    return finite(state.ended.result | {"max_celsius": state.max_celsius, "joules": state.joules})


# What tables of runs are sorted by. All results are in the artifact result.json, not as dozens of metrics of one point.
HEADLINES = (
    "val_loss", "val_auc", "val_brier", "prior_loss", "skill", "collapsed", "test_loss", "test_auc", "test_skill",
    "train_seconds", "held_seconds", "samples_per_second", "peak_bytes", "max_celsius", "joules",
)  # fmt: skip


def headlines(state: CellState) -> dict[str, float]:
    """The results that are metrics of their own."""
    return {name: value for name, value in results(state).items() if name in HEADLINES}


def table(view: LedgerView) -> tuple[list[str], list[list[Any]]]:
    """The names of columns and the rows of a table of all trials: labels and headline results."""
    states = list(view.current.values())
    names = list(dict.fromkeys(name for state in states for name in labels(state)))
    rows = []
    for state in states:
        known, found = labels(state), headlines(state)
        ours: list[Any] = [state.cell.name, state.cell.key, state.status]
        ours += [
            known[name] if isinstance(known.get(name), str | int | float) else text(known.get(name)) for name in names
        ]
        rows.append([*ours, state.cell.n_params, *(found.get(name) for name in HEADLINES)])
    return ["name", "key", "status", *names, "n_params", *HEADLINES], rows


def answer(view: LedgerView) -> str:
    """The answer of the report that the latest sweep ended with; empty before that."""
    began = view.sweeps[-1].seq if view.sweeps else 0
    return next((event.message for event in reversed(view.events) if event.what == REPORT and event.seq > began), "")


def last_step(state: CellState) -> int:
    """The highest optimizer step that has metrics."""
    return max(state.metrics, default=0)


def began(state: CellState) -> datetime:
    """When the first attempt started, or the trial ended without one."""
    records = (*state.attempts[:1], *((state.ended,) if state.ended else ()))
    return records[0].time if records else state.cell.time


def shown(state: CellState) -> bool:
    """Whether a trial has a run in the trackers: it was started, or has ended without that (infeasible)."""
    return bool(state.attempts) or state.ended is not None


class SeenMetrics:
    """Which (step, name) pairs of one trial were passed on: steps repeated after a resume are not shown twice."""

    def __init__(self) -> None:
        self._steps: dict[str, set[int]] = {}

    def knows(self, name: str) -> bool:
        """Whether anything is known about a metric."""
        return name in self._steps

    def add(self, name: str, steps: set[int]) -> None:
        """Note steps that a metric has."""
        self._steps.setdefault(name, set()).update(steps)

    def new(self, step: int, values: Mapping[str, float | None]) -> dict[str, float]:
        """The finite values that were not seen at that step before; they count as seen from now on."""
        fresh = {}
        for name, value in finite(values).items():
            steps = self._steps.setdefault(name, set())
            if step not in steps:
                steps.add(step)
                fresh[name] = value
        return fresh


def sweep_status(view: LedgerView) -> str:
    """``running``, ``finished``, ``failed`` (a cell failed, or the driver did) or ``interrupted``."""
    if view.ended is None:
        return "running"
    return {0: "finished", 3: "interrupted"}.get(view.ended.exit_code, "failed")
