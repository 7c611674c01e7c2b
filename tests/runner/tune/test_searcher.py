"""Ray Tune's interfaces to a search, as Tune calls them."""

import pickle
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher, SearchGenerator

from runner.rundir.studies import Objective
from runner.tune.searcher import PruningScheduler, QueueSearcher


def searcher(unfinished: list[str], suggested: list[str], running: list[str], room: int = 2) -> QueueSearcher:
    def config(cell: Any) -> dict[str, Any]:
        running.append(cell)
        return {"job": cell}

    return QueueSearcher(
        unfinished,  # type: ignore[arg-type]
        config=config,
        more=lambda: suggested.pop(0) if suggested else None,  # type: ignore[arg-type,return-value]
        has_room=lambda: len(running) < room,
        is_running=lambda: bool(running),
    )


def test_unfinished_trials_come_first_then_suggestions_while_there_is_room() -> None:
    running: list[str] = []
    asked = searcher(["left"], ["new", "newer"], running)
    assert asked.suggest("1") == {"job": "left"}
    assert asked.suggest("2") == {"job": "new"}
    assert asked.suggest("3") is None  # full
    running.remove("left")
    assert asked.suggest("3") == {"job": "newer"}
    running.remove("new")
    assert asked.suggest("4") is None  # a trial that runs may lead to another
    running.clear()
    assert asked.suggest("4") == Searcher.FINISHED


def test_tune_wraps_and_pickles_it_without_what_it_asks() -> None:
    wrapped = SearchGenerator(searcher([], [], []))
    assert wrapped.metric is None
    assert pickle.loads(pickle.dumps(wrapped.searcher)) is not None


def test_a_trial_that_is_behind_is_stopped_at_a_new_epoch_alone() -> None:
    asked: list[tuple[str, dict[int, float]]] = []

    def why(key: str, curve: Any) -> str:
        asked.append((key, dict(curve)))
        return "behind" if curve[max(curve)] > 0.5 else ""

    scheduler = PruningScheduler(why, Objective("val_auc", higher_is_better=True))
    trial = SimpleNamespace(config={"job": {"key": "a" * 12}})

    def report(kind: str, *rows: tuple[int, dict[str, float]]) -> str:
        result = {"kind": kind, "rows": [{"epoch": epoch, "values": values} for epoch, values in rows]}
        return scheduler.on_trial_result(None, trial, result)

    assert report("progress") == TrialScheduler.CONTINUE
    assert report("progress", (0, {"step_loss": 1.0})) == TrialScheduler.CONTINUE
    assert report("saved", (1, {"val_auc": -0.9})) == TrialScheduler.CONTINUE
    assert asked == []
    assert report("progress", (1, {"val_auc": 0.6})) == TrialScheduler.CONTINUE  # higher is better
    assert report("progress", (2, {"val_auc": -0.6})) == TrialScheduler.STOP
    assert asked == [("a" * 12, {1: -0.6}), ("a" * 12, {2: 0.6})]
    assert scheduler.pruned == {"a" * 12: "behind"}
    assert scheduler.metric is None  # else Tune refuses every report without it
    pickle.dumps(scheduler)
