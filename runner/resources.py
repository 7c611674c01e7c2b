"""What each cell of a grid is given: its execution record, from the ledger or the probe, and what that will take."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.device import Device
from runner.grid import Cell, Grid
from runner.ledger import LedgerView
from runner.needs import SWEEP_BYTES
from runner.probe.cache import Cache
from runner.probe.limits import usable_cores
from runner.probe.packing import makespan
from runner.probe.prober import Prober
from runner.probe.question import Decides, Decision, Options, Question
from runner.settings import SweepSettings, UserSettings
from trainables.schema import ExecutionRecord, ExecutionSpec

# Measured on a quickstart sweep (Ray 2.60, Linux): a trial's process peaks 0.20 to 0.28 GB above the probe's: Ray, and
# the libraries that read data and judge results.
WORKER_EXTRA_BYTES = 280_000_000
TRIAL_START_S = 1.0  # of a trial in a reused actor: data, model, predictions
EVALUATION_SHARE = 1 / 3  # a forward pass is a third of a training step's arithmetic


def cache_folder(*, use: bool = True, clear: bool = False) -> Path | None:
    """The user's folder of measurements, cleared if asked; None where it is not to be used."""
    folder = UserSettings().cache_dir
    if clear:
        Cache(folder).clear()
    return folder if use else None


def make_prober(
    settings: SweepSettings,
    *,
    cache_folder: Path | None,
    say: Callable[[str], None],
    beside_a_sweep: bool = True,
) -> Prober:
    """A prober as a sweep's settings ask for it.

    Args:
        settings: of the sweep.
        cache_folder: where measurements are kept; None remembers nothing.
        say: is told what is being measured.
        beside_a_sweep: whether the driver and Ray will need memory, too.
    """
    probe = settings.probe
    options = Options(
        margin=probe.margin,
        minimum=probe.min_micro_batch,
        maximum=probe.max_micro_batch,
        memory_limit=probe.memory_limit,
        reserve_bytes=SWEEP_BYTES if beside_a_sweep else 0,
        extra_bytes=WORKER_EXTRA_BYTES if beside_a_sweep else 0,
        cores=usable_cores(),
        seconds_per_model=probe.seconds_per_model,
        timeout_s=probe.timeout_s,
        cache_folder=cache_folder,
    )
    return Prober(options, say)


def question(cell: Cell, execution: ExecutionSpec, device: Device) -> Question:
    """What the probe is asked about a cell."""
    assert cell.sizes["n_train"] is not None
    return Question(
        label=f"{cell.labels['budget']} ({cell.counts.total:,} parameters)",
        spec=cell.spec,
        device=device.kind,
        device_name=device.name,
        n_rows=cell.entry.rows,
        n_windows=cell.sizes["n_train"],
        micro_batch=None if execution.micro_batch == "auto" else int(execution.micro_batch),
        threads=_threads(execution, device),
        gpu_share=None if execution.gpu_share == "auto" else float(execution.gpu_share),
    )


def _threads(execution: ExecutionSpec, device: Device) -> int | None:
    if execution.threads != "auto":
        return int(execution.threads)
    return None if device.kind == "cpu" else 1  # a GPU's trial waits for it: one thread feeds it


def assign(grid: Grid, view: LedgerView, settings: SweepSettings, prober: Decides | None) -> Grid:
    """Give every cell that is still to run its execution record.

    What the ledger has pinned wins. Without a prober nothing is measured.

    Raises:
        ProbeError: a measurement failed for a reason that is neither memory nor time.
    """
    return dataclasses.replace(
        grid, cells=tuple(_assigned(cell, view, settings.execution, grid.device, prober) for cell in grid.cells)
    )


def _assigned(cell: Cell, view: LedgerView, execution: ExecutionSpec, device: Device, prober: Decides | None) -> Cell:
    known = view.cells.get(cell.key)
    if known is not None and known.execution and _is_here(known.execution, device):
        return dataclasses.replace(cell, record=ExecutionRecord.model_validate(known.execution))
    if prober is None or cell.infeasible:
        return cell
    decision = prober.decide(question(cell, execution, device))
    if not decision.feasible:
        return dataclasses.replace(cell, decision=decision, infeasible=_refusal(cell, decision))
    record = decision.record(execution.checkpoint_interval_s)
    return dataclasses.replace(cell, record=record, decision=decision)


def _is_here(execution: dict[str, Any], device: Device) -> bool:
    """Whether what the ledger pinned was found on a device that is here, too."""
    if execution.get("device") != device.kind:
        return False
    if known := execution.get("accelerator"):
        return not device.accelerators or known in device.accelerators
    return len(device.accelerators) <= 1  # of several kinds of GPU it is not known which one it was


def _refusal(cell: Cell, decision: Decision) -> str:
    return f"{cell.labels['budget']} does not fit: {decision.reason}"


# ---- forecasts ---------------------------------------------------------------------------------------------------


def trial_seconds(cell: Cell) -> float | None:
    """Seconds that a trial will take from its start to its end, without early stopping; None if nothing is measured."""
    measured, n_train = cell.record.measured, cell.sizes["n_train"]
    if measured is None or not n_train:
        return None
    training = cell.spec.training
    batch = min(training.global_batch, n_train)
    steps = training.epochs * (n_train // batch)
    validation = (cell.sizes["n_selection"] or 0) + (cell.sizes["n_val"] or 0)
    evaluated = training.epochs * validation + (cell.sizes["n_test"] or 0) + n_train
    return TRIAL_START_S + measured.seconds_per_step * (steps + EVALUATION_SHARE * evaluated / batch)


def sweep_seconds(cells: tuple[Cell, ...], device: Device) -> float | None:
    """Seconds until all these cells are done, packed as they ask for, the largest first; None if one is unknown."""
    ordered = sorted(cells, key=lambda cell: cell.counts.total, reverse=True)
    seconds = [trial_seconds(cell) for cell in ordered]
    known = [one for one in seconds if one is not None]
    if len(known) < len(seconds):
        return None
    return makespan(known, [_share(cell, device) for cell in ordered], float(device.count))


def at_once(cells: Sequence[Cell], device: Device) -> list[Cell]:
    """The largest trials that can run at the same time."""
    taken: list[Cell] = []
    free = float(device.count)
    for cell in sorted(cells, key=lambda cell: cell.counts.total, reverse=True):
        share = min(_share(cell, device), float(device.count))
        if share <= free + 1e-9:
            taken.append(cell)
            free -= share
    return taken


def _share(cell: Cell, device: Device) -> float:
    """What a trial takes of the device: GPUs, or cores."""
    record = cell.record
    return record.gpu_share if device.kind == "cuda" else float(record.reserved_cores or record.threads)
