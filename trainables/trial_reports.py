"""What a trial reports to Tune: plain dictionaries. Their fields are described at `trainables.trial_life.life`."""

import math
from typing import Any

from trainables.training.gate import Action
from trainables.training.result import SliceReport


def rows(report: SliceReport, readings: dict[str, float]) -> list[dict[str, Any]]:
    """Metrics by step."""
    found = [{"step": row.step, "epoch": row.epoch, "values": plain(row.values)} for row in report.rows]
    if report.kind == "progress" and report.loss is not None:
        found.append(
            {"step": report.step, "epoch": report.epoch, "values": plain({"step_loss": report.loss, **readings})}
        )
    return found


def idle(kind: str, action: Action) -> dict[str, Any]:
    """The answer of a trial that does nothing now."""
    return {"kind": kind, "gate": action.value, "step": 0, "total_steps": 0, "epoch": 0, "rows": [], "done": False}


def of(report: SliceReport) -> dict[str, Any]:
    """The answer of a trial that goes on, or that has saved because its sweep ends."""
    return {
        "kind": "saved" if report.saved and report.action is Action.DRAIN else report.kind,
        "gate": report.action.value,
        "step": report.step,
        "total_steps": report.total_steps,
        "epoch": report.epoch,
        "held_s": report.held_s,
        "train_s": report.train_s,
        "rows": [],
        "done": False,
        "train_seconds": report.train_s,
    }


def ended(status: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """What the answer of a trial has more when it is its last one."""
    return {"kind": "ended", "status": status, "outcome": plain(outcome), "done": True}


def stopped(report: SliceReport, reason: str) -> dict[str, Any]:
    """What is known of a trial that ends early."""
    return {
        "reason": f"{reason}; resumes from its checkpoint",
        "steps": report.step,
        "epochs": report.epoch,
        "train_seconds": report.train_s,
        "held_seconds": report.held_s,
        "throttled_seconds": report.throttled_s,
    }


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity as None: JSON has no words for them."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
