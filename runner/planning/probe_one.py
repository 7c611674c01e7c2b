"""The command `isotherm probe`: one cell, measured."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.config.sweep_file import Sweep
from runner.planning import execution
from runner.planning.grid import expand
from runner.probe.request import ProbeResult
from runner.rundir.paths import DATA
from trainables.errors import InfeasibleError

PROBE_SECONDS = 120.0  # one cell has more time than each of a grid's


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
    grid = expand(sweep, data_root, [sweep.at_budget(budget)])
    [cell] = grid.cells
    if cell.infeasible:
        raise InfeasibleError(cell.infeasible)
    settings = sweep.settings
    if "seconds_per_model" not in settings.probe.model_fields_set:
        probe = settings.probe.model_copy(update={"seconds_per_model": PROBE_SECONDS})
        settings = settings.model_copy(update={"probe": probe})
    asked = execution.question(cell, settings.execution, grid.device)
    asked = dataclasses.replace(asked, pinned=asked.pinned - {"micro_batch"})
    with execution.make_prober(settings, cache_folder=cache_folder, say=say, beside_a_sweep=False) as prober:
        return prober.decide(asked)


def as_dict(decision: ProbeResult) -> dict[str, Any]:
    """Plain values, for ``--json``."""
    chosen, question, record = decision.chosen, decision.question, decision.execution
    return {
        "budget": question.label.partition(" ")[0],
        "n_params": question.n_params,
        "device": record.device,
        "device_name": question.device_name,
        "dtype": question.spec.dtype,
        "feasible": decision.feasible,
        "reason": decision.reason,
        "micro_batch": chosen.micro_batch if chosen else None,
        "accumulation": record.accumulation if chosen else None,
        "global_batch": question.spec.training.global_batch,
        "activation_checkpointing": record.activation_checkpointing,
        "devices": record.devices,
        "sharded": record.sharded,
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
        "gpu_share": record.gpu_share if record.device == "cuda" and chosen else None,
        "threads": record.threads,
        "trials_at_once": decision.copies,
        "samples_per_second_at_once": decision.samples_per_second,
        "disturbed": decision.disturbed,
        "seconds": decision.seconds,
        "stopped": decision.stopped,
        "measured": [dataclasses.asdict(one) for one in sorted(decision.measured, key=lambda one: one.micro_batch)],
    }
