"""The start of a sweep, written into its run directory and ledger: what was asked, as understood."""

import json

from runner.config import listed_parts
from runner.config.sweep_file import Sweep
from runner.host.versions import code_version, library_versions
from runner.planning.grid import Cell
from runner.planning.plan import Plan
from runner.rundir.ledger import CellEnded, CellRecorded, SweepStarted
from runner.rundir.recorder import Recorder
from trainables.files import real_folder, replace_text
from trainables.models.flops import training_flop_per_window
from trainables.parts import plugins


def record_start(sweep: Sweep, plan: Plan, recorder: Recorder) -> None:
    """Write the sweep file, the settings, plugins and every new cell.

    Raises:
        OSError: the disk does not take it.
    """
    paths = plan.paths
    _end_open_attempts(recorder)
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
            keys=tuple(cell.key for cell in plan.listed),
            config=config,
            code_version=code_version(),
            versions=library_versions(),
            datasets=tuple({cell.entry.name: cell.entry.model_dump(mode="json") for cell in plan.grid.cells}.values()),
            gates=tuple(finding.as_dict() for finding in plan.findings),
            studies=tuple(study.asked for study in plan.studies),
            parts=listed_parts.of_sweep(sweep.settings),
        )
    )
    for cell in plan.listed:
        record_cell(recorder, cell)


def _end_open_attempts(recorder: Recorder) -> None:
    """A driver that died leaves attempts without an end; none of them runs any more."""
    for key, state in recorder.view.cells.items():
        if state.status == "running":
            reason = "its driver died; resumes from its checkpoint"
            attempt = state.attempts[-1].attempt
            recorder.record(CellEnded(key=key, attempt=attempt, status="interrupted", reason=reason))


def record_cell(recorder: Recorder, cell: Cell) -> None:
    """Write a cell that the ledger does not have, and that it is infeasible where it is."""
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
