"""Is this host fit for a sweep? Every finding says what, why it matters, and how to fix it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runner.doctor import gpu, memory, ray_start, storage, temperature, trackers
from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis
from trainables.errors import ConfigError, Problem

__all__ = ["Diagnosis", "HostContext", "as_dict", "examine", "refuse"]

# These take milliseconds and import neither torch nor pandas. Temperatures are checked by the plan.
_FAST: tuple[Callable[[HostContext], Iterator[Diagnosis]], ...] = (
    *(storage.check, memory.check, ray_start.check, gpu.check),
    trackers.check_variables,
)


def examine(place: HostContext, *, fast: bool = False) -> list[Diagnosis]:
    """Look at everything, or only at what is looked at before each sweep."""
    findings = [finding for check in _FAST for finding in check(place)]
    if fast:
        return findings
    from runner.doctor import data

    findings += gpu.check_torch(place)
    for check in (temperature.check, trackers.check, data.check):
        findings += check(place)
    return findings


def refuse(findings: Sequence[Diagnosis]) -> None:
    """Refuse to start what would surely fail.

    Raises:
        ConfigError: all errors among the findings.
    """
    problems = [
        Problem(place=f"doctor: {one.check}", message=f"{one.what}; {one.why}", fix=one.fix)
        for one in findings
        if one.level == "error"
    ]
    if problems:
        raise ConfigError(problems)


def as_dict(findings: Sequence[Diagnosis]) -> dict[str, Any]:
    """Plain values, for ``--json``."""
    return {
        "ok": all(one.level != "error" for one in findings),
        "findings": [one.as_dict() for one in findings],
    }
