"""A training step as a CUDA graph: launched as one piece of work, where single launches would keep the device waiting.

A small model's step is a thousand kernels, which a host takes longer to launch than the device to run. A graph records
them once and launches them together (docs.nvidia.com, 'CUDA C++ Programming Guide', section CUDA Graphs; Nguyen et al.
2021, 'Accelerating PyTorch with CUDA Graphs', pytorch.org/blog).

Tensor names: B windows of a batch.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.training.memory import is_out_of_memory

Step = Callable[[Tensor], Tensor]  # a batch's index_B to its loss and gradient norm, [2] on the device

# Steps before the recording: PyTorch's notes on CUDA graphs ask for some, which allocate what later steps use.
WARM_UP = 3
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}  # kernels may be chosen anew for the recording, and round otherwise


class Recorder(Protocol):
    """What records work on a device."""

    def aside(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        """Run work as recording needs it to have run before; with what in it waits for the device, or nothing."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record work: its result, a tensor that every call of the second value fills again."""


class CudaGraphs:
    """Records CUDA graphs on the current device."""

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        """One for all calls: PyTorch's allocator keeps what each stream has freed for that stream alone."""
        return torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def aside(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        """Run work on a stream of its own; PyTorch says which operation waits."""
        self._stream.wait_stream(torch.cuda.current_stream())
        before = torch.cuda.get_sync_debug_mode()
        with torch.cuda.stream(self._stream), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream().wait_stream(self._stream)
        waits = [one for one in said if "synchronizing CUDA operation" in str(one.message)]
        return result, f"{waits[0].filename}:{waits[0].lineno} waits for the device" if waits else ""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Capture; nothing runs until the graph is replayed."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                result = work()
        except RuntimeError:
            torch.cuda.set_stream(before)  # `graph` leaves its own current where the capture cannot be ended
            raise
        return result, graph.replay


class GraphedStep:
    """A training step that is recorded after a few calls and replayed from then on.

    Before it is used, the recording is compared with the step itself on two batches, neither of which changes anything.
    Where it cannot be recorded or does not agree, all steps run as they are, and `reason` says why.

    Attributes:
        batch: windows in every batch.
        reason: why the step is not replayed; empty where it is, or will be.
    """

    def __init__(
        self,
        step: Step,
        *,
        batch: int,
        model: nn.Module,
        refused: Tensor,
        n_windows: int,
        tolerance: float,
        recorder: Recorder,
    ) -> None:
        """Nothing is recorded yet.

        Args:
            step: does nothing but set gradients while `refused` is 1.
            batch: windows in every batch.
            model: whose buffers and gradients the step changes.
            refused: float32 scalar on the device.
            n_windows: positions in a batch are below it.
            tolerance: largest relative difference of loss and gradient norm between recording and step.
            recorder: of the device.
        """
        self.batch = batch
        self.reason = ""
        self._step, self._model, self._refused = step, model, refused
        self._n_windows, self._tolerance, self._recorder = n_windows, tolerance, recorder
        self._calls = 0
        self._index_B = torch.empty(0)
        self._numbers_2 = torch.empty(0)
        self._replay: Callable[[], None] | None = None

    def __call__(self, index_B: Tensor) -> Tensor:
        """Make the step over a batch."""
        self._calls += 1
        if self._calls <= WARM_UP and not self.reason:
            numbers_2, self.reason = self._recorder.aside(lambda: self._step(index_B))
            return numbers_2
        if self._replay is None and not self.reason:
            self._record(index_B)
        return self._step(index_B) if self.reason else self._replayed(index_B)

    def _replayed(self, index_B: Tensor) -> Tensor:
        assert self._replay is not None
        self._index_B.copy_(index_B)
        self._replay()
        return self._numbers_2

    def _record(self, index_B: Tensor) -> None:
        self._index_B = index_B.clone()
        try:
            with self._unchanged():
                self._numbers_2, self._replay = self._recorder.record(lambda: self._step(self._index_B))
            self.reason = self._difference(index_B) or self._difference((index_B + 1) % self._n_windows)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.reason = f"recording failed: {str(error).strip().splitlines()[0]}"
        if self.reason:
            self._replay = None

    def _difference(self, index_B: Tensor) -> str:
        """How the recording differs from the step it is of; empty where they agree."""
        recorded = [parameter.grad for parameter in self._model.parameters()]  # the recording writes to these
        with self._unchanged():
            replayed = self._replayed(index_B).tolist()
        with self._unchanged():
            expected = self._step(index_B).tolist()
        for parameter, gradient in zip(self._model.parameters(), recorded, strict=True):
            parameter.grad = gradient
        for name, got, due in zip(("loss", "gradient norm"), replayed, expected, strict=True):
            if not abs(got - due) <= self._tolerance * abs(due):
                return f"the recorded step's {name} is {got:.6g}, the step's is {due:.6g}"
        return ""

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Steps inside change neither weights nor optimizer, buffers nor random numbers."""
        refused = self._refused.clone()
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        self._refused.fill_(1.0)
        devices = [self._refused.device] if self._refused.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                yield
        finally:
            self._refused.copy_(refused)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
