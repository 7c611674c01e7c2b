"""What a check says."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        check: short name, such as ``shared memory``.
        level: ``error`` where a sweep would surely fail, ``warn`` where it would run worse or unprotected.
        what: what was found, with its numbers.
        why: why it matters.
        fix: the command or setting that fixes it; empty where nothing is wrong.
    """

    check: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ok(check: str, what: str) -> Diagnosis:
    """Nothing is wrong."""
    return Diagnosis(check=check, level="ok", what=what)
