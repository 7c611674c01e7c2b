"""The probe for anybody's own step: which micro-batch fits, and is fast."""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from runner.host.memory_limits import Limit, device_limit, host_limit
from runner.probe import batch_size
from runner.probe.batch_size import Measurement
from runner.probe.child import KILLED_TRIES, ProbeError, Worker
from runner.probe.messages import StepRequest
from trainables.errors import ConfigError, InfeasibleError, Problem


class Probe:
    """Finds the micro-batch of a training step of your own, by running it in a process of its own.

    That process imports the file of `make_step` again, so put what trains below ``if __name__ == "__main__":``.
    Nothing that runs out of memory there harms this process.

    Example::

        def make_step(micro_batch):
            model = torch.nn.Linear(100, 1).cuda()
            optimizer = torch.optim.AdamW(model.parameters())
            x = torch.randn(micro_batch, 100, device="cuda")

            def step():
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()

            return step

        best = isotherm.Probe(make_step, batch=4096).run()
        print(best.micro_batch, best.peak_bytes, best.samples_per_second)
    """

    def __init__(
        self,
        make_step: Callable[[int], Callable[[], object]],
        *,
        batch: int,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        threads: int = 1,
        margin: float = 0.1,
        memory_limit: int | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        """Describe it; nothing is run.

        Args:
            make_step: a function of a module or script; called with a micro-batch, it returns the step to be run:
                forward, backward and optimizer on that many samples. The device is its own choice.
            batch: samples of an optimizer step. Sizes tried are powers of two up to it, and itself.
            device: which memory counts; ``auto`` is ``cuda`` where PyTorch sees one.
            threads: of torch, in the measuring process.
            margin: share of the memory that stays free.
            memory_limit: in bytes, where it is to be lower than what is free now.
            timeout_s: a first step, or a measurement, that takes longer ends the search at smaller sizes.

        Raises:
            ConfigError: a function that another process cannot import, or a number out of range.
        """
        self.measured: tuple[Measurement, ...] = ()
        self._make_step, self._threads, self._timeout_s = make_step, threads, timeout_s
        self._batch, self._margin, self._memory_limit = batch, margin, memory_limit
        self._device = device
        problems = [
            Problem(place=place, message=message, fix=fix)
            for place, message, fix, wrong in (
                ("make_step", *_NOT_IMPORTABLE, not _is_importable(make_step)),
                ("batch", f"{batch} samples", "give 1 or more", batch < 1),
                ("margin", f"{margin:g} is no share", "give 0 or more, less than 1", not 0 <= margin < 1),
            )
            if wrong
        ]
        if problems:
            raise ConfigError(problems)

    def run(self) -> Measurement:
        """Measure sizes, eight at most, and return the smallest within 5 % of the best throughput of those that fit.

        Its fields are ``micro_batch``, ``peak_bytes`` of the whole process, ``seconds_per_step`` of a whole batch and
        ``samples_per_second``; all sizes that were measured are in `measured`.

        Raises:
            InfeasibleError: not even one sample fits.
            ProbeError: the step raised what is not about memory, or its process is killed again and again.
        """
        device = self._where()
        limit = self._limit(device)
        usable = int(limit.bytes * (1 - self._margin))
        with Worker() as worker:
            found = batch_size.search(
                lambda size: self._measure(worker, self._request(size, device), limit),
                batch_size.sizes(minimum=1, maximum=None, batch=self._batch),
                usable_bytes=usable,
            )
        self.measured = found.measured
        if found.chosen is None:
            one = found.measured[0]
            took = one.detail or f"{one.peak_bytes / 1e9:.2f} GB at its peak"
            words = f"a micro-batch of {one.micro_batch} does not fit ({took})"
            raise InfeasibleError(f"{words}; usable are {usable / 1e9:.2f} GB ({limit.what}, less the margin)")
        return found.chosen

    def _where(self) -> Literal["cpu", "cuda"]:
        import torch

        if self._device != "auto":
            return self._device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def _limit(self, device: Literal["cpu", "cuda"]) -> Limit:
        limit = host_limit() if device == "cpu" else device_limit()
        if self._memory_limit is not None and self._memory_limit < limit.bytes:
            return Limit(self._memory_limit, "the limit asked for")
        return limit

    def _request(self, size: int, device: Literal["cpu", "cuda"]) -> StepRequest:
        file = inspect.getsourcefile(self._make_step)
        assert file is not None, "_is_importable refuses this"
        return StepRequest(
            micro_batch=size,
            threads=self._threads,
            device=device,
            module=self._make_step.__module__,
            file=Path(file).resolve(),
            function=self._make_step.__qualname__,
            path=tuple(entry or os.getcwd() for entry in sys.path),
            batch=self._batch,
        )

    def _measure(self, worker: Worker, request: StepRequest, limit: Limit) -> Measurement:
        host_bytes = limit.bytes if request.device == "cpu" else None
        for _ in range(KILLED_TRIES):
            one = worker.ask(request, timeout_s=self._timeout_s, limit_bytes=host_bytes)
            if one.outcome != "killed":
                return one
        raise ProbeError(f"the probe's process was killed {KILLED_TRIES} times: {one.detail}")


_NOT_IMPORTABLE = "another process cannot import it", "define it with `def` at the top level of a file"


def _is_importable(function: Callable[..., object]) -> bool:
    name = getattr(function, "__qualname__", "<none>")
    if "<" in name:  # <lambda>, <locals>
        return False
    try:
        return inspect.getsourcefile(function) is not None
    except TypeError:
        return False
