"""The child process: builds the real model, runs the real step, answers what it took.

One JSON document a line, on standard input and output. The parent must expect this process to die at any moment: an
out-of-memory kill here is an answer there. It offers itself to the kernel first (``oom_score_adj``), so that no parent
is killed in its place.

Tensor names: B windows of a batch, T rows of the table, F features, N windows, S window statistics.
"""

import ctypes
import gc
import json
import os
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import numpy as np
import psutil
import torch

from runner.probe.devices import cuda_memory
from trainables.data.scaling import WindowMoments
from trainables.data.windows import SplitIndex, Windows
from trainables.parts import Plugin, plugins
from trainables.schema import ExecutionRecord, Spec, TrialSpec
from trainables.training import memory
from trainables.training.learner import Learner, Schedule
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior
from trainables.training.step import eval_step, train_step

MAX_STEPS = 50  # timed ones; the first step, which allocates the optimizer's state, is not
MIN_STEPS = 3
SLOW = 5  # times the measuring time: one step that takes longer must do
MAX_PIECES = 64


class Request(Spec):
    """What to run.

    Attributes:
        spec: the trial; its data are replaced by random windows of the same shape.
        n_rows, n_windows: size of the table and of the training split.
        measure_s: about how long to time steps, after the first.
        steps: run this many whole steps instead, at the true accumulation; for checks under a real limit.
        device_share: largest share of the GPU's memory that this process may take.
        crowded: other trials run beside it on purpose.
        plugins: loaded first.
    """

    spec: TrialSpec
    n_rows: int
    n_windows: int
    micro_batch: int
    threads: int
    device: Literal["cpu", "cuda"]
    activation_checkpointing: bool = False
    measure_s: float = 0.5
    steps: int | None = None
    device_share: float = 1.0
    crowded: bool = False
    plugins: tuple[Plugin, ...] = ()


class Answer(Spec):
    """What it took.

    Attributes:
        outcome: ``ok``, or ``out_of_memory`` where torch said so.
        peak_bytes: CPU: peak resident size of this process. CUDA: change in the device's used memory, context included.
        allocated_bytes, reserved_bytes: peaks of the CUDA allocator; 0 on a CPU.
        seconds_per_step: one optimizer step over the global batch.
        idle_bytes: resident size of this process once everything was freed.
        others_cores: processors of the host that other processes kept busy while steps were timed.
    """

    outcome: Literal["ok", "out_of_memory"]
    peak_bytes: int
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    seconds_per_step: float = 0.0
    idle_bytes: int = 0
    others_cores: float = 0.0
    detail: str = ""


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    _offer_to_the_kernel()
    _warm_up()
    _say(answers, {"ready": os.getpid()})
    for line in sys.stdin:
        try:
            answer = run(Request.model_validate_json(line))
        except Exception:
            _say(answers, {"error": traceback.format_exc(limit=-6)})
        else:
            _say(answers, answer.model_dump())


def run(request: Request) -> Answer:
    """Measure one size."""
    plugins.load(request.plugins)
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    before = cuda_memory().used if device.type == "cuda" else 0
    memory.cap_device(device, request.device_share)
    memory.reset_peak(device)
    try:
        seconds, others_cores = _Trial(request, device).measure()
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        return Answer(
            outcome="out_of_memory", peak_bytes=_peak(device, before), detail=str(error).splitlines()[0][:300]
        )
    peak = _peak(device, before)
    on_cuda = device.type == "cuda"
    answer = Answer(
        outcome="ok",
        peak_bytes=peak,
        allocated_bytes=torch.cuda.max_memory_allocated(device) if on_cuda else 0,
        reserved_bytes=torch.cuda.max_memory_reserved(device) if on_cuda else 0,
        seconds_per_step=seconds,
        others_cores=others_cores,
    )
    return answer.model_copy(update={"idle_bytes": _free(device)})


class _Seconds(NamedTuple):
    """One step: its pieces, and the optimizer."""

    pieces: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.pieces + self.optimizer


class _Others:
    """Processor time of the host that other processes take, from now on; what a hypervisor withholds is counted."""

    def __init__(self) -> None:
        self._since, self._busy, self._own = time.monotonic(), self._host_busy(), time.process_time()

    def cores(self) -> float:
        """Processors that others kept busy, on average."""
        others_s = self._host_busy() - self._busy - (time.process_time() - self._own)
        return max(0.0, others_s / max(time.monotonic() - self._since, 1e-3))

    @staticmethod
    def _host_busy() -> float:
        # A guest's time is part of user's.
        resting = {"idle", "iowait", "guest", "guest_nice"}
        return float(sum(value for name, value in psutil.cpu_times()._asdict().items() if name not in resting))


class _Trial:
    """A trial's model, optimizer and windows, and its steps."""

    def __init__(self, request: Request, device: torch.device) -> None:
        spec = request.spec
        self._request, self._device = request, device
        torch.manual_seed(spec.training.seed)
        self._windows = _random_windows(request, device)
        self._schedule = Schedule(spec, request.n_windows)
        self._batch = self._schedule.batch
        self._accumulation = -(-self._batch // request.micro_batch)
        self._loss = make_loss(spec.training, spec.task.kind, Prior(0.5, 0.25))
        record = ExecutionRecord(
            micro_batch=request.micro_batch,
            accumulation=self._accumulation,
            threads=request.threads,
            device=request.device,
            activation_checkpointing=request.activation_checkpointing,
            checkpoint_interval_s=1.0,
        )
        self._learner = Learner(spec, record, self._schedule, self._loss, device)
        # The step waits for the device before it calls the optimizer (it looks at the gradient's norm): a clear cut.
        self._at_optimizer: list[float] = []
        self._learner.optimizer.register_step_pre_hook(lambda *_: self._at_optimizer.append(time.perf_counter()))

    def measure(self) -> tuple[float, float]:
        """Seconds of a step over the global batch, and processors that others kept busy meanwhile.

        The seconds are taken from steps over as many pieces as there is time for.
        """
        if self._request.steps is not None:
            return [self._timed(self._accumulation) for _ in range(self._request.steps)][-1].total, 0.0
        pieces = min(2, self._accumulation)  # gradients stand beside activations from the second piece on
        first = self._timed(pieces)
        best = self._learner.weights()  # the best weights so far are kept beside the live ones
        if self._accumulation > 2:
            affordable = int(self._request.measure_s * pieces / first.total)
            pieces = max(2, min(affordable, self._accumulation, MAX_PIECES))
        others = _Others()
        steps = self._repeat(pieces)
        others_cores = others.cores()
        # What else runs on a host only ever slows a step, so sizes are compared by their fastest; what runs beside a
        # trial on purpose is part of what is asked.
        typical = statistics.median if self._request.crowded else min
        self._evaluate()
        del best
        pieces_s = typical(step.pieces for step in steps) / pieces
        return pieces_s * self._accumulation + typical(step.optimizer for step in steps), others_cores

    def _repeat(self, pieces: int) -> list["_Seconds"]:
        steps = [self._timed(pieces)]
        slow = steps[0].total > SLOW * self._request.measure_s
        while not slow and len(steps) < MAX_STEPS:
            if len(steps) >= MIN_STEPS and sum(step.total for step in steps) >= self._request.measure_s:
                break
            steps.append(self._timed(pieces))
        return steps

    def _timed(self, pieces: int) -> "_Seconds":
        self._at_optimizer.clear()
        started = time.perf_counter()
        self._step(pieces)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        ended, [middle] = time.perf_counter(), self._at_optimizer
        return _Seconds(middle - started, ended - middle)

    def _step(self, pieces: int) -> None:
        size = min(pieces * self._request.micro_batch, self._batch)
        index_B = torch.arange(size, device=self._device) % len(self._windows)
        training = self._request.spec.training
        train_step(
            self._learner.model,
            self._learner.optimizer,
            self._windows,
            index_B,
            micro_batch=self._request.micro_batch,
            loss=self._loss,
            clip=training.clip,
            dtype=self._request.spec.dtype,
            step=0,
        )

    def _evaluate(self) -> None:
        index_B = torch.arange(self._request.micro_batch, device=self._device) % len(self._windows)
        eval_step(self._learner.model, self._windows, index_B, dtype=self._request.spec.dtype)


def _random_windows(request: Request, device: torch.device) -> Windows:
    """Windows of the trial's shapes; their values do not matter to time or memory."""
    shape = request.spec.model.data
    random = np.random.default_rng(0)
    n_rows = max(request.n_rows, shape.context + 1)
    values_TF = torch.from_numpy(random.standard_normal((n_rows, shape.n_features), dtype=np.float32)).to(device)
    ends_N = np.arange(request.n_windows) % (n_rows - shape.context + 1) + shape.context - 1
    index = SplitIndex(
        ends_N=ends_N,
        labels_N=(random.random(len(ends_N)) < 0.5).astype(np.float64),
        dates_N=np.zeros(len(ends_N), dtype="datetime64[ns]"),
        assets_N=np.full(len(ends_N), "", dtype=np.str_),
        bars_N=ends_N,
    )
    moments = None
    if request.spec.data.scaling == "revin":
        zeros_NF = np.zeros((len(ends_N), shape.n_features))
        moments = WindowMoments(zeros_NF, zeros_NF + 1, np.zeros((len(ends_N), shape.n_window_stats)))
    return Windows(values_TF, index, shape.context, moments)


def _peak(device: torch.device, before: int) -> int:
    if device.type == "cpu":
        return memory.peak_bytes(device)
    return max(torch.cuda.max_memory_reserved(device), cuda_memory().used - before)


def _free(device: torch.device) -> int:
    """Give back what the last size took, to the system, too; the resident size that is left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return 0
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def _warm_up() -> None:
    """Load what torch loads at its first optimizer step (about a second and 100 MB): every trial has it, too."""
    model = torch.nn.Linear(1, 1)
    model(torch.zeros(1, 1)).sum().backward()
    torch.optim.AdamW(model.parameters(), fused=True).step()


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
