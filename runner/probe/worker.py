"""The child process: builds the real model, runs the real step, reports what it took.

It speaks the lines of `runner.probe.messages` on standard input and output. The parent must expect this process to die
at any moment. It offers itself to the kernel first (``oom_score_adj``), so that no parent is killed in its place.
"""

import ctypes
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TextIO

import torch
from pydantic import TypeAdapter

from runner.host.cuda import cuda_memory
from runner.probe.batch_size import Measurement
from runner.probe.messages import GO, Request, StepRequest
from runner.probe.own_step import OwnStep
from runner.probe.trial import ProbedTrial
from trainables.errors import LostRankError, OutOfMemoryError
from trainables.parts import plugins
from trainables.training import memory
from trainables.training.optim import EagerAdamW
from trainables.training.ranks import ALONE, Leader, Ranks

RANKS_TIMEOUT_S = 100.0  # of their start; less than the parent waits for
_REQUEST: TypeAdapter[Request | StepRequest] = TypeAdapter(Request | StepRequest)


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    _offer_to_the_kernel()
    _warm_up()
    _say(answers, {"ready": os.getpid(), "idle_bytes": _resident_bytes()})
    meter = CudaMeter()

    def reached(stage: str) -> None:
        _say(answers, {stage: time.monotonic()})
        if stage == "warm" and sys.stdin.readline().strip() != GO:
            sys.exit()  # whoever asked is gone

    for line in iter(sys.stdin.readline, ""):
        try:
            request = _REQUEST.validate_json(line)
            measured = asdict(run(request, meter, reached))
        except Exception:
            _say(answers, {"error": traceback.format_exc(limit=-6)})
        else:
            _say(answers, {"measured": measured, "idle_bytes": _free(request.device)})


class CudaMeter:
    """What this process takes of the GPU beyond the allocator: the context, with its libraries and kernels.

    It is the change in the device's used memory since before the context was made, less what the allocator holds. It
    stays with the process, so a size that is measured later, with the context already there, counts it, too.
    """

    def __init__(self, used: Callable[[], int] = lambda: cuda_memory().used) -> None:
        """`used` gives the bytes of the device that are in use by anyone."""
        self._used = used
        self._before: int | None = None
        self._context = 0

    def begin(self) -> None:
        """Look at the device before the first size."""
        if self._before is None:
            self._before = self._used()

    def peak(self, peak_reserved: int, reserved: int, *, alone: bool) -> int:
        """Bytes at the peak of a size, context included.

        Args:
            peak_reserved: what the allocator held at the peak.
            reserved: what it holds now.
            alone: whether this is the only process whose use of the device changes.
        """
        if alone and self._before is not None:
            self._context = max(self._context, self._used() - self._before - reserved)
        return peak_reserved + self._context


def run(
    request: Request | StepRequest,
    meter: CudaMeter | None = None,
    reached: Callable[[str], None] = lambda stage: None,
) -> Measurement:
    """Measure one size.

    Args:
        request: what to run.
        meter: of this process; made for this size alone where none is given.
        reached: called at each stage; a measurement begins when it returns from the last one.
    """
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    meter = meter or CudaMeter()
    if device.type == "cuda":
        meter.begin()
    memory.cap_device(device, request.device_share)
    memory.reset_peak(device)
    ranks = ALONE
    try:
        ranks = _ranks(request)
        with ranks.watched():
            if not ranks.wait_until_ready(RANKS_TIMEOUT_S):
                raise LostRankError(f"the ranks did not start in {RANKS_TIMEOUT_S:g} s")
            trial = _build(request, device, ranks)
            reached("built")
            trial.warm_up()
            reached("warm")
            began = time.monotonic()
            timing = trial.measure()
            seconds = time.monotonic() - began
    except (RuntimeError, MemoryError, OutOfMemoryError) as error:
        if not isinstance(memory.typed(error), OutOfMemoryError):
            raise
        detail = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        peak = _peak(device, meter, request)
        return Measurement(micro_batch=request.micro_batch, outcome="out_of_memory", peak_bytes=peak, detail=detail)
    finally:
        ranks.close()
    return Measurement(
        micro_batch=request.micro_batch,
        outcome="ok",
        peak_bytes=_peak(device, meter, request),
        samples_per_second=request.batch / timing.seconds_per_step,
        seconds=seconds,
        **timing._asdict(),
    )


def _ranks(request: Request | StepRequest) -> Ranks:
    if isinstance(request, StepRequest) or request.record.devices == 1:
        return ALONE
    plugins.load(request.plugins)
    make = partial(ProbedTrial, request, torch.device(request.device))
    return Leader(make, request.record.devices, sharded=request.record.sharded, device=request.device)


def _build(request: Request | StepRequest, device: torch.device, ranks: Ranks) -> ProbedTrial | OwnStep:
    if isinstance(request, StepRequest):
        return OwnStep(request, device)
    plugins.load(request.plugins)
    return ProbedTrial(request, device, ranks)


def _peak(device: torch.device, meter: CudaMeter, request: Request | StepRequest) -> int:
    if device.type == "cpu":
        return memory.peak_bytes(device)
    held = torch.cuda.max_memory_reserved(device), torch.cuda.memory_reserved(device)
    return meter.peak(*held, alone=not request.crowded)


def _free(device: str) -> int:
    """Give back what the last size took, to the system, too; the resident size that is left, where it counts."""
    gc.collect()
    if device == "cuda":
        memory.give_back(torch.device(device))
        return 0
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return 0
    return _resident_bytes()


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def _warm_up() -> None:
    """Load what torch loads at its first optimizer step: every trial has it, too."""
    model = torch.nn.Linear(1, 1)
    model(torch.zeros(1, 1)).sum().backward()
    EagerAdamW(model.parameters(), fused=True).step()


def _offer_to_the_kernel() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _say(answers: TextIO, document: object) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
