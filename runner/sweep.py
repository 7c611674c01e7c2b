"""The main job: from a sweep file to results, report and trackers. Run again, it resumes."""

import json
import logging
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from runner import baselines, doctor
from runner.config.sweep_file import Sweep
from runner.host.versions import code_version, library_versions
from runner.planning import execution
from runner.planning import plan as planning
from runner.planning.grid import Cell
from runner.planning.plan import Plan
from runner.rundir import lock, results
from runner.rundir.ledger import CellEnded, CellRecorded, SweepEnded, SweepStarted
from runner.rundir.paths import DATA, RUNS, RunPaths, run_paths
from runner.rundir.recorder import Recorder
from runner.storage import place_of, restore
from runner.storage.checkpoints import Pruner
from runner.storage.mirror import Mirror, NoMirror
from runner.storage.mirror import begin as begin_mirror
from runner.terminal.console import Console
from runner.thermal import TEMPERATURE, telemetry
from runner.tracking import addresses
from runner.tune import environment
from trainables.errors import ConfigError, Problem
from trainables.files import LogFile, is_storage_trouble, real_folder, replace_text
from trainables.models.flops import training_flop_per_window
from trainables.parts import plugins

log = logging.getLogger(__name__)

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 3

LEDGER_LOST = "a change of the ledger from outside"
STORAGE_BEHIND = "a storage that does not answer"
STORAGE_FIX = "lacks a part of this run, which is whole here: run the sweep again here to bring it there"


def run(
    sweep: Sweep, console: Console, runs: Path = RUNS, data_root: Path = DATA, *, address: str | None = None
) -> int:
    """Run a sweep to its end and return the exit code.

    Args:
        sweep: as understood.
        console: where it is told.
        runs: folder of the run directories.
        data_root: folder of the datasets.
        address: of the Ray cluster that this host is a node of; None = a Ray of this host and this sweep alone.

    Raises:
        InputError: anything wrong with the input, an `error` gate, or no cell that can be run honestly; nothing was
            started.
    """
    addresses.admit(sweep)
    telemetry.read(run_paths(sweep.settings.name, runs).thermal_parquet)  # a damaged one is refused before the start
    _examine(sweep, console, runs, data_root, cluster=address is not None)
    restore.bring(sweep.settings, runs, data_root, console)
    environment.prepare(cluster=address is not None)
    try:
        plan = _plan(sweep, runs, data_root, address, console)
        _refuse(plan)
        planning.show_unused(plan, console)
        planning.show_findings(plan, console)
        return _run(sweep, plan, console, data_root, address)
    finally:
        if address is not None:
            environment.stop()


def _run(sweep: Sweep, plan: Plan, console: Console, data_root: Path, address: str | None) -> int:
    with lock.held(plan.paths), _log_file(plan.paths):
        recorder = Recorder(plan.paths, sweep.settings.execution.disk_timeout_s)
        try:
            return _run_cells(sweep, plan, recorder, console, data_root, cluster=address is not None)
        except OSError as error:
            if not is_storage_trouble(error):
                raise
            console.print(f"the disk: {error}; every cell that ended is in the ledger", highlight=False)
            _show_resume(sweep, console)
            return STOPPED
        finally:
            recorder.close()


def _probing(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(f"probing {text}", markup=False, highlight=False)


def _plan(sweep: Sweep, runs: Path, data_root: Path, address: str | None, console: Console) -> Plan:
    """Plan for this host, or for the cluster, which is joined for it."""
    say = _probing(console)
    if address is None:
        with execution.make_prober(sweep.settings, cache_folder=execution.cache_folder(), say=say) as prober:
            return planning.build(sweep, runs, data_root, prober=prober)
    environment.join(address)
    from runner.tune import cluster

    settings = sweep.settings
    place = doctor.HostContext.of(settings, runs, data_root, cluster=True)
    nodes = cluster.survey(settings.execution, settings.thermal, place.shared)
    findings = list(cluster.check(nodes))
    doctor.refuse(findings)
    doctor.show(findings, console)
    with cluster.ClusterProber(nodes, settings, say) as prober:
        return planning.build(sweep, runs, data_root, prober=prober, site=cluster.site(nodes))


def _examine(sweep: Sweep, console: Console, runs: Path, data_root: Path, *, cluster: bool) -> None:
    """Show what is wrong with this host, and refuse what would surely fail."""
    findings = doctor.examine(doctor.HostContext.of(sweep.settings, runs, data_root, cluster=cluster), fast=True)
    doctor.refuse(findings)
    doctor.show([finding for finding in findings if finding.level != "ok"], console)


def _refuse(plan: Plan) -> None:
    if plan.errors:
        raise ConfigError(
            Problem(place=f"gate: {finding.gate}", message=finding.message, fix=finding.fix) for finding in plan.errors
        )


# ---- the run directory -------------------------------------------------------------------------------------------


@contextmanager
def _log_file(paths: RunPaths) -> Iterator[None]:
    handler = LogFile(paths.writable(paths.logs / "driver.log"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _write_down(sweep: Sweep, plan: Plan, recorder: Recorder) -> None:
    """Write what is asked into the run directory and the ledger."""
    paths = plan.paths
    _close_what_stayed_open(recorder)
    for folder in (paths.predictions, paths.checkpoints, paths.logs):
        real_folder(folder, paths.root)
    for plugin in plugins.loaded():
        replace_text(paths.plugin(plugin.file_name), plugin.text)
    replace_text(paths.sweep_yaml, sweep.file.text)
    config = sweep.settings.model_dump(mode="json")
    replace_text(paths.resolved, json.dumps(config, indent=2) + "\n")
    recorder.record(
        SweepStarted(
            run=paths.name,
            keys=tuple(cell.key for cell in plan.grid.cells),
            config=config,
            code_version=code_version(),
            versions=library_versions(),
            datasets=tuple({cell.entry.name: cell.entry.model_dump(mode="json") for cell in plan.grid.cells}.values()),
            gates=tuple(finding.as_dict() for finding in plan.findings),
        )
    )
    for cell in plan.grid.cells:
        _record_cell(recorder, cell)


def _close_what_stayed_open(recorder: Recorder) -> None:
    """A driver that died has left attempts without an end; nothing of them runs any more."""
    for key, state in recorder.view.cells.items():
        if state.status == "running":
            reason = "its driver died; resumes from its checkpoint"
            attempt = state.attempts[-1].attempt
            recorder.record(CellEnded(key=key, attempt=attempt, status="interrupted", reason=reason))


def _record_cell(recorder: Recorder, cell: Cell) -> None:
    if cell.key not in recorder.view.cells:
        recorder.record(
            CellRecorded(
                key=cell.key,
                name=cell.name,
                labels={**cell.labels, "axes": cell.axes},
                n_params=cell.counts.total,
                n_params_non_embedding=cell.counts.non_embedding,
                sizes=cell.sizes,
                spec=cell.spec.model_dump(mode="json"),
                parts=cell.parts,
                flop_per_window=training_flop_per_window(cell.spec.model),
            )
        )
    if cell.infeasible and not recorder.view.cells[cell.key].final:
        recorder.record(CellEnded(key=cell.key, attempt=0, status="infeasible", reason=cell.infeasible))


# ---- running -----------------------------------------------------------------------------------------------------


def _run_cells(
    sweep: Sweep, plan: Plan, recorder: Recorder, console: Console, data_root: Path, *, cluster: bool
) -> int:
    from runner.tracking import session  # imports Ray, whose variables are set by now
    from runner.tune import drain as draining

    with draining.begun(plan.paths.running, plan.ending.save_s) as drain:
        recorder.wait_unless(lambda: drain.requested)
        recorder.on_lost = lambda _: drain.request(LEDGER_LOST)
        mlflow = sweep.settings.tracking.mlflow
        if mlflow is not None and mlflow.uri is not None:
            addresses.note(mlflow.uri)
        tracking = session.make(sweep.settings.tracking, plan.paths)
        recorder.listen(Pruner(plan.paths, recorder.view).on_record)
        mirror = begin_mirror(sweep.settings, plan.paths, data_root, recorder)
        mirror.on_conflict = drain.request
        patience_s = session.STOPPED_TIMEOUT_S
        try:
            _write_down(sweep, plan, recorder)
            session.start(tracking)
            baselines.run(plan, recorder, data_root)
            if plan.to_run and not drain.requested:
                _run_under_tune(sweep, plan, recorder, tracking, drain, console, data_root, cluster=cluster)
            behind = _behind(mirror, drain, sweep, console)
            recorder.check()
            stopped = drain.reason or (STORAGE_BEHIND if behind else "")
            if not plan.to_run:
                console.print("nothing to run: every cell is done", highlight=False)
            table = results.write(recorder.view, plan.paths)
            counts = Counter(str(status) for status in table.loc[table["kind"] == "model", "status"])
            code = _exit_code(counts, stopped)
            recorder.record(SweepEnded(exit_code=code, counts=dict(counts)))
            patience_s = session.STOPPED_TIMEOUT_S if stopped else session.END_TIMEOUT_S
            session.order_close(tracking, patience_s)
            _show_end(plan, counts, stopped, drain, console)
        finally:
            if not mirror.close(patience_s):
                console.print(f"storage  {sweep.settings.storage_path} {STORAGE_FIX}", highlight=False, markup=False)
            reports = session.close(tracking, session.STOPPED_TIMEOUT_S)
        session.show(reports, sweep.settings.tracking, plan.paths, console)
        if recorder.check():
            console.print(f"ledger   {recorder.lost}", highlight=False, markup=False)
            code = STOPPED
    if code == STOPPED:
        _show_resume(sweep, console)
    return code


def _behind(mirror: Mirror | NoMirror, drain: Any, sweep: Sweep, console: Console) -> bool:
    """Whether the storage does not let itself be brought level; a signal ends the wait for it."""
    if drain.requested or isinstance(mirror, NoMirror):
        return False
    console.print(f"storage  {sweep.settings.storage_path}: bringing it level", highlight=False, markup=False)
    return not mirror.settle(lambda: drain.requested) and not drain.requested


def _show_resume(sweep: Sweep, console: Console) -> None:
    if sweep.file.path is None:
        console.print("resume by running the same sweep again", highlight=False)
        return
    named = "".join(f" --plugin {shlex.quote(plugin.path)}" for plugin in plugins.loaded())
    console.print(f"resume with: isotherm sweep {sweep.file.path}{named}", highlight=False)


def _run_under_tune(
    sweep: Sweep,
    plan: Plan,
    recorder: Recorder,
    tracking: Sequence[Any],
    drain: Any,
    console: Console,
    data_root: Path,
    *,
    cluster: bool,
) -> None:
    """Run the unfinished cells, until nothing is left or the drain is requested."""
    from runner.terminal.progress import LiveProgress
    from runner.tune.drain import shielded
    from runner.tune.launch import Launch, run_rounds
    from runner.tune.protection import Protection

    settings = sweep.settings
    storage = place_of(settings, plan.paths)
    with shielded():
        try:
            if not cluster:
                environment.start(plan.grid.device)
        except SystemExit:  # Ray's own handler, in place of ours while it starts; other threads still get signals
            drain.request("SIGTERM")
        drain.handle_signals()
    try:
        protection = Protection(settings.thermal, plan.grid.device.kind, plan.paths, recorder, cluster=cluster)
        progress = LiveProgress(plan.grid.cells, recorder.view, console, protection.line)
        recorder.listen(progress.on_record)
        with nullcontext() if drain.requested else protection, progress:
            run_rounds(
                Launch(
                    cells=plan.grid.cells,
                    device=plan.grid.device,
                    paths=plan.paths,
                    data_root=data_root,
                    recorder=recorder,
                    drain=drain,
                    callbacks=tuple(tracking),
                    execution=settings.execution,
                    make_gate=protection.make_gate(drain.flag, elsewhere=storage if cluster else None),
                    storage=storage,
                    cluster=cluster,
                )
            )
    finally:
        if not cluster:
            environment.stop()
            drain.handle_signals()  # Ray's end has put SIGTERM's default in place of our handler


def _exit_code(counts: Counter[str], stopped: str) -> int:
    if stopped or counts["interrupted"] or counts["thermal_stop"]:
        return STOPPED
    return FAILED if counts["failed"] or counts["out_of_memory"] else DONE


def _show_end(plan: Plan, counts: Counter[str], stopped: str, drain: Any, console: Console) -> None:
    """Say what came out and build the report; after a signal there is no time for it, and one that comes ends it."""
    from runner.tune.drain import Interrupted

    paths = plan.paths
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    console.print(f"{paths.name}: {summary}" + (f"; stopped by {stopped}" if stopped else ""), highlight=False)
    console.print(f"results  {paths.results_parquet}", highlight=False)
    if stopped in ("", TEMPERATURE, STORAGE_BEHIND, LEDGER_LOST):
        from runner.report import build

        try:
            with drain.interruptible():
                build.build(paths)
        except Interrupted:
            console.print(f"report   not built: isotherm report {paths.root}", highlight=False, markup=False)
        else:
            console.print(f"report   {paths.report_html}", highlight=False)
