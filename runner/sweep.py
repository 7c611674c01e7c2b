"""The main job: from a sweep file to results, report and trackers. Run again, it resumes."""

import logging
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from runner import baselines, doctor, ensembles
from runner.config.sweep_file import Sweep
from runner.host.device import Site
from runner.planning import branches, execution
from runner.planning import plan as planning
from runner.planning.grid import Builder, Cell
from runner.planning.plan import Plan
from runner.planning.record import record_start
from runner.probe.request import Decides
from runner.rundir import lock, requests, results
from runner.rundir.ledger import REPORT, EventRecorded, SweepEnded
from runner.rundir.paths import DATA, RUNS, RunPaths
from runner.rundir.recorder import Recorder
from runner.storage import place_of, restore
from runner.storage.checkpoints import Pruner
from runner.storage.mirror import NoMirror
from runner.storage.mirror import begin as begin_mirror
from runner.terminal import doctor as terminal_doctor
from runner.terminal import plan as terminal_plan
from runner.terminal import trackers as terminal_trackers
from runner.terminal.console import Console
from runner.thermal import TEMPERATURE, telemetry
from runner.tracking import addresses
from runner.tune import environment
from runner.tune.ray_watch import RayWatch
from runner.tune.search import Search
from trainables.errors import ConfigError, Problem
from trainables.files import LogFile, is_storage_trouble

log = logging.getLogger(__name__)

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 3

LEDGER_LOST = "a change of the ledger from outside"
STORAGE_BEHIND = "a storage that does not answer"
LADDER_FIX = "give the key another value to start at in the sweep file, or search its space"
STORAGE_FIX = "lacks a part of this run, which is whole here: run the sweep again here to bring it there"


def run(
    sweep: Sweep, console: Console, runs: Path = RUNS, data_root: Path = DATA, *, address: str | None = None
) -> int:
    """Run a sweep to its end and return the exit code; see `SweepRun`."""
    return SweepRun(sweep, console, runs, data_root, address=address).run()


class SweepRun:
    """One run of a sweep, a method for each phase: examine, plan, begin, baselines, trials, end, close.

    Attributes:
        plan: what is to run; set by `make_plan`.
        recorder: the way into the ledger, while the run directory is held.
        drain: whether the sweep is to end early, and why; likewise.
        tracking, mirror: the trackers' callbacks and the storage; set by `begin`.
    """

    plan: Plan
    recorder: Recorder

    def __init__(
        self, sweep: Sweep, console: Console, runs: Path = RUNS, data_root: Path = DATA, *, address: str | None = None
    ) -> None:
        """Nothing is read or started yet.

        Args:
            sweep: as understood.
            console: where progress and results are printed.
            runs: folder of the run directories.
            data_root: folder of the datasets.
            address: of the Ray cluster that this host is a node of; None = a Ray of this host and this sweep alone.
        """
        self.sweep, self.settings, self.console = sweep, sweep.settings, console
        self.runs, self.data_root = runs, data_root
        self.address, self.cluster = address, address is not None
        self._site: Site | None = None
        self._refused: tuple[str, ...] = ()  # why a ladder has no rule

    def run(self) -> int:
        """Run to the end and return the exit code.

        Raises:
            InputError: anything wrong with the input, a check at level `error`, or no cell that can be run honestly;
                nothing was started.
        """
        self.examine()
        environment.prepare(cluster=self.cluster)
        try:
            self.make_plan()
            with (
                lock.held(self.paths),
                _log_file(self.paths),
                closing(Recorder(self.paths, self.settings.execution.disk_timeout_s)) as self.recorder,
            ):
                return self._drive()
        finally:
            if self.cluster:
                environment.stop()

    @property
    def paths(self) -> RunPaths:
        """Of the run directory."""
        return self.plan.paths

    # ---- before anything is started ------------------------------------------------------------------------------

    def examine(self) -> None:
        """Refuse what would surely fail on this host, and print what else is wrong with it."""
        addresses.admit(self.sweep)
        host = doctor.HostContext.of(self.settings, self.runs, self.data_root, cluster=self.cluster)
        findings = doctor.examine(host, fast=True)
        doctor.refuse(findings)
        terminal_doctor.show([finding for finding in findings if finding.level != "ok"], self.console)
        restore.bring(self.settings, self.runs, self.data_root, self.console)

    def make_plan(self) -> None:
        """Plan for this host, or for the cluster, which is joined for it; refuse what the checks call an error."""
        self.plan = self._plan_on_cluster(self.address) if self.address is not None else self._plan_here()
        if self.plan.errors:
            raise ConfigError(
                Problem(place=f"check: {finding.gate}", message=finding.message, fix=finding.fix)
                for finding in self.plan.errors
            )
        terminal_plan.show_unused(self.plan, self.console)
        terminal_plan.show_findings(self.plan, self.console)

    def _plan_here(self) -> Plan:
        cache = execution.cache_folder()
        with execution.make_prober(self.settings, cache_folder=cache, say=self._say_probing) as prober:
            return planning.build(self.sweep, self.runs, self.data_root, prober=prober)

    def _plan_on_cluster(self, address: str) -> Plan:
        environment.join(address)
        from runner.tune import cluster

        host = doctor.HostContext.of(self.settings, self.runs, self.data_root, cluster=True)
        nodes = cluster.survey(self.settings.execution, self.settings.thermal, host.shared)
        findings = list(cluster.check(nodes))
        doctor.refuse(findings)
        terminal_doctor.show(findings, self.console)
        with cluster.ClusterProber(nodes, self.settings, self._say_probing) as prober:
            self._site = cluster.site(nodes)
            return planning.build(self.sweep, self.runs, self.data_root, prober=prober, site=self._site)

    @contextmanager
    def _prober(self) -> Iterator[Decides | None]:
        """Measures shapes that a search suggests; in a cluster, where trials keep the nodes busy, nothing does."""
        if not self.plan.studies or self.cluster:
            yield None
            return
        cache = execution.cache_folder()
        with execution.make_prober(self.settings, cache_folder=cache, say=self._say_probing) as prober:
            yield prober

    def _say_probing(self, text: str) -> None:
        self.console.print(f"probing {text}")

    # ---- while the run directory is held -------------------------------------------------------------------------

    def _drive(self) -> int:
        """All phases that write, and the exit code. A disk that takes nothing ends the sweep resumably."""
        from runner.tune import drain as draining  # imports Ray, whose variables are set by now

        try:
            requests.clear(self.paths)
            with draining.begun(self.paths.running, self.plan.ending.save_s) as self.drain:
                self.begin()
                try:
                    record_start(self.sweep, self.plan, self.recorder)
                    self._set_damaged_temperatures_aside()
                    self._session.start(self.tracking)
                    settings = self.settings
                    baselines.run(self.plan, self.recorder, self.data_root, settings.all_metrics, settings.baselines)
                    self.trials()
                    code = self.end()
                finally:
                    self.close()
                if self.recorder.check():
                    self.console.print(f"ledger   {self.recorder.lost}")
                    code = STOPPED
        except OSError as error:
            if not is_storage_trouble(error):
                raise
            self.console.print(f"the disk: {error}; every cell that ended is in the ledger")
            code = STOPPED
        if code == STOPPED:
            self._show_resume()
        return code

    def begin(self) -> None:
        """Open what follows the ledger: trackers, storage, pruning of checkpoints."""
        from runner.tracking import session

        self._session, self._patience_s = session, session.STOPPED_TIMEOUT_S
        self.recorder.wait_unless(lambda: self.drain.requested)
        self.recorder.on_lost = lambda _: self.drain.request(LEDGER_LOST)
        mlflow = self.settings.tracking.mlflow
        if mlflow is not None and mlflow.uri is not None:
            addresses.note(mlflow.uri)
        self.tracking = session.make(self.settings.tracking, self.paths)
        self.recorder.listen(Pruner(self.paths, self.recorder.view).on_record)
        self.mirror = begin_mirror(self.settings, self.paths, self.data_root, self.recorder)
        self.mirror.on_conflict = self.drain.request

    def _set_damaged_temperatures_aside(self) -> None:
        """Go on without the temperatures of earlier starts where they cannot be read."""
        if words := telemetry.set_aside(self.paths.thermal_parquet):
            log.warning("%s", words)
            self.console.print(words)
            self.recorder.record(EventRecorded(what="thermal", message=words))

    def trials(self) -> None:
        """Run the unfinished cells under Ray Tune, until nothing is left or the drain is requested."""
        if not self.plan.to_run:
            self.console.print("nothing to run: every cell is done")
        if not self.plan.to_run or self.drain.requested:
            return
        from runner.terminal.progress import LiveProgress
        from runner.tune.launch import Launch, run_rounds
        from runner.tune.metrics import RayMetrics
        from runner.tune.protection import Protection

        grid, storage = self.plan.grid, place_of(self.settings, self.paths)
        with self._ray() as watch, self._prober() as prober:
            metrics = RayMetrics(self.paths.name) if self.cluster else None  # no one reads those of a Ray of our own
            protection = Protection(
                self.settings.thermal,
                grid.device.kind,
                self.paths,
                self.recorder,
                watch,
                cluster=self.cluster,
                metrics=metrics,
            )
            progress = LiveProgress(
                self.plan.listed, self.recorder.view, self.console, protection.line, self.plan.planned
            )
            self.recorder.listen(progress.on_record)
            if metrics is not None:
                self.recorder.listen(metrics.on_record)
            search = self._search(prober, progress.add)
            with nullcontext() if self.drain.requested else protection, progress:
                run_rounds(
                    Launch(
                        cells=self.plan.listed,
                        device=grid.device,
                        paths=self.paths,
                        data_root=self.data_root,
                        recorder=self.recorder,
                        drain=self.drain,
                        watch=watch,
                        callbacks=(*self.tracking, *([metrics] if metrics else [])),
                        execution=self.settings.execution,
                        make_gate=protection.make_gate(self.drain.flag, elsewhere=storage if self.cluster else None),
                        storage=storage,
                        cluster=self.cluster,
                        metrics=self.settings.all_metrics,
                        search=search,
                        stable=branches.stable_runs(self.plan.listed),
                    )
                )
            self._refused = tuple(search.refused.values()) if search else ()

    def _search(self, prober: Decides | None, on_cell: Callable[[Cell], None]) -> Search | None:
        """The search that the sweep file asks for."""
        if not self.plan.studies:
            return None
        builder = Builder.of(self.sweep, self.data_root, self._site)
        return Search(self.plan.studies, builder, self.recorder, self.settings, prober, on_cell)

    @contextmanager
    def _ray(self) -> Iterator[RayWatch]:
        """A Ray of this sweep's own; a cluster's is joined already."""
        from runner.tune.drain import shielded

        with shielded():
            try:
                if not self.cluster:
                    environment.start(self.plan.grid.device)
            except SystemExit:  # Ray's own handler, in place of ours while it starts; other threads still get signals
                self.drain.request("SIGTERM")
            self.drain.handle_signals()
            self.drain.before_exit = environment.kill
        try:
            yield environment.watch()
        finally:
            if not self.cluster:
                environment.stop()
                self.drain.handle_signals()  # Ray's end has put SIGTERM's default in place of our handler

    def end(self) -> int:
        """Write results and the end of the sweep, build the report, and return the exit code."""
        behind = self._storage_is_behind()
        self.recorder.check()
        stopped = self.drain.reason or (STORAGE_BEHIND if behind else "")
        if not stopped:
            ensembles.run(self.plan, self.recorder, self.data_root, self.settings.all_metrics)
        table = results.write(self.recorder.view, self.paths)
        counts = Counter(str(status) for status in table.loc[table["kind"] == "model", "status"])
        for words in self._refused:
            self.recorder.record(EventRecorded(what="search", message=words))
            self.console.print(f"search   {words}; its sizes were not trained: {LADDER_FIX}", highlight=False)
        code = _exit_code(counts, stopped) or (FAILED if self._refused else DONE)
        self.recorder.record(SweepEnded(exit_code=code, counts=dict(counts)))
        in_order_s = self._session.end_timeout_s(self.settings.tracking)
        self._patience_s = self._session.STOPPED_TIMEOUT_S if stopped else in_order_s
        summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        self.console.print(f"{self.paths.name}: {summary}" + (f"; stopped by {stopped}" if stopped else ""))
        self.console.print(f"results  {self.paths.results_parquet}")
        if stopped in ("", TEMPERATURE, STORAGE_BEHIND, LEDGER_LOST):  # after a signal there is no time for it
            self._build_report()  # before the trackers end, which show its answer
        elif environment.watch().lost:  # a minute at the most, then Ray ends this process
            self._say_no_report()
        self._session.order_close(self.tracking, self._patience_s)
        return code

    def close(self) -> None:
        """Close storage and trackers within their time, and print what has not arrived."""
        if not self.mirror.close(self._patience_s):
            self.console.print(f"storage  {self.settings.storage_path} {STORAGE_FIX}")
        reports = self._session.close(self.tracking, self._session.STOPPED_TIMEOUT_S)
        terminal_trackers.show(reports, self.settings.tracking, self.paths, self.console)

    def _storage_is_behind(self) -> bool:
        """Whether the storage cannot be brought level; a signal ends the wait for it."""
        if self.drain.requested or isinstance(self.mirror, NoMirror):
            return False
        self.console.print(f"storage  {self.settings.storage_path}: bringing it level")
        return not self.mirror.settle(lambda: self.drain.requested) and not self.drain.requested

    def _build_report(self) -> None:
        """Build the report; a signal ends that, and the exit code stays."""
        from runner.report import build
        from runner.tune.drain import Interrupted

        try:
            with self.drain.interruptible():
                answer = build.build(self.paths).answer
        except Interrupted:
            self._say_no_report()
        else:
            self.console.print(f"report   {self.paths.report_html}\n         {answer}")
            with suppress(OSError):  # the report is there, and so is every result
                self.recorder.record(EventRecorded(what=REPORT, message=answer))

    def _say_no_report(self) -> None:
        self.console.print(f"report   not built: isotherm report {self.paths.root}")

    def _show_resume(self) -> None:
        if self.sweep.file.path is None:
            self.console.print("resume by running the same sweep again")
            return
        options = (*self.sweep.options, *(("--address", self.address) if self.address is not None else ()))
        command = shlex.join(["isotherm", "sweep", str(self.sweep.file.path), *options])
        self.console.print(f"resume with: {command}", markup=False, highlight=False, soft_wrap=True)


def _exit_code(counts: Counter[str], stopped: str) -> int:
    if stopped or counts["interrupted"] or counts["thermal_stop"]:
        return STOPPED
    return FAILED if counts["failed"] or counts["out_of_memory"] else DONE


@contextmanager
def _log_file(paths: RunPaths) -> Iterator[None]:
    handler = LogFile(paths.writable(paths.logs / "driver.log"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):  # a full disk: the exit code of the sweep says so
            handler.close()
