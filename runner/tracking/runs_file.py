"""Each trial's run in one tracker, noted in the run directory, so that a report can name it without asking anybody."""

import json
import logging
from pathlib import Path

from runner.rundir import tracker_runs
from runner.rundir.tracker_runs import TrackerRun
from trainables.errors import ConfigError
from trainables.files import real_folder, replace_text

log = logging.getLogger(__name__)


class RunsFile:
    """A JSON object: key -> ``{"run": id, "url": address or null}``. What an earlier driver noted stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = tracker_runs.read(path)

    def note(self, key: str, run: str, url: str | None) -> None:
        """Remember a trial's run. A convenience: a disk that is full costs the note, not the delivery."""
        noted = TrackerRun(run=run, url=url)
        if self._known.get(key) == noted:
            return
        self._known[key] = noted
        try:
            real_folder(self._path.parent, self._path.parent.parent)
            replace_text(self._path, json.dumps({k: one.model_dump() for k, one in self._known.items()}, indent=1))
        except (OSError, ConfigError) as error:
            log.warning("%s cannot be written: %s", self._path, error)
