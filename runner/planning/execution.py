"""What each cell of a grid is given: its execution record, from the ledger or the probe, and what that will take."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.config.settings import SweepSettings, UserSettings
from runner.host.device import Device
from runner.host.footprint import SWEEP_BYTES
from runner.host.memory_limits import usable_cores
from runner.planning.grid import Cell, Grid
from runner.probe.cache import Cache
from runner.probe.packing import Kind, gpu_share, makespan, spread
from runner.probe.prober import Prober
from runner.probe.request import Decides, ProbeOptions, ProbeRequest, ProbeResult
from runner.rundir.ledger import LedgerView
from trainables.errors import LedgerError
from trainables.parts import plugins
from trainables.schema import ExecutionRecord, ExecutionSpec

# Measured on a quickstart sweep (Ray 2.60, Linux): a trial's process peaks 0.20 to 0.28 GB above the probe's: Ray, and
# the libraries that read data and judge results.
WORKER_EXTRA_BYTES = 280_000_000
TRIAL_START_S = 1.0  # of a trial in a reused actor: data, model, predictions
# Of a record, by the probe where the sweep file says `auto`.
CHOSEN = {"micro_batch": "micro_batch", "threads": "threads", "gpu_share": "gpu_share", "devices": "devices_per_trial"}
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
        say: called with what is being measured.
        beside_a_sweep: whether the driver and Ray will need memory, too.
    """
    probe = settings.probe
    options = ProbeOptions(
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


def question(
    cell: Cell, execution: ExecutionSpec, device: Device, n_trials: int | None = None, n_alike: int = 1
) -> ProbeRequest:
    """What the probe is asked about a cell, of so many trials that are to run, and so many that run as this one."""
    assert cell.sizes["n_train"] is not None
    return ProbeRequest(
        label=f"{cell.labels['budget']} ({cell.counts.total:,} parameters)",
        spec=cell.spec,
        record=cell.record,
        pinned=frozenset(name for name, asked in CHOSEN.items() if getattr(execution, asked) != "auto"),
        most_devices=device.count if device.kind == "cuda" or execution.devices_per_trial != "auto" else 1,
        device_name=device.name,
        n_rows=cell.entry.rows,
        n_windows=cell.sizes["n_train"],
        n_trials=n_trials,
        n_alike=n_alike,
        plugins=plugins.loaded(),
        parts=cell.parts,
    )


def assign(grid: Grid, view: LedgerView, settings: SweepSettings, prober: Decides | None) -> Grid:
    """Give every cell that is still to run its execution record.

    What the ledger has pinned wins. Without a prober nothing is measured.

    Raises:
        ProbeError: a measurement failed for a reason that is neither memory nor time.
    """
    records = [_pinned(cell, view, grid.device) for cell in grid.cells]
    to_run = [cell for cell in grid.cells if not cell.infeasible and not _is_final(cell, view)]
    alike = Counter(_shape(cell) for cell in to_run)

    def assigned(cell: Cell, record: ExecutionRecord | None) -> Cell:
        if record is not None:
            return dataclasses.replace(cell, record=record)
        if prober is None or cell.infeasible:
            return cell
        decision = prober.decide(question(cell, settings.execution, grid.device, len(to_run), alike[_shape(cell)]))
        if not decision.feasible:
            return dataclasses.replace(cell, decision=decision, infeasible=_refusal(cell, decision))
        return _decided(cell, decision)

    cells = [assigned(cell, record) for cell, record in zip(grid.cells, records, strict=True)]
    return dataclasses.replace(grid, cells=tuple(_spread(cells, grid.device)))


def _pinned(cell: Cell, view: LedgerView, device: Device) -> ExecutionRecord | None:
    known = view.cells.get(cell.key)
    if known is None or not known.execution or not _is_here(known.execution, device):
        return None
    return pinned(cell.key, known.execution)


def _is_final(cell: Cell, view: LedgerView) -> bool:
    return cell.key in view.cells and view.cells[cell.key].final


def _shape(cell: Cell) -> tuple[Any, ...]:
    """Cells of one shape are answered by one measurement, or nearly the same."""
    training = cell.spec.training
    steps = training.total_steps(cell.sizes["n_train"] or 1)
    return cell.spec.model.model_dump_json(), training.global_batch, steps


def _decided(cell: Cell, decision: ProbeResult) -> Cell:
    return dataclasses.replace(cell, record=decision.record, decision=decision)


def _spread(cells: list[Cell], device: Device) -> list[Cell]:
    """Larger shares of the GPUs where there are fewer trials than could be packed: all GPUs get their part.

    Shares that are pinned stay. So do those in a cluster with several kinds of GPU, where each trial has its kind.
    """
    packed = [cell for cell in cells if cell.decision is not None and cell.decision.totals and not cell.infeasible]
    if device.kind != "cuda" or len(device.accelerators) > 1 or not packed:
        return cells
    packed = longest_first(packed)  # as they are started
    kinds = [_kind(cell) for cell in packed]
    cores = device.count * kinds[0].cores * kinds[0].most if device.accelerators else usable_cores()
    copies = dict(zip((cell.key for cell in packed), spread(kinds, device.count, cores), strict=True))
    return [_shared(cell, copies[cell.key]) if cell.key in copies else cell for cell in cells]


def _kind(cell: Cell) -> Kind:
    decision = cell.decision
    assert decision is not None
    one = decision.question
    windows = one.spec.training.total_steps(one.n_windows) * one.batch
    return Kind(1, windows, dict(decision.totals), decision.execution.reserved_cores)


def _shared(cell: Cell, copies: int) -> Cell:
    decision, rate = cell.decision, _kind(cell).total(copies) / copies
    assert decision is not None
    execution = decision.execution.model_copy(update={"gpu_share": gpu_share(copies)})
    return _decided(cell, dataclasses.replace(decision, copies=copies, execution=execution, samples_per_second=rate))


def pinned(key: str, execution: dict[str, Any]) -> ExecutionRecord:
    """The execution record that a ledger holds for a key.

    Raises:
        LedgerError: it is none.
    """
    try:
        return ExecutionRecord.model_validate(execution)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise LedgerError(
            f"key {key}: the ledger's execution record has a wrong {where} ({first['msg']})\n"
            "    fix: restore the ledger from a copy, or run the sweep under another name"
        ) from error


def _is_here(execution: dict[str, Any], device: Device) -> bool:
    """Whether what the ledger pinned was found on a device that is here, too."""
    if execution.get("device") != device.kind or execution.get("devices", 1) > device.count:
        return False
    if known := execution.get("accelerator"):
        return not device.accelerators or known in device.accelerators
    return len(device.accelerators) <= 1  # of several kinds of GPU it is not known which one it was


def _refusal(cell: Cell, decision: ProbeResult) -> str:
    return f"{cell.labels['budget']} does not fit: {decision.reason}"


# ---- forecasts ---------------------------------------------------------------------------------------------------


def trial_seconds(cell: Cell) -> float | None:
    """Seconds that a trial will take from its start to its end, without early stopping; None if nothing is measured."""
    measured, n_train = cell.record.measured, cell.sizes["n_train"]
    if measured is None or not n_train:
        return None
    training = cell.spec.training
    batch = min(training.global_batch, n_train)
    steps = training.total_steps(n_train)
    validation = (cell.sizes["n_selection"] or 0) + (cell.sizes["n_val"] or 0)
    evaluated = training.epochs * validation + (cell.sizes["n_test"] or 0) + n_train
    return TRIAL_START_S + measured.seconds_per_step * (steps + EVALUATION_SHARE * evaluated / batch)


def longest_first(cells: Sequence[Cell]) -> list[Cell]:
    """Cells in the order in which they are started, so that no long trial runs alone at the end.

    By the seconds that they are expected to take; where one was not measured, by parameters. Of equal ones the first
    in the grid is first.
    """
    seconds = [trial_seconds(cell) for cell in cells]
    lengths = [float(cell.counts.total) for cell in cells] if None in seconds else [one or 0.0 for one in seconds]
    order = sorted(range(len(cells)), key=lambda place: lengths[place], reverse=True)
    return [cells[place] for place in order]


def sweep_seconds(cells: tuple[Cell, ...], device: Device, shares: Sequence[float] = ()) -> float | None:
    """Seconds until all these cells are done, packed as they ask for, the longest first; None if one is unknown.

    `shares` says how much of each is trained, where some end early.
    """
    seconds = [trial_seconds(cell) for cell in cells]
    parts = shares or [1.0] * len(cells)
    known = [(one * part, share(cell, device)) for one, part, cell in zip(seconds, parts, cells, strict=True) if one]
    if len(known) < len(cells):
        return None
    known.sort(key=lambda pair: pair[0], reverse=True)
    return makespan([one for one, _ in known], [taken for _, taken in known], float(device.count))


def at_once(cells: Sequence[Cell], device: Device) -> list[Cell]:
    """The largest trials that can run at the same time."""
    taken: list[Cell] = []
    free = float(device.count)
    for cell in sorted(cells, key=lambda cell: cell.counts.total, reverse=True):
        taken_by_it = min(share(cell, device), float(device.count))
        if taken_by_it <= free + 1e-9:
            taken.append(cell)
            free -= taken_by_it
    return taken


def share(cell: Cell, device: Device) -> float:
    """What a trial takes of the device: GPUs, or cores."""
    record = cell.record
    return record.gpu_share * record.devices if device.kind == "cuda" else float(record.cores)
