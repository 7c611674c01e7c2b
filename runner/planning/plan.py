"""The grid as it would run: what is new, done, resumable, orphaned or infeasible, and what it needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.filesize import decimal
from rich.text import Text

from runner.config import listed_parts
from runner.config.sweep_file import Sweep
from runner.host.device import Site
from runner.planning import checks, execution
from runner.planning import data_checks as data_findings
from runner.planning import shutdown as ending
from runner.planning.grid import Cell, Grid, expand
from runner.planning.shutdown import ShutdownEstimate
from runner.planning.studies import Study, confirmed_by, of_plan
from runner.probe.request import Decides
from runner.rundir import ledger
from runner.rundir.ledger import FINAL
from runner.rundir.paths import DATA, RUNS, RunPaths, run_paths
from runner.rundir.studies import StudyState
from runner.search.transfer import narrowed
from runner.terminal.console import Console, visible
from runner.terminal.plan_table import axes_line, duration, plan_table
from trainables.data.dataset import further_words, unused_words

State = Literal["new", "done", "resumable", "infeasible"]
TO_RUN: tuple[State, ...] = ("new", "resumable")
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class Plan:
    """A grid held against what its ledger already knows."""

    paths: RunPaths
    grid: Grid
    states: dict[str, State]
    orphaned: tuple[str, ...]
    findings: tuple[checks.CheckFinding, ...]
    ending: ShutdownEstimate
    studies: tuple[Study, ...] = ()
    progress: Mapping[str, StudyState] = field(default_factory=dict)

    @property
    def listed(self) -> tuple[Cell, ...]:
        """Cells that the ledger lists as the grid: with a search, those alone that cannot be run."""
        return tuple(cell for cell in self.grid.cells if cell.infeasible) if self.studies else self.grid.cells

    @property
    def planned(self) -> tuple[Cell, ...]:
        """One cell for each trial of a search, confirmations included; each as large as its study's."""
        searched = (cell for study in self.studies for cell in [study.templates[0]] * study.trials)
        return (*searched, *(cell for study in self.studies for cell in study.templates))

    @property
    def to_run(self) -> tuple[Cell, ...]:
        """Cells that a sweep would start."""
        return tuple(cell for cell in self.grid.cells if self.states[cell.key] in TO_RUN)

    @property
    def disk_bytes(self) -> int:
        """Disk that the cells to run will take, about: checkpoints while they run, afterwards their best weights."""
        running = execution.at_once(self.to_run, self.grid.device)
        return CHECKPOINTS_KEPT * sum(cell.checkpoint_bytes for cell in running) + sum(
            cell.best_bytes for cell in self.to_run
        )

    @property
    def seconds(self) -> float | None:
        """Seconds that the cells to run will take together, packed; None where nothing was measured.

        Trials of a search are included, in full length.
        """
        return self._seconds(pruned=False)

    @property
    def pruned_seconds(self) -> float | None:
        """The same where the pruner ends trials early; None where that is not known."""
        return self._seconds(pruned=True)

    def _seconds(self, *, pruned: bool) -> float | None:
        cells: list[Cell] = list(self.to_run)
        shares = [1.0] * len(cells)
        for study in self.studies:
            over = sum(trial.status in FINAL for trial in self.progress[study.identity].trials)
            left = 0 if study.complete(self.progress[study.identity]) else max(0, study.trials - over)
            share = study.pruned_share() if pruned else 1.0
            if share is None:
                return None
            cells += [study.templates[0]] * left
            shares += [share] * left
        return execution.sweep_seconds(tuple(cells), self.grid.device, shares) if cells else 0.0

    @property
    def errors(self) -> list[checks.CheckFinding]:
        """Findings that stop a sweep."""
        return [finding for finding in self.findings if finding.level == "error"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {
            "run": self.paths.name,
            "device": {"kind": self.grid.device.kind, "name": self.grid.device.name, "count": self.grid.device.count},
            "cells": [self._cell(cell) for cell in self.grid.cells],
            "orphaned": list(self.orphaned),
            "unused_columns": {
                source: list(names) for cell in self.grid.cells for source, names in cell.entry.unused_columns.items()
            },
            "disk_bytes": self.disk_bytes,
            "state_bytes": self.ending.state_bytes,
            "write_seconds": self.ending.write_s,
            "grace_seconds": self.ending.grace_s,
            "seconds": self.seconds,
            **({"studies": [self._study(study) for study in self.studies]} if self.studies else {}),
            **({"pruned_seconds": self.pruned_seconds} if self.studies else {}),
            "gates": [finding.as_dict() for finding in self.findings],
        }

    def _study(self, study: Study) -> dict[str, Any]:
        state = self.progress[study.identity]
        best = state.best
        return {
            **study.asked,
            "done": sum(trial.status in FINAL for trial in state.trials),
            "best": None if best is None else {"number": best.number, "key": best.key, "values": best.values},
            "confirmed": list(state.confirmed),
            **({"predicted": state.predicted.values, "source": state.predicted.source} if state.predicted else {}),
        }

    def _cell(self, cell: Cell) -> dict[str, Any]:
        decision, measured = cell.decision, cell.record.measured
        return {
            "key": cell.key,
            "name": cell.name,
            "state": self.states[cell.key],
            **cell.labels,
            **cell.axes,
            "target_params": cell.target,
            "n_params": cell.counts.total,
            "n_params_non_embedding": cell.counts.non_embedding,
            "shape": cell.spec.model.shape,
            "lr": cell.spec.training.lr,
            "epochs": cell.spec.training.epochs,
            "steps": cell.spec.training.total_steps(cell.sizes["n_train"] or 1),
            "global_batch": cell.spec.training.global_batch,
            "micro_batch": cell.record.micro_batch,
            "accumulation": cell.record.accumulation,
            "threads": cell.record.threads,
            "activation_checkpointing": cell.record.activation_checkpointing,
            "gpu_share": cell.record.gpu_share if cell.record.device == "cuda" else None,
            "reserved_cores": cell.record.reserved_cores or cell.record.threads,
            "peak_bytes": measured.peak_bytes if measured else None,
            "seconds_per_step": measured.seconds_per_step if measured else None,
            "trial_seconds": execution.trial_seconds(cell),
            "needed_bytes": decision.needed_bytes if decision else None,
            "usable_bytes": decision.usable_bytes if decision else None,
            "n_measured_now": decision.n_new if decision else 0,
            "disturbed": bool(decision and decision.disturbed),
            "dtype": cell.spec.dtype,
            **cell.sizes,
            "periods": {name: [part.first, part.last] for name, part in cell.facts.splits.items()},
            "infeasible": cell.infeasible,
        }


def build(
    sweep: Sweep,
    runs: Path = RUNS,
    data_root: Path = DATA,
    *,
    prober: Decides | None = None,
    site: Site | None = None,
) -> Plan:
    """Plan a sweep.

    Args:
        sweep: as understood.
        runs: folder of the run directories.
        data_root: folder of the datasets.
        prober: measures what fits; without one, cells keep what the ledger or the sweep file pins.
        site: where trials will run; None = on this host.

    Raises:
        InputError: bad data or budgets.
        LedgerError: the run's ledger cannot be read.
        ProbeError: a measurement failed for a reason that is neither memory nor time.
    """
    paths = run_paths(sweep.settings.name, runs)
    view = ledger.read(paths.ledger)
    asked, settings = expand(sweep, data_root, site=site), sweep.settings
    findings = [
        *checks.check(
            asked.cells,
            view,
            settings.gates,
            settings.thermal,
            site,
            searched=settings.search.dimensions if settings.search else (),
        ),
        *checks.changed_parts(
            listed_parts.of_sweep(settings), (part for start in view.sweeps for part in start.parts), "warn"
        ),
        *data_findings.check(asked.cells, settings.gates),
        *(checks.idle_gpus(settings.execution) if site is None else ()),
    ]
    if any(finding.level == "error" for finding in findings):
        prober = None  # nothing will start, so that nothing need be measured
    grid = execution.assign(asked, view, settings, prober)
    studies = of_plan(sweep, grid.cells)
    confirmed = confirmed_by(studies, view)
    states: dict[str, State] = {}
    for cell in grid.cells:
        known = view.cells.get(confirmed.get(cell.key, "") if studies else cell.key)
        if cell.infeasible:
            states[cell.key] = "infeasible"
        elif known is not None and known.final and known.status != "infeasible":  # that was another host's memory
            states[cell.key] = "done"
        else:
            states[cell.key] = "resumable" if known is not None and known.attempts else "new"
    to_run = [cell for cell in grid.cells if states[cell.key] in TO_RUN]
    wanted = {*states, *confirmed.values(), *(trial.key for study in studies for trial in study.state(view).trials)}
    return Plan(
        paths=paths,
        grid=grid,
        states=states,
        ending=ending.measure(to_run, grid.device, paths.root),
        orphaned=tuple(
            key for key, state in view.cells.items() if key not in wanted and state.cell.cell_kind == "model"
        ),
        findings=(*findings, *checks.memory(grid.cells)),
        studies=studies,
        progress={study.identity: study.state(view) for study in studies},
    )


def show(plan: Plan, console: Console, *, cells: bool = False) -> None:
    """Print a plan for people: a row for each budget, or for each cell."""
    console.print(plan_table(plan, console.width, cells=cells))
    counts = {state: list(plan.states.values()).count(state) for state in ("new", "resumable", "done", "infeasible")}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count), highlight=False)
    if not cells and (axes := axes_line(plan.grid.cells)):
        console.print(f"{axes}; --cells shows every cell", highlight=False)
    _show_studies(plan, console)
    if plan.orphaned:
        console.print(
            f"{len(plan.orphaned)} cells of the ledger are no longer in the grid (orphaned; they stay in the ledger): "
            f"{', '.join(plan.orphaned[:8])}{' ...' if len(plan.orphaned) > 8 else ''}",
            highlight=False,
        )
    _show_periods(plan, console)
    show_unused(plan, console)
    if plan.seconds is not None:
        console.print(f"time for the cells to run: about {duration(plan.seconds)}{_disturbed(plan)}", highlight=False)
    console.print(f"disk for checkpoints and best weights: about {decimal(plan.disk_bytes)}", highlight=False)
    console.print(_ending(plan.ending), highlight=False)
    show_findings(plan, console)


def _show_studies(plan: Plan, console: Console) -> None:
    """Studies of a search, and what they will take with and without pruning."""
    for study in plan.studies:
        done = sum(trial.status in FINAL for trial in plan.progress[study.identity].trials)
        ranges = ", ".join(f"{dotted} {axis.words()}" for dotted, axis in study.space.items())
        seeds = ", ".join(str(variant.training.seed) for variant in study.variants)
        if study.search.ladder:
            ranges = f"{', '.join(study.search.ladder)} in steps of 3"
        words = (
            f"{done} of {'about ' if study.search.ladder else ''}{checks.plural(study.trials, 'trial')} "
            f"by {study.asked['sampler']}, {ranges}; {_transferred(study, plan.progress[study.identity])}"
            if study.trials
            else "follows the rule of the ladder; "
        )
        console.print(
            f"study {study.name}: {words}its values are confirmed with seed {seeds}",
            markup=False,
            highlight=False,
        )
    if plan.studies and plan.studies[0].search.pruner != "none" and plan.pruned_seconds is not None:
        console.print(f"with pruning: about {duration(plan.pruned_seconds)}", highlight=False)


def _transferred(study: Study, state: StudyState) -> str:
    if not study.transfers:
        return ""
    if state.predicted is None:
        return "starts when smaller sizes are done, where they predict, and searches less than these ranges; "
    ranges = ", ".join(f"{dotted} {axis.words()}" for dotted, axis in narrowed(study.space, state).items())
    return f"by {state.predicted.source} it searches {ranges}; "


def _disturbed(plan: Plan) -> str:
    count = sum(1 for cell in plan.grid.cells if cell.decision and cell.decision.disturbed)
    why = f"other programs kept the processors busy while the probe measured {checks.plural(count, 'cell')}"
    return f", perhaps less: {why}" if count else ""


def _show_periods(plan: Plan, console: Console) -> None:
    """From when to when the windows of each split end, once a data set: horizons move that by days."""
    shown: set[str] = set()
    for cell in plan.grid.cells:
        identity = cell.spec.data.model_dump_json()
        if identity not in shown:
            shown.add(identity)
            periods = [f"{name} {part.first} to {part.last}" for name, part in cell.facts.splits.items() if part.first]
            place = f"windows of {cell.entry.name}, horizon {cell.labels['horizon']}"
            console.print(f"{place}: {', '.join(periods)}", highlight=False)


def show_unused(plan: Plan, console: Console) -> None:
    """Name the columns of the sources that nothing is read from: features of one's own, or a label, are such."""
    for entry in {cell.entry.name: cell.entry for cell in plan.grid.cells}.values():
        for words in unused_words(entry.unused_columns):
            console.print(f"not used: {words}", markup=False, highlight=False)
        for words in further_words(entry.left_out, entry.given):
            console.print(words, markup=False, highlight=False)


def _ending(ending: ShutdownEstimate) -> str:
    state, speed = decimal(ending.state_bytes), ""
    if ending.write_s is None:
        speed = ", and the run's folder cannot be written to measure how long that takes"
    elif ending.write_s:
        speed = f", {ending.write_s:.0f} s to write here"
    grace = f"give a container {math.ceil(ending.grace_s)} s between SIGTERM and SIGKILL (stop_grace_period)"
    return f"state to save at an early end: about {state}{speed}; {grace}"


def show_findings(plan: Plan, console: Console) -> None:
    """Print the findings of the checks."""
    for finding in plan.findings:
        style = "red" if finding.level == "error" else "yellow"
        words = f" {finding.gate}: {finding.message}\n      fix: {finding.fix}"
        console.print(Text.assemble((finding.level, style), visible(words)))
