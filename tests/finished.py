"""A finished run in a folder, made in this process from real bars: no Ray, no probe, a few seconds."""

import contextlib
import os
from pathlib import Path

from runner import baselines, ensembles
from runner.config import sweep_file
from runner.planning import plan as planning
from runner.planning.record import record_start
from runner.rundir import results
from runner.rundir.ledger import AttemptStarted, CellEnded, MetricsRecorded, SweepEnded
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from trainables import trial_life
from trainables.data import catalog
from trainables.training.gate import Action, NullGate

SWEEP = """\
name: tiny
data: {source: sp500, tier: ohlcv}
task: {kind: threshold, context: 20}
model: {name: mlp}
training: {epochs: 1, global_batch: 128, lr: 1.0e-3}
grid: {budget: [20k], horizon: [1], seed: [0, 1]}
execution: {device: cpu, threads: 1, micro_batch: 64}
thermal: {require_sensors: false}
"""


class OpenGate(NullGate):
    """Lets one trial after the other run."""

    reason = ""

    def begin(self) -> None:
        assert self.check() is Action.RUN

    def readings(self) -> dict[str, float]:
        return {}


def finished_run(folder: Path, *overrides: str, text: str = SWEEP) -> RunPaths:
    """Train all cells of a sweep in ``folder``, which gets ``data/``, ``runs/`` and ``sweep.yaml``.

    Args:
        folder: empty, or with runs of other names.
        overrides: as of ``--set``.
        text: of the sweep file.
    """
    with contextlib.chdir(folder):
        Path("sweep.yaml").write_text(text)
        sweep = sweep_file.load(Path("sweep.yaml"), overrides, tracking=False)
        plan = planning.build(sweep)
        recorder = Recorder(plan.paths)
        record_start(sweep, plan, recorder)
        baselines.run(plan, recorder, Path("data"), sweep.settings.all_metrics, sweep.settings.baselines)
        for cell in plan.grid.cells:
            _train(cell, plan.paths, recorder, sweep.settings.all_metrics)
        ensembles.run(plan, recorder, Path("data"), sweep.settings.all_metrics)
        recorder.record(SweepEnded(exit_code=0, counts={"finished": len(plan.grid.cells)}))
        results.write(recorder.view, plan.paths)
        recorder.close()
    return RunPaths(folder / plan.paths.root)


def _train(cell, paths: RunPaths, recorder: Recorder, metrics) -> None:
    job = trial_life.TrialJob(
        spec=cell.spec,
        record=cell.record,
        attempt=1,
        entry=cell.entry,
        data_root=Path("data"),
        predictions=paths.prediction(cell.key),
        checkpoints=paths.checkpoint(cell.key),
        log_file=paths.trial_log(cell.key),
        metrics=metrics,
    )
    execution = cell.record.model_dump(mode="json")
    recorder.record(AttemptStarted(key=cell.key, attempt=1, execution=execution, code_version="test"))
    for report in trial_life.life(job, OpenGate(), lambda folder: None):
        for row in report["rows"]:
            recorder.record(MetricsRecorded(key=cell.key, attempt=1, **row))
        if report["kind"] == "ended":
            outcome = dict(report["outcome"])
            recorder.record(CellEnded(key=cell.key, attempt=1, status=report["status"], result=outcome))
    assert catalog.verify(Path("data"))[0].ok


if __name__ == "__main__":
    import sys

    print(finished_run(Path(sys.argv[1]), *sys.argv[2:]).root, os.getpid())
