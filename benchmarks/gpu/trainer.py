"""Whole trials: where a step's time goes, temperature limits under load, and an out-of-memory on purpose."""

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.cases import record, trial_data, trial_spec
from benchmarks.gpu.stages import Row, Setting
from runner.debug import PHASES
from runner.host.cuda import cuda_visible_devices
from runner.thermal import sensors
from runner.thermal.local_gate import LocalGovernor, cuda_uuid
from runner.thermal.spec import GpuLimits, PlantSpec, ThermalSpec
from runner.tune.retry import after_out_of_memory
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training import memory
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer

STEPS = 12


def trial(setting: Setting) -> Iterator[Row]:
    """One trial of the smallest size from start to end, and its step's phases on host and device."""
    device = torch.device(setting.device)
    spec = _spec(setting, setting.trained, epochs=3)
    data = trial_data(spec, device, STEPS * setting.batch)
    trainer = Trainer(spec, record(spec, device, setting.batch), data, gate=NullGate())
    _until(trainer, 3)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if setting.device == "cuda" else [])
    with profile(activities=activities) as profiler:
        _until(trainer, 3 + STEPS // 2)
    events = {event.key: event for event in profiler.key_averages()}
    for phase in PHASES:
        if phase in events:
            yield {
                "phase": phase,
                "host_ms": events[phase].cpu_time_total / 1e3 / (STEPS // 2),
                "device_ms": events[phase].device_time_total / 1e3 / (STEPS // 2),
            }
    while not trainer.done:
        trainer.advance(1.0)
    result = trainer.result()
    seconds = result.columns().get("train_seconds")
    yield {"budget": setting.trained, "status": result.status, "steps": trainer.total_steps, "train_seconds": seconds}


def thermal(setting: Setting) -> Iterator[Row]:
    """Limits just above the temperature at rest: what the gate says while a large trial heats the device."""
    on_cuda = setting.device == "cuda"
    device = torch.device(setting.device)
    quick = PlantSpec(time_constant_s=2.0, power_watts=400.0)
    sensor_spec = ThermalSpec(sensor="nvml" if on_cuda else "plant", plant=quick)
    sensor = sensors.open_sensor(sensor_spec, setting.device, cuda_visible_devices())
    own = cuda_uuid() if on_cuda else "cpu"
    idle = max(one.celsius or 0.0 for channel, one in sensor.read(0.0).items() if channel.part == "gpu")
    limits = GpuLimits(target=idle + 3, resume=idle + 2, hold=idle + 4, stop=min(idle + 45, 95.0))
    spec = sensor_spec.model_copy(
        update={"gpu": limits, "interval_s": 0.5, "hold_samples": 1, "min_hold_s": 1.0, "hold_timeout_s": 3.0}
    )
    governor = LocalGovernor(spec, sensor, own)
    try:
        yield {"idle_celsius": idle, "hold": limits.hold, "resume": limits.resume}
        yield from _heated(setting, device, governor)
    finally:
        governor.close()


def _heated(setting: Setting, device: torch.device, governor: LocalGovernor) -> Iterator[Row]:
    spec = _spec(setting, setting.heating, epochs=1000)
    data = trial_data(spec, device, 64 * setting.batch)
    with tempfile.TemporaryDirectory() as folder:
        store = FileCheckpointStore(Path(folder), attempt=1, key=spec.key)
        trainer = Trainer(spec, record(spec, device, setting.batch), data, gate=governor.gate, store=store)
        began, last = time.monotonic(), ""
        while time.monotonic() - began < setting.thermal_s and not trainer.done:
            report = trainer.advance(0.25)
            if report.action.value != last:
                last = report.action.value
                yield {
                    "seconds": time.monotonic() - began,
                    "action": last,
                    "why": governor.gate.reason,
                    "step": report.step,
                    "allocated_bytes": torch.cuda.memory_allocated() if device.type == "cuda" else None,
                }
        yield {"seconds": time.monotonic() - began, "held_s": report.held_s, "throttled_s": report.throttled_s}


def out_of_memory(setting: Setting) -> Iterator[Row]:
    """A trial whose micro-batch no longer fits: halved until it does, resumed, and compared with an undisturbed one."""
    device = torch.device(setting.device)
    spec = _spec(setting, setting.trained, epochs=1, dropout=0.0)
    data = trial_data(spec, device, STEPS * setting.batch)
    whole = record(spec, device, setting.batch)
    calm = Trainer(spec, whole, data, gate=NullGate())
    expected = _until(calm, STEPS - 1)
    yield {"micro_batch": whole.micro_batch, "loss": expected}
    del calm  # the memory is to be limited for the next one alone
    with tempfile.TemporaryDirectory() as folder:
        first = Trainer(spec, whole, data, gate=NullGate(), store=_store(folder, 1, spec))
        _until(first, STEPS // 2)
        first.save()
        del first
        halved: ExecutionRecord | None = whole
        attempt = 1
        with _too_small(spec, data, device, setting.batch // 4):
            while halved is not None:
                attempt += 1
                again = Trainer(spec, halved, data, gate=NullGate(), store=_store(folder, attempt, spec))
                try:
                    loss = _until(again, STEPS - 1)
                except (RuntimeError, MemoryError) as error:
                    known = memory.is_out_of_memory(error)
                    yield {"micro_batch": halved.micro_batch, "known": known, "error": str(error)[:120]}
                    if not known:
                        return
                    del again
                    halved = after_out_of_memory(halved, setting.batch)
                    continue
                yield {"micro_batch": halved.micro_batch, "loss": loss, "off": abs(loss / expected - 1)}
                return


@contextmanager
def _too_small(spec: TrialSpec, data: object, device: torch.device, largest: int) -> Iterator[None]:
    """Only a step of about `largest` windows fits: CUDA's allocator is capped; on a CPU a hook says that it is full."""
    if device.type == "cuda":
        _give_back()
        torch.cuda.reset_peak_memory_stats()
        small = Trainer(spec, record(spec, device, largest), data, gate=NullGate())  # type: ignore[arg-type]
        _until(small, 2)
        cap = 1.2 * torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(device).total_memory
        del small
        _give_back()
        memory.cap_device(device, cap)
        try:
            yield
        finally:
            memory.cap_device(device, 1.0)
        return

    def full(_: object, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].dim() == 3 and len(inputs[0]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory, as a hook says")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(full)
    try:
        yield
    finally:
        hook.remove()


def _give_back() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def _store(folder: str, attempt: int, spec: TrialSpec) -> FileCheckpointStore:
    return FileCheckpointStore(Path(folder), attempt=attempt, key=spec.key)


def _spec(setting: Setting, size: str, *, epochs: int, dropout: float | None = None) -> TrialSpec:
    dtype = "bf16" if setting.device == "cuda" else "fp32"
    return trial_spec(size, batch=setting.batch, dtype=dtype, dropout=dropout, epochs=epochs)  # type: ignore[arg-type]


def _until(trainer: Trainer, step: int) -> float:
    """Train until a step; its loss."""
    while True:
        report = trainer.advance(0.0)
        if report.step >= step or report.done:
            assert report.loss is not None
            return report.loss
