"""A tracker of one's own: a table of trials that another program can read, kept in step with the run.

    isotherm run configs/sweeps/quickstart.yaml --plugin examples/my_tracker.py --set "tracking.others=[table]"

It runs in a process of its own, so that it can be slow, hang or fail without harm to the sweep. What it could not take
is handed in again, also by `isotherm sync RUN --plugin examples/my_tracker.py`. Secrets come from its environment; its
keys are written into the run directory.
"""

import json

from pydantic import Field

import isotherm


@isotherm.tracker("table", version=1)
class Table:
    """One JSON file with a row per trial."""

    class Config(isotherm.PartConfig):
        """Keys in `tracking.others`."""

        file: str = Field("table.json", pattern=r"^[\w.-]+$", description="name of the file in the run directory")

    name = "table"

    def __init__(self, config: Config, paths: isotherm.RunPaths) -> None:
        self._file = paths.root / config.file

    def consume(self, records: list, view: isotherm.LedgerView) -> None:
        """Write the table anew; `view` is the run up to now, so that doing it twice changes nothing."""
        rows = [
            {
                "name": state.cell.name,
                "status": state.status,
                "val_loss": state.ended.result.get("val_loss") if state.ended else None,
            }
            for state in view.cells.values()
        ]
        aside = self._file.with_suffix(".tmp")
        aside.write_text(json.dumps(rows, indent=1))
        aside.replace(self._file)

    def close(self, complete: bool) -> dict:
        """Nothing is open; nothing is missing."""
        return {}

    def explain(self, error: Exception) -> isotherm.Problem:
        """For the log, and for the end of the sweep."""
        return isotherm.Problem(place=str(self._file), message=str(error), fix="check the disk")
