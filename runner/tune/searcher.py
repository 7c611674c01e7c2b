"""Ray Tune's interfaces to a search: a searcher that hands out its trials, a scheduler that ends those behind."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from runner.planning.grid import Cell
from runner.rundir.studies import Objective


class QueueSearcher(Searcher):  # type: ignore[misc]
    """Trials of one round: those that are unfinished, then what `more` gives while the device has room.

    Tune asks for one trial ahead of what it can start. A suggestion is made as late as possible, so that it knows of
    the trials before it.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        *,
        config: Callable[[Cell], dict[str, Any]],
        more: Callable[[], Cell | None],
        has_room: Callable[[], bool],
        is_running: Callable[[], bool],
    ) -> None:
        """All callables are asked in the driver.

        Args:
            cells: unfinished trials.
            config: makes a trial's Tune config.
            more: the next trial of the search.
            has_room: whether a share of the device is free.
            is_running: whether a trial of this round has not ended.
        """
        super().__init__()
        self._waiting = list(cells)
        self._config, self._more, self._has_room, self._is_running = config, more, has_room, is_running

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles searchers into a snapshot that is never read back."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config; None for 'not now'."""
        if self._waiting:
            return self._config(self._waiting.pop(0))
        if self._has_room() and (cell := self._more()) is not None:
            return self._config(cell)
        return None if self._is_running() else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the ledger has it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class PruningScheduler(FIFOScheduler):  # type: ignore[misc]
    """Starts trials in their order, and ends those that are behind others of their study.

    Attributes:
        pruned: why trials were ended, by key.
    """

    def __init__(self, why: Callable[[str, Mapping[int, float]], str], objective: Objective) -> None:
        """`why` is asked with a trial's key and its new losses by epoch, and gives a reason to end it, or nothing."""
        super().__init__()
        self._why, self._judged_by = why, objective  # Tune takes a `_metric` for one that every report must have
        self.pruned: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles schedulers into a snapshot that is never read back."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask at each report that has a new epoch."""
        rows = [row for row in result.get("rows", ()) if row["values"].get(self._judged_by.metric) is not None]
        if not rows or result.get("kind") != "progress":
            return str(TrialScheduler.CONTINUE)
        key = trial.config["job"]["key"]
        curve = {row["epoch"]: self._judged_by.as_loss(row["values"][self._judged_by.metric]) for row in rows}
        if not (reason := self._why(key, curve)):
            return str(TrialScheduler.CONTINUE)
        self.pruned[key] = reason
        return str(TrialScheduler.STOP)
