"""The probe for real: what it finds at each size, and trials at once against one after the other."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import torch

from benchmarks.gpu.cases import ROWS, record, trial_spec
from benchmarks.gpu.stages import Row, Setting
from runner.host.memory_limits import usable_cores
from runner.probe.child import Worker
from runner.probe.messages import Request
from runner.probe.prober import Prober
from runner.probe.request import ProbeOptions, ProbeRequest
from runner.probe.together import run_together
from trainables.schema import Dtype

N_WINDOWS = ROWS - 100


def probe(setting: Setting) -> Iterator[Row]:
    """Micro-batch, share of the memory reached, out-of-memories and seconds; sizes one after the other, not packed."""
    options = ProbeOptions(cores=usable_cores(), seconds_per_model=8.0 if setting.device == "cuda" else 1.0)
    with Prober(options) as prober:
        for size in setting.sizes:
            decision = prober.decide(_question(setting, size))
            chosen = decision.chosen
            yield {
                "budget": size,
                "micro_batch": chosen.micro_batch if chosen else None,
                "activation_checkpointing": decision.execution.activation_checkpointing,
                "reason": decision.reason,
                "stopped": decision.stopped,
                "peak_bytes": chosen.peak_bytes if chosen else None,
                "limit_bytes": decision.limit.bytes,
                "largest_share": max((one.peak_bytes for one in decision.measured), default=0) / decision.limit.bytes,
                "samples_per_second": chosen.samples_per_second if chosen else None,
                "n_oom": decision.n_oom,
                "seconds": decision.seconds,
                "measuring_seconds": sum(one.seconds for one in decision.measured),
                "measured": {one.micro_batch: [one.peak_bytes, one.samples_per_second] for one in decision.measured},
            }


def packed(setting: Setting) -> Iterator[Row]:
    """Total throughput of k trials at once, as a multiple of one alone."""
    for size in setting.small:
        spec = trial_spec(size, batch=setting.batch, dtype=_dtype(setting))
        request = Request(
            spec=spec,
            record=record(spec, torch.device(setting.device), setting.batch),
            n_rows=ROWS,
            n_windows=N_WINDOWS,
            measure_s=setting.span_s,
            crowded=True,  # one alone, too: its throughput is counted in the same way
        )
        with ExitStack() as stack:
            workers: list[Worker] = []
            alone: float | None = None
            for copies in (1, *setting.copies):
                began = time.monotonic()
                workers += [stack.enter_context(Worker()) for _ in range(copies - len(workers))]
                asked = request.model_copy(update={"device_share": 1 / copies})
                found = run_together(workers, asked, timeout_s=30, limit_bytes=None)
                total = copies * found.samples_per_second if found and found.ok else None
                alone = total if copies == 1 else alone
                yield {
                    "budget": size,
                    "copies": copies,
                    "outcome": found.outcome if found else "not comparable",
                    "samples_per_second": total,
                    "gain": total / alone if total and alone else None,
                    "seconds": time.monotonic() - began,
                }


def _question(setting: Setting, size: str) -> ProbeRequest:
    spec = trial_spec(size, batch=setting.batch, dtype=_dtype(setting))
    return ProbeRequest(
        label=size,
        spec=spec,
        record=record(spec, torch.device(setting.device), setting.batch),
        pinned=frozenset({"threads", "gpu_share"}),
        device_name="benchmark",
        n_rows=ROWS,
        n_windows=N_WINDOWS,
        n_trials=1,
    )


def _dtype(setting: Setting) -> Dtype:
    return "bf16" if setting.device == "cuda" else "fp32"
