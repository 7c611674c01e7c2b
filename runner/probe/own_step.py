"""A step function of the user's own, measured in the probe's worker."""

import functools
import importlib
import importlib.util
import operator
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from runner.probe.messages import StepRequest
from runner.probe.trial import MAX_STEPS, MIN_STEPS, SLOW, Timing

MODULE = "__isotherm_step__"  # name of the user's script in the worker: what it guards as ``__main__`` does not run


class OwnStep:
    """As `ProbedTrial`: `warm_up` makes and runs the first step, `measure` times more of them."""

    def __init__(self, request: StepRequest, device: torch.device) -> None:
        self._request, self._device = request, device
        self._step = make_step(request)(request.micro_batch)

    def warm_up(self) -> None:
        """Run the first step, which allocates what later ones use."""
        self._timed()

    def measure(self) -> Timing:
        """Time steps. What else runs on a host only ever slows a step, so the fastest counts."""
        began = time.monotonic()
        steps = [self._timed()]
        while sum(steps) <= SLOW * self._request.measure_s and len(steps) < MAX_STEPS:
            if len(steps) >= MIN_STEPS and sum(steps) >= self._request.measure_s:
                break
            steps.append(self._timed())
        pieces = -(-self._request.batch // self._request.micro_batch)
        return Timing(min(steps) * pieces, 0.0, (began, time.monotonic()))

    def _timed(self) -> float:
        began = time.perf_counter()
        self._step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


def make_step(request: StepRequest) -> Callable[[int], Callable[[], object]]:
    """The user's function, imported as its own process imports it."""
    sys.path[:] = request.path
    return operator.attrgetter(request.function)(_module(request.module, request.file))  # type: ignore[no-any-return]


@functools.cache
def _module(name: str, file: Path) -> object:
    if name != "__main__":
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(MODULE, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # dataclasses and pickle look the module up
    spec.loader.exec_module(module)
    return module
