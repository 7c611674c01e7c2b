"""Each trial's run in one tracker, noted in the run directory, so that a report can name it without asking anybody."""

import json
import logging
from pathlib import Path

from trainables.files import replace_text

log = logging.getLogger(__name__)


class RunsFile:
    """A JSON object: key -> ``{"run": id, "url": address or null}``. What an earlier driver noted stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, str | None]] = {}
        try:
            self._known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            log.debug("%s: nothing noted yet", path)

    def note(self, key: str, run: str, url: str | None) -> None:
        """Remember a trial's run. A convenience: a disk that is full costs the note, not the delivery."""
        noted = {"run": run, "url": url}
        if self._known.get(key) == noted:
            return
        self._known[key] = noted
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self._path, json.dumps(self._known, indent=1))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
