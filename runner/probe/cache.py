"""What was measured before, per user: one small JSON file per question.

A question is everything that a measurement depends on; the limit is not part of it and is applied when the answer is
looked up. Files are replaced whole, so that two sweeps at a time do no harm: at worst something is measured twice.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runner.probe.batch_size import Measurement, Search, Stop, choose
from trainables.files import replace_text

FORMAT = 3  # raise it when a measurement is made in another way
SHORT_S = 3600.0  # what other work disturbed, or time cut short, holds so long: that work may have ended
NEAR = 1.1  # a limit that grew by less than this does not reopen a search that it had ended

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """A search that was made: among which sizes, under which limits of memory and time, when, and why it ended."""

    candidates: tuple[int, ...]
    usable_bytes: int
    stopped: Stop
    budget_s: float
    at: float = field(default_factory=time.time, compare=False)

    def holds(self, usable_bytes: int, budget_s: float) -> bool:
        """Whether it would end in the same way under other limits."""
        if self.stopped in ("memory", "out_of_memory"):
            return usable_bytes <= NEAR * self.usable_bytes
        if self.stopped == "time":
            return budget_s <= NEAR * self.budget_s and 0 <= time.time() - self.at < SHORT_S
        return True


@dataclass
class Curve:
    """All that is known of one question.

    `begun_at` is in seconds since 1970.
    """

    measured: list[Measurement] = field(default_factory=list)
    searches: list[Ended] = field(default_factory=list)
    begun_at: float = field(default_factory=time.time, compare=False)

    @property
    def holds(self) -> bool:
        """Whether it may still be used: times that other work disturbed are not kept for long.

        A size that took too long was never timed, so it may have been disturbed.
        """
        disturbed = any(one.disturbed or one.outcome == "timeout" for one in self.measured)
        return not disturbed or 0 <= time.time() - self.begun_at < SHORT_S

    def known(self, size: int, limit_bytes: int) -> Measurement | None:
        """A size's measurement. What ran out of memory counts under limits no higher than it had then."""
        found = next((one for one in self.measured if one.micro_batch == size), None)
        if found is None or (found.outcome == "out_of_memory" and limit_bytes > found.limit_bytes):
            return None
        return found

    def add(self, one: Measurement) -> None:
        """Remember a measurement in place of an older one."""
        self.measured = [*(old for old in self.measured if old.micro_batch != one.micro_batch), one]

    def ended(self, candidates: tuple[int, ...], usable_bytes: int, stopped: Stop, budget_s: float) -> None:
        """Remember why a search ended."""
        others = [old for old in self.searches if old.candidates != candidates]
        self.searches = [*others, Ended(candidates, usable_bytes, stopped, budget_s)]

    def search(self, candidates: Sequence[int], usable_bytes: int, budget_s: float) -> Search | None:
        """The answer of a search that was made before, if it still holds under other limits and anything fits."""
        ended = next((one for one in self.searches if one.candidates == tuple(candidates)), None)
        if ended is None or not ended.holds(usable_bytes, budget_s):
            return None
        measured = tuple(one for one in self.measured if one.micro_batch in candidates)
        chosen = choose(measured, usable_bytes)
        return Search(measured, ended.stopped, chosen) if chosen is not None else None


_CURVE = TypeAdapter(Curve)


class Cache:
    """Curves by question. Without a folder they are known as long as this object lives."""

    def __init__(self, folder: Path | None) -> None:
        self._here: dict[str, Curve] = {}
        self.folder = folder / f"probe-{FORMAT}" if folder else None

    def load(self, question: dict[str, Any]) -> Curve:
        """What is known; nothing where the file is missing or damaged."""
        path = self._path(question)
        if path is None:
            return self._here.get(_name(question), Curve())
        if not path.exists():
            return Curve()
        try:
            curve = _CURVE.validate_python(json.loads(path.read_text())["curve"])
            return curve if curve.holds else Curve()
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            log.warning("%s cannot be read and is measured anew: %s", path, error)
            return Curve()

    def store(self, question: dict[str, Any], curve: Curve) -> None:
        """Remember. A folder that cannot be written costs a warning, never a sweep."""
        path = self._path(question)
        if path is None:
            self._here[_name(question)] = curve
            return
        document = {"question": question, "curve": _CURVE.dump_python(curve, mode="json")}
        try:
            replace_text(path, json.dumps(document, indent=1) + "\n")
        except OSError as error:
            log.warning("what the probe measured cannot be kept: %s", error)

    def clear(self) -> int:
        """Forget everything; how many questions were known."""
        if self.folder is None or not self.folder.exists():
            return 0
        known = len(list(self.folder.glob("*.json")))
        shutil.rmtree(self.folder)
        return known

    def _path(self, question: dict[str, Any]) -> Path | None:
        return self.folder / f"{_name(question)}.json" if self.folder else None


def _name(question: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:24]
