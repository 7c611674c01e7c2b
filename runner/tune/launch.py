"""Rounds of Tune over the unfinished cells, until nothing is unfinished or attempts are used up.

One round is one `fit()` without Tune's own retries: a crash means 'resume in the next round', from the trial's own
checkpoint. Tune's experiment snapshot goes to a temporary folder and is never read back; the ledger is the state.
"""

import itertools
import logging
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from runner.host.device import Device
from runner.host.versions import code_version
from runner.planning import execution
from runner.planning.grid import Cell
from runner.rundir.ledger import CellEnded, Status
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.rundir.studies import Objective
from runner.storage.checkpoints import next_attempt
from runner.tune import memory
from runner.tune.disk import DiskWatch
from runner.tune.drain import Drain, DrainStopper
from runner.tune.failures import Failure, FailureClassifier
from runner.tune.ledger_callback import LOG_LINES, LedgerCallback
from runner.tune.protection import StuckWatch
from runner.tune.ray_watch import ENDING_S, RayWatch, attend
from runner.tune.scratch import TUNE_PREFIX, Scratch
from runner.tune.search import Search
from runner.tune.searcher import PruningScheduler, QueueSearcher
from runner.tune.stall import StallWatch
from trainables.checkpoints.object_store import StoragePlace
from trainables.parts import plugins
from trainables.schema import ExecutionRecord, ExecutionSpec, MetricSpec
from trainables.training.branching import Branch
from trainables.trial_life import TrialGate, TrialJob
from trainables.tune_trainable import IsothermTrial

ANY_OF_A_KIND = 0.001  # each node has 1 of its accelerator's type; a share only says 'on such a node'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """All that a sweep's rounds need."""

    cells: tuple[Cell, ...]
    device: Device
    paths: RunPaths
    data_root: Path
    recorder: Recorder
    drain: Drain
    watch: RayWatch
    callbacks: tuple[tune.Callback, ...]
    execution: ExecutionSpec
    make_gate: Callable[[], TrialGate]
    storage: StoragePlace | None = None
    cluster: bool = False
    metrics: tuple[MetricSpec, ...] = ()
    search: Search | None = None
    stable: Mapping[str, str] = field(default_factory=dict)  # by key of a branch, the trial that it branches off

    @property
    def all_cells(self) -> tuple[Cell, ...]:
        """The grid's, and those of its search so far."""
        return (*self.cells, *self.search.cells.values()) if self.search else self.cells


def run_rounds(launch: Launch) -> None:
    """Run every feasible cell that is not final, round after round. Returns early when the drain is requested."""
    # Every node must see Tune's folder: in a cluster it is in the results' folder, which all share.
    shared = launch.paths.root.resolve() if launch.cluster else None
    # A node that was cut off may still write there while it is removed; a driver that is killed leaves it behind.
    folder = Scratch(shared, ".tune-") if shared else Scratch(Path(tempfile.gettempdir()), TUNE_PREFIX)
    with closing(folder):
        attend(lambda: _rounds(launch, folder.path), launch.watch, launch.drain)
    if launch.drain.requested:
        _mark_interrupted(launch)


def _rounds(launch: Launch, folder: Path) -> None:
    starts: Counter[str] = Counter()
    classifier = FailureClassifier()
    for number in itertools.count(1):
        launch.drain.check_flag()
        todo = [cell for cell in unfinished(launch) if starts[cell.key] < _starts_allowed(launch, cell.key)]
        now = {cell.key for cell in todo}
        todo = [cell for cell in todo if launch.stable.get(cell.key) not in now or _has_begun(launch, cell.key)]
        if launch.drain.requested or (not todo and not (todo := _more(launch, starts))):
            return
        started = _fit(launch, todo, classifier, starts, folder / f"round-{number}")
        _spare(launch, started, starts)


def _has_begun(launch: Launch, key: str) -> bool:
    return bool(launch.recorder.view.cells[key].attempts)


def _more(launch: Launch, starts: Counter[str]) -> list[Cell]:
    """The search's next trial in a list; none where the ledger cannot be written, which ends the sweep."""
    if launch.search is None or launch.drain.requested:
        return []

    def may_run(key: str) -> bool:
        state = launch.recorder.view.cells[key]
        again = state.status not in ("failed", "out_of_memory") or starts[key] < _starts_allowed(launch, key)
        known = launch.search is not None and key in launch.search.cells
        return not state.final and known and again and key not in launch.drain.ended

    try:
        cell = launch.search.next(may_run)
    except OSError as error:
        launch.drain.request(f"the ledger, which cannot be written: {error}")
        return []
    return [] if cell is None else [cell]


def _starts_allowed(launch: Launch, key: str) -> int:
    """A trial that temperature or a user has stopped is left to the next sweep: its device needs a look first."""
    if key in launch.drain.ended:
        return 0
    return 1 if launch.recorder.view.cells[key].status == "thermal_stop" else launch.execution.max_attempts


def _spare(launch: Launch, cells: list[Cell], starts: Counter[str]) -> None:
    """An out-of-memory costs no start while there is something to halve, and all of them when there is not."""
    for cell in cells:
        state = launch.recorder.view.cells[cell.key]
        if state.status == "out_of_memory":
            starts[cell.key] = launch.execution.max_attempts if memory.at_the_floor(state) else starts[cell.key] - 1


def unfinished(launch: Launch) -> list[Cell]:
    """Cells to run, the longest first: the end of a round is then short."""
    states = launch.recorder.view.cells
    # A cell that the ledger calls infeasible and the plan does not was refused on a smaller host.
    cells = [
        cell
        for cell in launch.all_cells
        if not cell.infeasible and (not states[cell.key].final or states[cell.key].status == "infeasible")
    ]
    return execution.longest_first(cells)


def _fit(
    launch: Launch, cells: list[Cell], classifier: FailureClassifier, starts: Counter[str], folder: Path
) -> list[Cell]:
    """One round: these trials, then what the search adds to them. Counts the starts, and returns what was started."""
    started: list[Cell] = []

    def config(cell: Cell) -> dict[str, Any]:
        starts[cell.key] += 1
        started.append(cell)
        return {"job": _job(launch, cell).config(cell.name)}

    scheduler, ways = _ways(launch, cells, config, lambda: _more(launch, starts), started)
    trainable = tune.with_resources(_trainable(launch), _cluster_resources if launch.cluster else _resources)
    stalls = StallWatch(launch.execution.stall_timeout_s)
    callbacks = [
        _ledger_callback(launch, classifier, stalls, scheduler),
        stalls,
        StuckWatch(launch.drain),
        DiskWatch(launch.recorder, launch.drain, launch.execution.disk_timeout_s),
        *launch.callbacks,
    ]
    tuner = tune.Tuner(
        trainable,
        param_space=None if launch.search else {"job": tune.grid_search([config(cell)["job"] for cell in cells])},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_folder,
            **ways,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
            stop=DrainStopper(),
            verbose=0,
        ),
    )
    tuner.fit()
    return started


def _trainable(launch: Launch) -> type[IsothermTrial]:
    """The trials' class with what it is handed in, which is pickled with it.

    `tune.with_parameters` would put that into the object store, and Ray ends the driver at once where it cannot
    recover an object of a raylet that is lost (docs/ray.md).
    """
    make_gate, loaded = launch.make_gate, plugins.loaded()

    class EquippedTrainable(IsothermTrial):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, make_gate=make_gate, make_guard=memory.HostGuard, plugins=loaded)

    return EquippedTrainable


def _ways(
    launch: Launch,
    cells: list[Cell],
    config: Callable[[Cell], dict[str, Any]],
    more: Callable[[], list[Cell]],
    started: list[Cell],
) -> tuple[PruningScheduler | None, dict[str, Any]]:
    """The scheduler and further settings of Tune, where there is a search."""
    if launch.search is None:
        return None, {}
    search, view, device = launch.search, launch.recorder.view, launch.device
    smallest = min(execution.share(template, device) for study in search.studies for template in study.templates)

    def running() -> list[Cell]:
        return [cell for cell in started if view.cells[cell.key].ended is None]

    def has_room() -> bool:
        taken = sum(min(execution.share(cell, device), device.count) for cell in running())
        return taken + min(smallest, device.count) <= device.count + 1e-9

    searcher = QueueSearcher(
        cells,
        config=config,
        more=lambda: next(iter(more()), None),
        has_room=has_room,
        is_running=lambda: bool(running()),
    )
    scheduler = PruningScheduler(search.why_pruned, Objective.of(search.studies[0].asked))
    return scheduler, {"search_alg": searcher, "scheduler": scheduler, "num_samples": -1}


def _job(launch: Launch, cell: Cell) -> TrialJob:
    state = launch.recorder.view.cells[cell.key]
    paths = RunPaths(launch.paths.root.resolve())  # a link in the run directory must stay one, to be refused
    return TrialJob(
        spec=cell.spec,
        record=memory.next_record(cell.record, state, cell.spec.training.global_batch),
        attempt=next_attempt(launch.paths.checkpoint(cell.key), state),
        entry=cell.entry,
        data_root=launch.data_root.resolve(),
        predictions=paths.prediction(cell.key),
        checkpoints=paths.checkpoint(cell.key),
        log_file=paths.trial_log(cell.key),
        storage=launch.storage,
        metrics=launch.metrics,
        branches=tuple(
            Branch(spec=one.spec, checkpoints=paths.checkpoint(one.key))
            for one in launch.cells
            if launch.stable.get(one.key) == cell.key and not _has_begun(launch, one.key)
        ),
        decided_at=launch.search.decided_at(cell.key) if launch.search else (),
    )


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial asks Ray for, of one node: cores, and on CUDA its GPUs or its share of one."""
    record = ExecutionRecord.model_validate(config["job"]["execution"])
    bundle: dict[str, float] = {"CPU": record.cores}
    if record.device == "cuda":
        bundle["GPU"] = record.gpu_share * record.devices
    return tune.PlacementGroupFactory([bundle])


def _cluster_resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """The same, and a node where the trial fits: the kind of GPU that was measured, or enough memory."""
    record = config["job"]["execution"]
    [bundle] = _resources(config).bundles
    if record["accelerator"]:
        bundle[f"accelerator_type:{record['accelerator']}"] = ANY_OF_A_KIND
    if record["device"] == "cpu" and record["measured"] is not None:
        bundle["memory"] = record["measured"]["peak_bytes"]
    return tune.PlacementGroupFactory([bundle])


def _trial_name(trial: Any) -> str:
    return str(trial.config["job"]["name"])


def _trial_folder(trial: Any) -> str:
    return str(trial.config["job"]["key"])


def _ledger_callback(
    launch: Launch, classifier: FailureClassifier, stalls: StallWatch, scheduler: PruningScheduler | None
) -> LedgerCallback:
    drain = launch.drain

    def on_running(key: str, running: bool) -> None:
        (drain.running.add if running else drain.running.discard)(key)

    def diagnose(key: str, failure: Failure) -> tuple[Status, str]:
        launch.watch.park_if_lost(ENDING_S if failure.died else 0.0)  # no failure of the trial
        if stalled := stalls.reason(key):
            return "failed", stalled
        cause = classifier.out_of_memory(failure, RunPaths(launch.paths.root.resolve()).checkpoint(key))
        return "out_of_memory" if cause else "failed", cause

    return LedgerCallback(
        launch.recorder.record,
        on_failure=lambda error: drain.request(f"the ledger, which cannot be written: {error}"),
        on_running=on_running,
        on_saved=drain.saved.add,
        diagnose=diagnose,
        last_lines=lambda key: _tail(launch.paths.trial_log(key)),
        code_version=code_version(),
        device_name=launch.device.name,
        pruned=lambda key: scheduler.pruned.get(key, "") if scheduler else "",
        is_ended=drain.ended.__contains__,
    )


def _tail(path: Path) -> tuple[str, ...]:
    """The last lines of a log; none where there is no log."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return tuple(line.rstrip("\n") for line in deque(lines, maxlen=LOG_LINES))
    except OSError:
        return ()


def _mark_interrupted(launch: Launch) -> None:
    for key, state in launch.recorder.view.current.items():
        if state.status == "running":
            attempt = state.attempts[-1].attempt
            reason = f"stopped by {launch.drain.reason}; resumes from its checkpoint"
            launch.recorder.record(CellEnded(key=key, attempt=attempt, status="interrupted", reason=reason))
