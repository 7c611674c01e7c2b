"""The command `isotherm probe`: one cell, measured and shown."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from runner.config.sweep_file import Sweep, Variant
from runner.planning import execution
from runner.planning.grid import expand
from runner.probe.batch_size import Measurement
from runner.probe.request import ProbeResult
from runner.rundir.paths import DATA
from runner.terminal.console import Console
from trainables.errors import ConfigError, InfeasibleError, Problem
from trainables.schema import parse_budget

BAR_WIDTH = 30
PROBE_SECONDS = 120.0  # one cell has more time than each of a grid's
STOPS = {
    "cap": "the largest size allowed was reached",
    "plateau": "two doublings gained under 5 %",
    "memory": "the next size would not fit",
    "out_of_memory": "the last size ran out of memory",
    "time": "a larger size would take too long to measure",
    "measurements": "eight sizes were measured",
    "infeasible": "the smallest size does not fit",
    "static": "refused by arithmetic, nothing was run",
}


def run(
    sweep: Sweep,
    budget: str,
    *,
    cache_folder: Path | None,
    say: Callable[[str], None],
    data_root: Path = DATA,
) -> ProbeResult:
    """Probe the sweep's first cell at a budget, with the micro-batch free.

    Raises:
        InputError: bad input.
        InfeasibleError: the cell has too few samples.
    """
    grid = expand(sweep, data_root, [_variant(sweep, budget)])
    [cell] = grid.cells
    if cell.infeasible:
        raise InfeasibleError(cell.infeasible)
    settings = sweep.settings
    if "seconds_per_model" not in settings.probe.model_fields_set:
        probe = settings.probe.model_copy(update={"seconds_per_model": PROBE_SECONDS})
        settings = settings.model_copy(update={"probe": probe})
    asked = dataclasses.replace(execution.question(cell, settings.execution, grid.device), micro_batch=None)
    with execution.make_prober(settings, cache_folder=cache_folder, say=say, beside_a_sweep=False) as prober:
        return prober.decide(asked)


def _variant(sweep: Sweep, budget: str) -> Variant:
    try:
        parse_budget(budget)
    except ValueError as error:
        raise ConfigError(Problem(place="--budget", message=str(error))) from None
    first = sweep.variants[0]
    return dataclasses.replace(first, axes={**first.axes, "budget": budget})


def as_dict(decision: ProbeResult) -> dict[str, Any]:
    """Plain values, for ``--json``."""
    chosen, question = decision.chosen, decision.question
    return {
        "budget": question.label.partition(" ")[0],
        "n_params": question.n_params,
        "device": question.device,
        "device_name": question.device_name,
        "dtype": question.spec.dtype,
        "feasible": decision.feasible,
        "reason": decision.reason,
        "micro_batch": chosen.micro_batch if chosen else None,
        "accumulation": decision.accumulation if chosen else None,
        "global_batch": question.spec.training.global_batch,
        "activation_checkpointing": decision.activation_checkpointing,
        "peak_bytes": chosen.peak_bytes if chosen else None,
        "needed_bytes": decision.needed_bytes,
        "limit_bytes": decision.limit.bytes,
        "limit": decision.limit.what,
        "usable_bytes": decision.usable_bytes,
        "samples_per_second": chosen.samples_per_second if chosen else None,
        "seconds_per_step": chosen.seconds_per_step if chosen else None,
        "n_measured": len(decision.measured),
        "n_measured_now": decision.n_new,
        "n_oom": decision.n_oom,
        "gpu_share": decision.gpu_share if question.device == "cuda" and chosen else None,
        "threads": decision.threads,
        "trials_at_once": decision.copies,
        "samples_per_second_at_once": decision.samples_per_second,
        "disturbed": decision.disturbed,
        "seconds": decision.seconds,
        "stopped": decision.stopped,
        "measured": [dataclasses.asdict(one) for one in sorted(decision.measured, key=lambda one: one.micro_batch)],
    }


def show(decision: ProbeResult, console: Console) -> None:
    """Print a table of what was measured, and throughput and memory against the micro-batch as bars."""
    question = decision.question
    console.print(
        f"{question.label} on {question.device_name}, {question.spec.dtype}; a step takes {question.batch} windows",
        highlight=False,
    )
    console.print(
        f"limit {_gb(decision.limit.bytes)} ({decision.limit.what}), usable {_gb(decision.usable_bytes)}",
        highlight=False,
    )
    if decision.measured:
        console.print(_table(decision))
    if decision.chosen is None:
        console.print(f"does not fit: {decision.reason}", markup=False, highlight=False)
        return
    console.print(
        f"micro-batch {decision.chosen.micro_batch} x accumulation {decision.accumulation}"
        + (", with activation checkpointing" if decision.activation_checkpointing else "")
        + f": {STOPS[decision.stopped]}",
        highlight=False,
    )
    share = f", each {decision.gpu_share:g} of a GPU" if question.device == "cuda" else ""
    console.print(
        f"{decision.copies} at once with {decision.threads} threads each{share}: "
        f"{decision.copies * decision.samples_per_second:,.0f} samples/s in all",
        highlight=False,
    )
    console.print(
        f"{len(decision.measured)} sizes, {decision.n_new} measured now, {decision.n_oom} out of memory, "
        f"{decision.seconds:.1f} s",
        highlight=False,
    )
    if decision.disturbed:
        console.print(
            "Other programs kept the processors busy meanwhile: it may run faster. Measured anew after an hour, or "
            "with --no-cache.",
            highlight=False,
        )


def _table(decision: ProbeResult) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("micro-batch", "peak", "samples/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("throughput", "memory (| = usable)", "verdict"):
        table.add_column(name, no_wrap=True)
    measured = sorted(decision.measured, key=lambda one: one.micro_batch)
    fastest = max((one.samples_per_second for one in measured), default=0.0)
    widest = max(decision.usable_bytes, *(one.peak_bytes for one in measured), 1)
    mark = round(BAR_WIDTH * max(0, decision.usable_bytes) / widest)
    for one in measured:
        memory = _bar(one.peak_bytes / widest).ljust(BAR_WIDTH)
        if memory[min(mark, BAR_WIDTH - 1)] == " ":
            memory = memory[:mark] + "|" + memory[mark + 1 :]
        table.add_row(
            str(one.micro_batch),
            _gb(one.peak_bytes),
            f"{one.samples_per_second:,.1f}" if one.ok else "-",
            _bar(one.samples_per_second / fastest if fastest else 0.0),
            memory,
            _verdict(one, decision),
        )
    return table


def _bar(share: float) -> str:
    return "█" * round(BAR_WIDTH * share)


def _verdict(one: Measurement, decision: ProbeResult) -> str:
    if not one.ok:
        return f"{one.outcome.replace('_', ' ')} ({one.detail})"
    if one.peak_bytes > decision.usable_bytes:
        return "over the margin"
    return "chosen" if one == decision.chosen else "fits"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
