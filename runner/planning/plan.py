"""The grid as it would run: what is new, done, resumable, orphaned or infeasible, and what it needs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from runner.config import listed_parts
from runner.config.sweep_file import Sweep
from runner.host.device import Site
from runner.host.memory_limits import host_limit
from runner.planning import branches, checks, execution
from runner.planning import data_checks as data_findings
from runner.planning import shutdown as ending
from runner.planning.data_size import DataSize
from runner.planning.grid import Cell, Grid, expand
from runner.planning.shutdown import ShutdownEstimate
from runner.planning.studies import Study, confirmed_by, of_plan
from runner.probe.request import Decides
from runner.rundir import ledger
from runner.rundir.ledger import FINAL
from runner.rundir.paths import DATA, RUNS, RunPaths, run_paths
from runner.rundir.studies import StudyState

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
    def stable(self) -> dict[str, str]:
        """By the key of a new cell, the key of the one that it branches off."""
        found = branches.stable_runs(self.listed)
        return {key: longest for key, longest in found.items() if self.states[key] == "new"}

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
        cells, stable = list(self.to_run), self.stable
        shares = [branches.share_trained(cell) if cell.key in stable else 1.0 for cell in cells]
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
            "devices": cell.record.devices,
            "sharded": cell.record.sharded,
            "gpu_share": cell.record.gpu_share if cell.record.device == "cuda" else None,
            "reserved_cores": cell.record.cores,
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
            **asdict(DataSize.of(cell, self.grid.device)),
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
    studies = of_plan(sweep, grid.cells, view)
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
    ended = ending.measure(to_run, grid.device, paths.root)
    on_host = checks.host_memory(ended.state_bytes, grid.device, host_limit()) if site is None else ()
    wanted = {*states, *confirmed.values(), *(trial.key for study in studies for trial in study.state(view).trials)}
    return Plan(
        paths=paths,
        grid=grid,
        states=states,
        ending=ended,
        orphaned=tuple(
            key for key, state in view.cells.items() if key not in wanted and state.cell.cell_kind == "model"
        ),
        findings=(*findings, *checks.memory(grid.cells), *on_host),
        studies=studies,
        progress={study.identity: study.state(view) for study in studies},
    )
