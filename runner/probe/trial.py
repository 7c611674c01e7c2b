"""The trial that a worker measures: the real model, optimizer and step, on random windows of the trial's shapes.

Tensor names: B windows of a batch, T rows of the table, F features, N windows, S window statistics.
"""

import statistics
import time
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from runner.probe.messages import Request
from trainables.checkpoints.file_store import State
from trainables.data.dataset import AssetRows, Rows
from trainables.data.representation import Represented
from trainables.data.scaling import Standardizer
from trainables.data.windows import SplitIndex, Table, Windows, fits
from trainables.schema import ResolvedTask, TrialSpec
from trainables.training.graph import WARM_UP
from trainables.training.learner import Learner, Schedule
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior
from trainables.training.ranks import ALONE, Ranks
from trainables.training.step import eval_step

MAX_STEPS = 50  # timed ones; the first step, which allocates the optimizer's state, is not
MIN_STEPS = 3
SLOW = 5  # times the measuring time: one step that takes longer must do
MAX_PIECES = 64
MAX_ROWS = 100_000  # random ones, where the trial's own are mapped


class Timing(NamedTuple):
    """What timing steps gave.

    Attributes:
        seconds_per_step: one optimizer step over the global batch.
        others_cores: processors that other processes kept busy meanwhile.
        span: from the first timed step to the end of the last, in seconds of the host's monotonic clock.
    """

    seconds_per_step: float
    others_cores: float
    span: tuple[float, float]


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


class ProbedTrial:
    """A trial's model, optimizer and windows, and its steps: `warm_up` first, then `measure`.

    Of several ranks the others have one each, too, and do what rank 0 names: `build`, `pieces`, `evaluate`, `weights`.
    """

    def __init__(self, request: Request, device: torch.device, ranks: Ranks = ALONE) -> None:
        spec = request.spec
        self._request, self._device, self._ranks = request, device, ranks
        torch.set_num_threads(request.threads)
        self._windows = random_windows(spec, request.n_rows, request.n_windows, device)
        self._schedule = Schedule(spec, request.n_windows)
        self._batch = self._schedule.batch
        self._accumulation = request.record.accumulation
        self._at_optimizer = 0.0
        self._optimizer_s = 0.0  # of the latest step whose optimizer was timed
        self._pieces = min(2, self._accumulation)  # gradients and activations exist at once from the second piece on
        if ranks.rank == 0:
            self.build()

    def build(self) -> None:
        """Build model and optimizer."""
        spec, record = self._request.spec, self._request.record
        torch.manual_seed(spec.training.seed)
        loss = make_loss(spec.training, spec.task.outcome, _prior(spec.task))
        self._learner = Learner(spec, record, self._schedule, loss, self._device, ranks=self._ranks)

    def warm_up(self) -> None:
        """Make the first step, which allocates what later ones use, and choose how many pieces later ones take.

        A request for whole steps has no warm-up: its steps are what is asked for.
        """
        if self._request.steps is not None:
            self._pieces = self._accumulation
            return
        hook = self._learner.optimizer.register_step_pre_hook(self._before_optimizer)
        first = self._timed()
        if self._accumulation > 2:
            # Copies at once run for a given time, in several steps; of one alone each step may take the measuring time.
            step_s = self._request.measure_s / (MIN_STEPS if self._request.crowded else 1)
            affordable = int(step_s * self._pieces / first.total)
            self._pieces = max(2, min(affordable, self._accumulation, MAX_PIECES))
        if not self._learner.eager:
            self._timed()  # the first step's optimizer made its state, too
            hook.remove()  # it waits for the device, which a recording does not allow
            for _ in range(WARM_UP + 1):
                self.step()
            self._wait()

    def measure(self) -> Timing:
        """Time steps, over as many pieces as there is time for, and evaluate a micro-batch."""
        best = self.weights()  # the best weights so far are kept in addition to the live ones
        others, began = _Others(), time.monotonic()
        steps = self._repeat()
        span, others_cores = (began, time.monotonic()), others.cores()
        self.evaluate()
        del best
        # What else runs on a host only ever slows a step, so sizes are compared by their fastest; what runs at the same
        # time on purpose is part of what is asked, and its throughput is steps over time.
        typical = statistics.fmean if self._request.crowded else min
        pieces_s = typical([step.pieces for step in steps]) / self._pieces
        seconds = pieces_s * self._accumulation + typical([step.optimizer for step in steps])
        return Timing(seconds, others_cores, span)

    def _repeat(self) -> list[_Seconds]:
        if self._request.steps is not None:
            return [self._timed() for _ in range(self._request.steps)]
        steps = [self._timed()]
        spent, measure_s = steps[0].total, self._request.measure_s
        # Copies that are measured together all go on for the whole time: one that ends early flatters the others.
        most = float("inf") if self._request.crowded else MAX_STEPS
        while spent <= SLOW * measure_s and len(steps) < most:
            if len(steps) >= MIN_STEPS and spent >= measure_s:
                break
            steps.append(self._timed())
            spent += steps[-1].total
        return steps

    def _timed(self) -> _Seconds:
        self._at_optimizer = 0.0
        started = time.perf_counter()
        self.step()
        self._wait()
        ended = time.perf_counter()
        if self._at_optimizer:
            self._optimizer_s = ended - self._at_optimizer
        return _Seconds(max(0.0, ended - started - self._optimizer_s), self._optimizer_s)

    def _before_optimizer(self, *_: Any) -> None:
        self._wait()
        self._at_optimizer = time.perf_counter()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def step(self) -> None:
        """One optimizer step over the pieces that fit into the measuring time."""
        self.pieces(min(self._pieces * self._request.micro_batch * self._ranks.size, self._batch))

    def pieces(self, size: int) -> None:
        """One optimizer step over so many windows."""
        self._ranks.tell("pieces", size)
        index_B = torch.arange(size, device=self._windows.table.home) % len(self._windows)
        self._learner.make(self._windows, index_B)

    @property
    def eager(self) -> str:
        """Why steps are not a CUDA graph; empty where they are, or will be."""
        return self._learner.eager

    def evaluate(self) -> None:
        """Outputs of one micro-batch on each rank."""
        self._ranks.tell("evaluate")
        index_B = torch.arange(self._request.micro_batch, device=self._windows.table.home) % len(self._windows)
        eval_step(self._learner.model, self._windows, index_B, dtype=self._request.spec.dtype)

    def weights(self) -> State:
        """A copy of the model's state on the CPU of rank 0."""
        return self._learner.weights()


def _prior(task: ResolvedTask) -> Prior:
    """Of labels as the random windows have them."""
    return Prior(0.5, 0.25, (1 / task.n_classes,) * task.n_classes if task.n_classes else ())


def random_windows(spec: TrialSpec, n_rows: int, n_windows: int, device: torch.device) -> Windows:
    """Windows of the trial's shapes; their values do not matter to time or memory."""
    shape = spec.model.data
    random = np.random.default_rng(0)
    n_rows = max(n_rows, shape.context + 1)
    if not fits(4 * n_rows * shape.n_features, device):  # the trial's own is mapped, and no part of its memory
        n_rows, n_windows = min(n_rows, MAX_ROWS + shape.context), min(n_windows, MAX_ROWS)
    values_TF = random.standard_normal((n_rows, shape.n_features), dtype=np.float32)
    ends_N = np.arange(n_windows) % (n_rows - shape.context + 1) + shape.context - 1
    labels_N = random.integers(spec.task.n_classes or 2, size=len(ends_N)).astype(np.float64)
    dates_T = np.arange(n_rows).astype("datetime64[ns]")
    index = SplitIndex(ends_N, labels_N, Rows(dates_T, (AssetRows("", 0, n_rows),)), dates_T, n_windows)
    standard = None
    if spec.data.scaling in ("zscore", "revin"):
        width = shape.n_window_stats or shape.n_features
        standard = Standardizer(np.zeros(width), np.ones(width))
    revin = spec.data.scaling == "revin"
    one_TF = np.broadcast_to(np.float32(1), values_TF.shape)
    data = Represented(values_TF, one_TF, one_TF, np.ones(n_rows, dtype=bool))
    return Windows(Table(data, shape.context, device, standard, revin=revin), index)
