"""Time of a step at each size, with and without a CUDA graph; how long the device works, and how near to its peak."""

import itertools
import time
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.cases import ROWS, record, trial_spec
from benchmarks.gpu.stages import Row, Setting
from runner.probe.messages import Request
from runner.probe.trial import ProbedTrial
from trainables.models import registry
from trainables.schema import TrialSpec
from trainables.training.graph import WARM_UP

MATMUL = 8192
PROFILED = 3
COUNTED = 4  # windows in the pass whose FLOPs are counted


def steps(setting: Setting) -> Iterator[Row]:
    """Milliseconds, the host's gap, model FLOPs against what a large product of matrices reaches here."""
    device = torch.device(setting.device)
    dtype = "bf16" if setting.device == "cuda" else "fp32"
    peak = _matmul_flops(setting, device)
    yield {"matmul_tflops": peak / 1e12, "size": MATMUL if setting.device == "cuda" else 256, "dtype": dtype}
    for size, cuda_graph in itertools.product(setting.sizes, (False, True) if device.type == "cuda" else (False,)):
        spec = trial_spec(size, batch=setting.batch, dtype=dtype)  # type: ignore[arg-type]
        request = Request(
            spec=spec,
            record=record(spec, device, setting.batch).model_copy(update={"cuda_graph": cuda_graph}),
            n_rows=ROWS,
            n_windows=1000,
        )
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trial = ProbedTrial(request, device)
        for _ in range(WARM_UP + 1):
            trial.step()
        seconds = _typical(trial.step, device, setting.span_s)
        busy, launches = _device_seconds(trial.step, device)
        flops = _flops(spec, device) * setting.batch
        yield {
            "budget": size,
            "cuda_graph": cuda_graph and not trial.eager,
            "eager_because": trial.eager,
            "step_ms": 1e3 * seconds,
            "samples_per_second": setting.batch / seconds,
            "device_ms": None if busy is None else 1e3 * busy,
            "host_gap": None if busy is None else max(0.0, 1 - busy / seconds),
            "launches": launches,
            "mfu": flops / seconds / peak,
            "peak_bytes": torch.cuda.max_memory_reserved() if device.type == "cuda" else None,
        }
        del trial
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _typical(work: Callable[[], None], device: torch.device, span_s: float) -> float:
    """Median seconds of one call."""
    seconds: list[float] = []
    while sum(seconds) < span_s or len(seconds) < 3:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2]


def _device_seconds(work: Callable[[], None], device: torch.device) -> tuple[float | None, int | None]:
    """Seconds that kernels ran in one call, and how many; None on a CPU."""
    if device.type != "cuda":
        return None, None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(PROFILED):
            work()
        _wait(device)
    kernels = [one for one in profiler.key_averages() if one.self_device_time_total > 0]
    return (
        sum(one.self_device_time_total for one in kernels) / 1e6 / PROFILED,
        sum(one.count for one in kernels) // PROFILED,
    )


def _flops(spec: TrialSpec, device: torch.device) -> float:
    """Of forward and backward of one window."""
    with device:
        model = registry.build(spec.model)
    x_BLF = torch.zeros(COUNTED, spec.model.data.context, spec.model.data.n_features, device=device)
    with FlopCounterMode(display=False) as counter:
        model(x_BLF, None).sum().backward()
    return counter.get_total_flops() / COUNTED


def _matmul_flops(setting: Setting, device: torch.device) -> float:
    """FLOP/s of a large product of matrices: what can be reached on this device at this moment."""
    size, dtype = (MATMUL, torch.bfloat16) if device.type == "cuda" else (256, torch.float32)
    one = torch.randn(size, size, device=device, dtype=dtype)
    seconds = _typical(lambda: torch.mm(one, one), device, setting.span_s / 4)  # type: ignore[arg-type,return-value]
    return 2 * size**3 / seconds
