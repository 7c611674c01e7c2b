"""One trial in this process: no Ray, no ledger; breakpoints work."""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from runner.config.sweep_file import Sweep
from runner.config.variants import Variant
from runner.planning.grid import Cell, expand
from runner.planning.studies import of_plan
from runner.rundir import ledger
from runner.rundir.paths import DATA, RUNS, run_paths
from runner.search.space import applied
from runner.terminal.console import Console
from runner.thermal.gate import ThermalGate
from runner.thermal.local_gate import LocalGovernor
from trainables.data import catalog, windows
from trainables.data.windows import TrialData
from trainables.errors import ConfigError, InfeasibleError, Problem
from trainables.schema import TrialSpec
from trainables.training.gate import Action, NullGate
from trainables.training.loop import Trainer
from trainables.training.result import SliceReport

PHASES = ("gather", "forward", "backward", "clip", "optimizer")  # the ranges that the step function records
SLICE_S = 1.0
SAY_S = 5.0  # between words on what is waited for
STOPPED = 3
WARM_UP_STEPS, PROFILED_STEPS = 3, 10
OVERFIT_STEPS = 200  # enough for any budget to memorise one batch
VANISHED = 0.1  # of the first loss


@dataclass(frozen=True)
class DebugOptions:
    """Options in addition to training as configured."""

    steps: int | None = None
    overfit_batch: bool = False
    detect_anomaly: bool = False
    profile: bool = False
    judge_test: bool = False


def run(
    sweep: Sweep,
    budget: str,
    options: DebugOptions,
    console: Console,
    data_root: Path = DATA,
    *,
    key: str = "",
    runs: Path = RUNS,
) -> int:
    """Run one trial and print what it is made of, how fast it is and how it ends.

    Args:
        sweep: as understood.
        budget: parameter budget of the trial; the other axes take their first value.
        options: in addition to training as configured.
        console: where it is printed.
        data_root: folder of the datasets.
        key: of a trial of the grid, or of the search in the run's ledger, to run in place of one at `budget`.
        runs: folder of the run directories.

    Returns:
        0; 1 where the trial diverged, or a batch that was to be overfitted was not; 3 where temperature stopped it.

    Raises:
        InputError: bad input.
        InfeasibleError: the cell cannot be run honestly.
    """
    variant = _variant_of(sweep, key, data_root, runs) if key else sweep.at_budget(budget)
    cell = expand(sweep, data_root, [variant]).cells[0]
    if cell.infeasible:
        raise InfeasibleError(cell.infeasible)
    governor = LocalGovernor.open(
        sweep.settings.thermal, cell.record.device, lambda text: console.print(text, highlight=False, markup=False)
    )
    try:
        return _run_cell(sweep, cell, governor, options, console, data_root)
    except _StoppedError:
        reason = governor.gate.reason if governor is not None else ""
        console.print(f"stopped to protect the hardware: {reason}", highlight=False, markup=False)
        return STOPPED
    finally:
        if governor is not None:
            governor.close()


class _StoppedError(Exception):
    """The device is too hot, or its temperature is unknown."""


def _wait_for(gate: ThermalGate, console: Console) -> None:
    """Wait before anything touches the device."""
    said = time.monotonic()
    while (action := gate.check()) not in (Action.RUN, Action.THROTTLE):
        if action is Action.STOP:
            raise _StoppedError
        gate.wait(SLICE_S)
        if time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            console.print(f"waiting: {gate.reason}", highlight=False, markup=False)


def _run_cell(
    sweep: Sweep, cell: Cell, governor: LocalGovernor | None, options: DebugOptions, console: Console, data_root: Path
) -> int:
    device = torch.device(cell.record.device)
    if governor is not None:
        _wait_for(governor.gate, console)
    data = windows.build(catalog.load(cell.entry, data_root), cell.spec.data, cell.spec.task, device)
    spec = cell.spec
    if options.overfit_batch:
        spec, data = _one_batch(spec, data, options.steps or OVERFIT_STEPS)
    _show_cell(cell, data, console)
    gate = governor.gate if governor else NullGate()
    trainer = Trainer(spec, cell.record, data, gate=gate, store=None, judge_test=options.judge_test)
    with torch.autograd.set_detect_anomaly(options.detect_anomaly):
        return _train(trainer, options, sweep.settings.name, console)


def _variant_of(sweep: Sweep, key: str, data_root: Path, runs: Path) -> Variant:
    """The trial with a key, be it of the grid, suggested by a study, or a winner's confirmation."""
    cells = expand(sweep, data_root).cells
    for cell, variant in zip(cells, sweep.variants, strict=True):
        if cell.key == key:
            return variant
    view = ledger.read(run_paths(sweep.settings.name, runs).ledger)
    for study in of_plan(sweep, cells):
        state = study.state(view)
        for trial in state.trials:
            if trial.key == key:
                return applied(study.variants[0], {**trial.values, "training.seed": study.search.seed})
        for confirmed, variant in zip(state.confirmed, study.variants, strict=False):
            if confirmed == key and state.chosen is not None:
                return applied(variant, state.chosen[1])
    message = f"neither the grid nor the search of run {sweep.settings.name!r} has a trial {key!r}"
    raise ConfigError(Problem(place="--key", message=message, fix=f"isotherm status {sweep.settings.name} lists keys"))


def _one_batch(spec: TrialSpec, data: TrialData, steps: int) -> tuple[TrialSpec, TrialData]:
    """The trial on its first global batch alone, for one epoch of `steps` steps, without regularisation."""
    batch = min(spec.training.global_batch, len(data.train))
    same = data.train.take(torch.arange(batch, device=data.train.table.home).repeat(steps))
    training = spec.training.model_copy(update={"epochs": 1, "steps": None, "global_batch": batch, "weight_decay": 0.0})
    config = spec.model.config
    model = spec.model.model_copy(update={"config": {**config, "dropout": 0.0} if "dropout" in config else config})
    return spec.model_copy(update={"training": training, "model": model}), dataclasses.replace(data, train=same)


def _show_cell(cell: Cell, data: TrialData, console: Console) -> None:
    counts, model, record = cell.counts, cell.spec.model, cell.record
    console.print(f"trial {cell.key} ({cell.name}) on {record.device}, {cell.spec.dtype}", highlight=False)
    table = Table("split", "windows", "from", "to", "effective samples", "mean label", title="data")
    parts = {"train": data.train, "selection": data.selection, "validation": data.validation, "test": data.test}
    for name, part in parts.items():
        if part is None:
            continue
        first, last = (str(day)[:10] for day in (part.dates_N.min(), part.dates_N.max()))
        effective = str(data.effective[name].total)  # type: ignore[index]
        table.add_row(name, f"{len(part):,}", first, last, effective, f"{part.labels_N.mean().item():.4f}")
    console.print(table)
    console.print(
        f"window {model.data.context} bars x {model.data.n_features} features"
        + (f", and {model.data.n_window_stats} window statistics" if model.data.n_window_stats else "")
        + f"; a step takes {cell.spec.training.global_batch} windows as {record.accumulation} x {record.micro_batch}",
        highlight=False,
    )
    batch = data.train.batch(torch.arange(min(record.micro_batch, len(data.train)), device=data.train.table.home))
    tensors = {"windows": batch.x_BLF, "statistics": batch.stats_BS, "labels": batch.y_B}
    shapes = ", ".join(f"{name} {_shape(tensor)}" for name, tensor in tensors.items() if tensor is not None)
    console.print(f"a micro-batch: {shapes}", highlight=False)
    sizes = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in model.shape.items())
    table = Table("group", "parameters", title=f"{model.name}: {sizes}")
    for group, count in (("embedding", counts.embedding), ("blocks", counts.blocks), ("head", counts.head)):
        table.add_row(group, f"{count:,}")
    off = 100 * (counts.total / cell.target - 1)
    table.add_row("total", f"{counts.total:,} ({off:+.2f} % of the budget of {cell.target:,})")
    console.print(table)


def _shape(tensor: torch.Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"


def _train(trainer: Trainer, options: DebugOptions, name: str, console: Console) -> int:
    """Train; with a profile some steps to warm up, then some under the profiler, then the rest."""
    limit = min(options.steps or trainer.total_steps, trainer.total_steps)
    report = first = _advance(trainer, 0.0)
    _show_progress(first, console)
    report = _drive(trainer, first, min(WARM_UP_STEPS, limit), console)
    if options.profile:
        report = _profiled(trainer, report, limit, name, console)
    _show_gradients(trainer, console)
    if torch.cuda.is_available():
        console.print(f"training steps {trainer.eager or 'are one CUDA graph'}", highlight=False, markup=False)
    warm = report.step
    report = _drive(trainer, report, limit, console, seconds=0.0 if options.steps else SLICE_S)
    if options.steps and report.step > warm:
        _show_gradients(trainer, console)
    while not options.steps and not report.done:  # the last evaluations
        report = _advance(trainer, SLICE_S)
        _show_progress(report, console)
    return _show_end(trainer, first, report, options, console)


def _profiled(trainer: Trainer, warm: SliceReport, limit: int, name: str, console: Console) -> SliceReport:
    """Some steps under torch's profiler: the time of each phase, and a trace."""
    cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as profiler:
        report = _drive(trainer, warm, min(warm.step + PROFILED_STEPS, limit), console)
    if report.step > warm.step:
        _show_phases(profiler, report.step - warm.step, console)
        _write_profile(profiler, name, console)
    return report


def _show_gradients(trainer: Trainer, console: Console) -> None:
    """Norms of weights and gradients by the model's top-level modules; clipped where the whole was above the limit."""
    if trainer.model is None:
        return
    norms: dict[str, list[tuple[float, float]]] = {}
    for name, parameter in trainer.model.named_parameters():
        gradient = parameter.grad.norm().item() if parameter.grad is not None else 0.0
        norms.setdefault(name.partition(".")[0], []).append((parameter.norm().item(), gradient))
    table = Table("module", "weights", "gradient", title="L2 norms after the latest step")
    for name, pairs in norms.items():
        table.add_row(name, *(f"{math.hypot(*values):.4g}" for values in zip(*pairs, strict=True)))
    console.print(table)


def _advance(trainer: Trainer, seconds: float) -> SliceReport:
    """One slice of work.

    Raises:
        _StoppedError: the gate says so.
    """
    report = trainer.advance(seconds)
    if report.action is Action.STOP and not report.done:
        raise _StoppedError
    return report


def _drive(trainer: Trainer, last: SliceReport, until: int, console: Console, seconds: float = 0.0) -> SliceReport:
    """Train until step `until` was made or the trial is over, and show what is new; returns the last report."""
    while last.step < until and not last.done:
        report = _advance(trainer, seconds)
        if report.step > last.step or report.rows:
            _show_progress(report, console)
        last = report
    return last


def _show_phases(profiler: profile, steps: int, console: Console) -> None:
    # The host only launches what a GPU does: its own time would show all of the waiting in one phase.
    events = profiler.key_averages()
    on_gpu = any(event.device_time_total for event in events)
    head = "GPU ms a step" if on_gpu else "ms a step"
    table = Table("phase", head, title=f"step time by phase, mean of {steps} steps", min_width=44)
    totals = {event.key: (event.device_time_total if on_gpu else event.cpu_time_total) / 1000 for event in events}
    for phase in PHASES:
        table.add_row(phase, f"{totals.get(phase, 0.0) / steps:.2f}")
    console.print(table)


def _write_profile(profiler: profile, name: str, console: Console) -> None:
    folder = RUNS / f"{name}.debug"
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "trace.json"
    profiler.export_chrome_trace(str(trace))
    console.print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15), markup=False)
    console.print(f"trace {trace} (open it at ui.perfetto.dev or chrome://tracing)", highlight=False)


def _show_progress(report: SliceReport, console: Console) -> None:
    for row in report.rows:
        values = "  ".join(f"{name} {value:.4g}" for name, value in row.values.items())
        console.print(f"epoch {row.epoch}  step {row.step}/{report.total_steps}  {values}", highlight=False)
    if not report.rows and report.loss is not None:
        norm = "" if report.gradient_norm is None else f"  gradient norm {report.gradient_norm:.4g}"
        console.print(f"step {report.step}/{report.total_steps}  loss {report.loss:.4f}{norm}", highlight=False)


def _show_end(
    trainer: Trainer, first: SliceReport, report: SliceReport, options: DebugOptions, console: Console
) -> int:
    diverged = False
    if report.done:
        result = trainer.result()
        diverged = result.status == "diverged"
        console.print(f"{result.status} {result.reason}".strip(), highlight=False)
        for name, value in result.columns().items():
            if isinstance(value, float | int) and not isinstance(value, bool):
                console.print(f"  {name:<24} {value:,.6g}", highlight=False)
    if options.overfit_batch and first.loss is not None and report.loss is not None:
        vanished = report.loss < VANISHED * first.loss
        console.print(f"one batch: loss {first.loss:.4f} at the start, {report.loss:.4f} at the end", highlight=False)
        if not vanished:
            console.print(f"the loss did not fall below {VANISHED:.0%} of its start: something does not learn")
            return 1
    return 1 if diverged else 0
